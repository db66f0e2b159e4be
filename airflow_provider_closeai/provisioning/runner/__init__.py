"""Does the I/O of all writes: reads, sends, waits and notes as decided, by the client's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

if TYPE_CHECKING:
    from airflow_provider_closeai.provisioning.runner.creating import create, create_all
    from airflow_provider_closeai.provisioning.runner.deleting import Record, delete
    from airflow_provider_closeai.provisioning.runner.repricing import reprice
    from airflow_provider_closeai.provisioning.runner.rotating import Rotation, rotate
    from airflow_provider_closeai.provisioning.runner.tries import Try

__all__ = ["Record", "Rotation", "Try", "create", "create_all", "delete", "reprice", "rotate"]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, __all__, "tries", "creating", "deleting", "repricing", "rotating")
