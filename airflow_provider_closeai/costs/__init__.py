"""Costs that finance can defend: snapshots of counters in a ledger, and reports of months from it.

The names here are the public ones; all modules beneath are internal (docs/stability.md). ``store``
has the ledger's files, ``accounting`` makes a report of observations, ``render`` makes files of a report,
``service`` joins them, ``notes`` books by hand.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.costs.accounting.report_model import Report
    from airflow_provider_closeai.costs.errors import (
        CloseRefused,
        CurrencyConflict,
        DamagedFile,
        MissingLibrary,
        NoObservation,
        NothingToDo,
        NotifierFailed,
        NotRead,
        NotWritten,
        SnapshotRefused,
        TooLate,
        TooManyDigits,
    )
    from airflow_provider_closeai.costs.notes import record_control_difference, record_note
    from airflow_provider_closeai.costs.requests import (
        CloseRequest,
        DeletionRequest,
        NoteRequest,
        ReportRequest,
        Run,
        SnapshotRequest,
    )
    from airflow_provider_closeai.costs.results import ReportResult, SnapshotResult
    from airflow_provider_closeai.costs.service import (
        close,
        compute,
        record_deleted,
        report,
        snapshot,
    )
    from airflow_provider_closeai.costs.store.ledger import Ledger, run_key

__all__ = [
    "CloseRefused",
    "CloseRequest",
    "CurrencyConflict",
    "DamagedFile",
    "DeletionRequest",
    "Ledger",
    "MissingLibrary",
    "NoObservation",
    "NotRead",
    "NotWritten",
    "NoteRequest",
    "NothingToDo",
    "NotifierFailed",
    "Report",
    "ReportRequest",
    "ReportResult",
    "Run",
    "SnapshotRefused",
    "SnapshotRequest",
    "SnapshotResult",
    "TooLate",
    "TooManyDigits",
    "close",
    "compute",
    "record_control_difference",
    "record_deleted",
    "record_note",
    "report",
    "run_key",
    "snapshot",
]
_FUNCTIONS = ("close", "compute", "record_deleted", "report", "snapshot")
_MODULES = {
    **dict.fromkeys(_FUNCTIONS, "service"),
    **dict.fromkeys(("record_control_difference", "record_note"), "notes"),
    "Ledger": "store.ledger",
    "run_key": "store.ledger",
    "Report": "accounting.report_model",
    "Run": "requests",
    **{name: "requests" for name in __all__ if name.endswith("Request")},
    **{name: "results" for name in __all__ if name.endswith("Result")},
}


def __getattr__(name: str) -> Any:
    """Import on first use: DAG files are parsed every few seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULES.get(name, "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
