"""Runs that come after their time: the table of docs/closing.md, row by row."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from books import Book, local

from airflow_provider_closeai.costs.accounting.late_runs import duration_text, excuse_empty, require_in_time
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.errors import NothingToDo, TooLate
from airflow_provider_closeai.costs.store.ledger import Ledger
from airflow_provider_closeai.costs.store.observations import is_empty_of

ZONE = "Asia/Shanghai"


def snapshot(
    due: str, at: str, *seen: str, hours: float = 6, is_first_run: bool = False, zone: str = ZONE
) -> tuple[str, str]:
    try:
        warning = require_in_time(
            due=local(due),
            at=local(at),
            max_lag=timedelta(hours=hours),
            zone=zone,
            seen=lambda: map(local, seen),
            is_first_run=is_first_run,
        )
    except NothingToDo as nothing:
        return "skip", str(nothing)
    except TooLate as late:
        return "fail", str(late)
    return "record", warning


@pytest.mark.parametrize(
    ("due", "at", "seen", "action", "told"),
    [
        # In time.
        ("11-24 09:00", "11-24 09:00", [], "record", ""),
        ("11-24 03:00", "11-24 09:00", [], "record", ""),
        ("11-24 10:00", "11-24 09:00", [], "record", ""),
        ("12-01 00:00", "12-01 00:01", ["11-30 23:55"], "record", ""),
        # In time by max_lag, and the month has turned since.
        ("11-30 23:55", "12-01 00:10", ["11-30 12:00"], "record", "15 min late, after the turn"),
        # Late, the month goes on.
        ("11-24 02:59", "11-24 09:00", [], "skip", "6 h 1 min late (max_lag is 6 h). 2026-11 still goes on"),
        ("11-01 00:05", "11-25 09:00", [], "skip", "24 days 8 h late"),
        ("11-01 00:00", "11-30 23:59", ["11-01 00:05"], "skip", "snapshot of 2026-11-01 00:05 Asia/"),
        ("11-23 23:55", "11-24 12:00", ["11-23 12:00"], "skip", "12 h 5 min late"),
        # Late, the month is over, and nothing of it was kept.
        ("10-31 23:58", "11-25 12:00", [], "skip", "the ledger has no snapshot of it: nothing"),
        # Late, the month is over, and a snapshot after its time has it: the run itself, or another.
        ("10-10 23:55", "11-25 12:00", ["10-09 23:55", "10-31 23:55"], "skip", "of 2026-10-31 23:55"),
        ("10-31 23:58", "11-25 12:00", ["10-31 23:58"], "skip", "nothing is lost"),
        # Late, the month is over, and its last amount is lost.
        ("10-31 23:58", "11-25 12:00", ["10-31 23:55"], "fail", "after its last snapshot (2026-10-31 23:55"),
        ("10-31 23:58", "11-01 06:00", ["10-30 23:55"], "fail", "6 h 2 min late"),
    ],
)  # fmt: skip
def test_snapshots(due: str, at: str, seen: list[str], action: str, told: str) -> None:
    found, reason = snapshot(due, at, *seen)
    assert (found, told in reason) == (action, True), reason
    assert bool(reason) == bool(told)
    assert "catchup" not in reason


def test_the_zone_decides_which_month_it_is() -> None:
    """At 07:00 of the first in Shanghai it is still the old month in UTC."""
    assert snapshot("11-30 23:58", "12-01 07:00", "11-30 12:00", hours=1)[0] == "fail"
    assert snapshot("11-30 23:58", "12-01 07:00", "11-30 12:00", hours=1, zone="UTC")[0] == "skip"


def test_nobody_relied_on_a_run_before_the_first() -> None:
    case = ("10-31 23:58", "11-25 12:00", "10-31 12:00")
    assert snapshot(*case)[0] == "fail"
    action, reason = snapshot(*case, is_first_run=True)
    assert (action, "this DAG had not succeeded before" in reason) == ("skip", True)


def test_a_failure_says_what_is_lost_and_what_to_do() -> None:
    _, reason = snapshot("10-31 23:58", "11-25 12:00", "10-31 23:55", hours=1 / 30)
    assert reason == (
        "This run was due at 2026-10-31 23:58 Asia/Shanghai and comes 24 days 12 h late (max_lag is 2 min). "
        "2026-10 is over and its counters were reset: what was spent after its last snapshot (2026-10-31 "
        "23:55 Asia/Shanghai) is in no counter any more, and today's values would be false in its place. "
        "Nothing was recorded, and no retry can. The month's report names the gap. Mark this task as "
        "success; if an invoice shows the amount, book it with record_note (docs/closing.md)."
    )


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=0.4), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(minutes=1, seconds=1), "1 min 1 s"),
        (timedelta(hours=3, minutes=20), "3 h 20 min"),
        (timedelta(hours=3, minutes=20, seconds=59), "3 h 20 min"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=1, minutes=5), "1 day"),
        (timedelta(days=25, hours=3), "25 days 3 h"),
    ],
)
def test_durations(span: timedelta, told: str) -> None:
    assert duration_text(span) == told


def test_a_pendulum_duration_is_told_as_any_other() -> None:
    import pendulum

    assert duration_text(pendulum.duration(hours=15, minutes=2)) == "15 h 2 min"
    at = pendulum.datetime(2026, 11, 24, 9, tz=ZONE)
    with pytest.raises(NothingToDo, match=r"7 h late \(max_lag is 6 h\)"):
        require_in_time(
            due=at.subtract(hours=7), at=at, max_lag=pendulum.duration(hours=6), zone=ZONE, seen=list
        )


def decide(ledger: Ledger, asked: str, *, closes: bool, by_asset: bool = False) -> str:
    month = Month("2026-11")
    try:
        if is_empty_of(ledger, month.name):
            excuse_empty(asked, month, ledger="it", closes=closes, is_asset_triggered=by_asset)
    except NothingToDo:
        return "skip"
    return "record"


@pytest.mark.parametrize(
    ("asked", "closes", "by_asset", "action"),
    [
        ("latest", False, False, "skip"),
        ("latest", True, False, "skip"),
        ("latest", False, True, "record"),  # a snapshot started it: so the folder is wrong, which is told
        ("previous", True, False, "skip"),
        ("previous", False, False, "record"),
        ("current", False, False, "record"),
        ("2026-11", True, False, "record"),
    ],
)
def test_reports_of_an_empty_ledger(
    book: Book, asked: str, closes: bool, by_asset: bool, action: str
) -> None:
    assert decide(book.ledger, asked, closes=closes, by_asset=by_asset) == action
    book.seen("11-24 09:00", {1: "1"})
    assert decide(book.ledger, asked, closes=closes, by_asset=by_asset) == "record"


def test_a_month_of_which_something_is_there_is_closed_or_told(book: Book, tmp_path: Path) -> None:
    """Records of deletions alone, and snapshots under other names, are no empty ledger."""
    other = Book(tmp_path / "other")
    book.deleted("11-24 09:00", {1: "1"})
    file = tmp_path / "other" / other.seen("11-24 09:00", {1: "1"}).name
    file.rename(file.with_name("renamed.csv"))
    for ledger in (book.ledger, other.ledger):
        assert decide(ledger, "previous", closes=True) == "record"
