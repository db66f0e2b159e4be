"""Where new keys go: ``CreateSubAccountsOperator(deliver_to=...)``.

Only the names here are public; all modules of this package are internal (docs/stability.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

if TYPE_CHECKING:
    from airflow_provider_closeai.sinks.aws import SecretsManagerSink
    from airflow_provider_closeai.sinks.base import BulkTokenSink, DatedTokenSink, DeliveryFailed, TokenSink
    from airflow_provider_closeai.sinks.file import EncryptedFileSink
    from airflow_provider_closeai.sinks.vault import VaultSink

__all__ = [
    "BulkTokenSink",
    "DatedTokenSink",
    "DeliveryFailed",
    "EncryptedFileSink",
    "SecretsManagerSink",
    "TokenSink",
    "VaultSink",
]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, __all__, "file", "aws", "vault", "base")
