"""The errors of a ledger, and of what is asked of it."""

from __future__ import annotations

from airflow_provider_closeai.client.errors import CloseAIError


class SnapshotRefused(CloseAIError):
    """The listing cannot be trusted to be the whole truth of one moment. Nothing was recorded."""


class TooLate(CloseAIError):
    """The run speaks of a time that is over: its counters can no longer be read. Nothing was recorded."""

    permanent = True


class DamagedFile(CloseAIError):
    """A file of the ledger is not what was written: truncated, edited, or of another shape."""

    permanent = True


class NoObservation(CloseAIError):
    """The ledger holds no usable snapshot of the month."""

    permanent = True


class CurrencyConflict(CloseAIError):
    """Figures of two currencies would have been mixed."""

    permanent = True


class CloseRefused(CloseAIError):
    """The month cannot be closed as it is. Nothing was written."""

    permanent = True


class TooManyDigits(CloseAIError):
    """An amount is too long for the format that was asked for."""

    permanent = True


class MissingLibrary(CloseAIError):
    """An optional library is not installed."""

    permanent = True


class NotRead(CloseAIError):
    """A file of the ledger is there and was not given: a retry may read it."""


class NotWritten(CloseAIError):
    """A file could not be stored: there is no such bucket, no right to write, or no space."""


class NotifierFailed(CloseAIError, RuntimeError):
    """A notifier did not take the alerts: a retry sends them again."""


class NothingToDo(CloseAIError):
    """There is nothing to record or to report, and nothing is lost by it. Airflow skips the task."""

    permanent = True
