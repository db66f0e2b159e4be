"""Errors of ledgers and of requests to them."""

from __future__ import annotations

from airflow_provider_closeai.client.errors import CloseAIError


class SnapshotRefused(CloseAIError):
    """The listing cannot be trusted to show all accounts at one moment. Nothing was recorded."""


class TooLate(CloseAIError):
    """The run stands for a past time whose counters can no longer be read. Nothing was recorded."""

    permanent = True


class DamagedFile(CloseAIError):
    """A file of the ledger is not as written: truncated, edited, or of another form."""

    permanent = True


class NoObservation(CloseAIError):
    """The ledger holds no usable snapshot of the month."""

    permanent = True


class CurrencyConflict(CloseAIError):
    """Figures in two currencies would have been mixed."""

    permanent = True


class CloseRefused(CloseAIError):
    """The month cannot be closed as it is. Nothing was written."""

    permanent = True


class TooManyDigits(CloseAIError):
    """An amount is too long for the requested format."""

    permanent = True


class MissingLibrary(CloseAIError):
    """An optional library is not installed."""

    permanent = True


class NotRead(CloseAIError):
    """A file of the ledger exists but could not be read now: a retry may succeed."""


class NotWritten(CloseAIError):
    """A file could not be stored: no such bucket, no permission, or no space."""


class NotifierFailed(CloseAIError, RuntimeError):
    """A notifier did not take the alerts: a retry sends them again."""


class NothingToDo(CloseAIError):
    """There is nothing to record or report, and nothing is lost. Airflow skips the task."""

    permanent = True
