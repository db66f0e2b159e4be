"""Costs that finance can defend: snapshots of counters in a ledger, and monthly reports from it.

Only the names here are public; all modules of this package are internal (docs/stability.md). ``store`` has
the ledger's files, ``accounting`` makes a report from observations, ``render`` makes a report's files,
``recording`` and ``service`` join them, ``notes`` books by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_closeai._lazy import import_on_use

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
    from airflow_provider_closeai.costs.recording import record_deleted, snapshot
    from airflow_provider_closeai.costs.requests import (
        CloseRequest,
        DeletionRequest,
        NoteRequest,
        ReportRequest,
        Run,
        SnapshotRequest,
    )
    from airflow_provider_closeai.costs.results import ReportResult, SnapshotResult
    from airflow_provider_closeai.costs.service import close, compute, report
    from airflow_provider_closeai.costs.store.ledger import Ledger, run_key
    from airflow_provider_closeai.costs.to_date import month_to_date

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
    "month_to_date",
    "record_control_difference",
    "record_deleted",
    "record_note",
    "report",
    "run_key",
    "snapshot",
]

if not TYPE_CHECKING:
    __getattr__ = import_on_use(
        __name__,
        __all__,
        "errors",
        "requests",
        "results",
        "store.ledger",
        "accounting.report_model",
        "recording",
        "service",
        "notes",
        "to_date",
    )
