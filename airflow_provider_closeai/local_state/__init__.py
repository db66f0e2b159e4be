"""What outlives a process: this user's private folder on this host, with its locks and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

if TYPE_CHECKING:
    from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock
    from airflow_provider_closeai.local_state.folder import private_directory
    from airflow_provider_closeai.local_state.locks import lock
    from airflow_provider_closeai.local_state.stores import FileStore, Store

__all__ = ["SYSTEM_CLOCK", "Clock", "FileStore", "Store", "lock", "private_directory"]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(__name__, __all__, "clock", "folder", "locks", "stores")
