"""Where new keys go: ``CreateSubAccountsOperator(deliver_to=...)``.

The names here are the public ones; all modules beneath are internal (docs/stability.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
_MODULES = {"EncryptedFileSink": "file", "SecretsManagerSink": "aws", "VaultSink": "vault"}


def __getattr__(name: str) -> Any:
    """Import on first use: a DAG file pays for no other sink than its own."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "base")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
