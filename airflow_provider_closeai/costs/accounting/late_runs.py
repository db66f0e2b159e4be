"""Decides what a late run may still do. The rules are a table in docs/closing.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from airflow_provider_closeai.costs.accounting.months import Month, format_local, month_of
from airflow_provider_closeai.costs.errors import NothingToDo, TooLate

_UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration_text(span: timedelta) -> str:
    """
    Write a duration in its two largest units, such as ``3 h 20 min``.

    :param span: 0 or more.
    """
    left = int(span.total_seconds())
    found: list[str] = []
    for unit, seconds in _UNITS:
        number, left = divmod(left, seconds)
        if number or found:
            found.append(f"{number} {unit}" if number != 1 else f"1 {unit.removesuffix('s') or unit}")
    return " ".join(text for text in found[:2] if not text.startswith("0 ")) or "0 s"


def require_in_time(
    *,
    due: datetime,
    at: datetime,
    max_lag: timedelta,
    zone: str,
    seen: Callable[[], Iterable[datetime]],
    is_first_run: bool = False,
) -> str:
    """
    Check that a run may record the current counters.

    :param due: the time that the run stands for.
    :param max_lag: how long after ``due`` it may still record.
    :param zone: the IANA name of the zone in which the billing month turns.
    :param seen: returns when the snapshots of ``due``'s month were made; called only beyond ``max_lag``.
    :param is_first_run: whether no earlier run of the DAG succeeded: Airflow starts the latest missed run
        when a DAG is first unpaused, and nobody relied on that.
    :returns: a warning; usually empty.
    :raises NothingToDo: it may not, and nothing is lost.
    :raises TooLate: it may not, and an amount is lost.
    """
    month, late = month_of(due, zone), at - due
    has_turned = at >= month.end
    intro = f"This run was due at {_local(due, zone)} and comes {duration_text(late)} late"
    if late <= max_lag and has_turned:
        return (
            f"{intro}, after the turn of the month: it records {month.step(1).name}. What was spent in "
            f"{month.name} after its last snapshot is in no counter any more; that month's report names the "
            "gap."
        )
    if late <= max_lag:
        return ""
    intro += f" (max_lag is {duration_text(max_lag)})."
    times = sorted(moment for moment in seen() if moment < month.end)
    if times and times[-1] >= due:
        reason = f"The snapshot of {_local(times[-1], zone)} has all that it had."
        raise NothingToDo(f"{intro} {reason} Nothing was recorded, nothing is lost.")
    if not has_turned:
        reason = f"{month.name} still goes on: its next snapshot has all that this one had."
        raise NothingToDo(f"{intro} {reason} Nothing was recorded, nothing is lost.")
    if not times:
        reason = f"{month.name} is over, and the ledger has no snapshot of it: nothing of it was kept."
        raise NothingToDo(f"{intro} {reason} Nothing was recorded.")
    gap = f"what was spent after its last snapshot ({_local(times[-1], zone)})"
    if is_first_run:
        reason = (
            f"{month.name} is over, and this DAG had not succeeded before: {gap} was not asked for in time."
        )
        raise NothingToDo(f"{intro} {reason} The month's report names the gap. Nothing was recorded.")
    raise TooLate(
        f"{intro} {month.name} is over and its counters were reset: {gap} is in no counter any more, and "
        "today's values would be false in its place. Nothing was recorded, and no retry can. The month's "
        "report names the gap. Mark this task as success; if an invoice shows the amount, book it with "
        "record_note (docs/closing.md)."
    )


def excuse_empty(asked: str, month: Month, *, ledger: str, closes: bool, is_asset_triggered: bool) -> None:
    """
    Skip the report of an empty ledger, unless that is a mistake: then the report says what is missing.

    :param asked: the ``month`` parameter.
    :param month: the month that it means for this run.
    :param ledger: the ledger's folder, for the message.
    :param is_asset_triggered: whether a new snapshot started the run: then it is a mistake.
    :raises NothingToDo: there is nothing to report or close.
    """
    if asked == "latest" and not is_asset_triggered:
        raise NothingToDo(
            f"The ledger {ledger} has no snapshot yet: there is nothing to report. If there should be one, "
            "give the report the snapshot's ledger."
        )
    if closes and asked == "previous":
        raise NothingToDo(
            f"The ledger {ledger} has nothing of {month.name}: there is nothing to close. If there should "
            "be, give the report the snapshot's ledger."
        )


def _local(moment: datetime, zone: str) -> str:
    return f"{format_local(moment, zone)} {zone}"
