"""The rules of the counters, each with its exact figures."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import decimal
from datetime import UTC, date
from decimal import Decimal
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.costs import Report
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts
from airflow_provider_closeai.costs.errors import NoObservation


def line(report: Report, account_id: int = 1) -> AccountCosts:
    [found] = [item for item in report.accounts if item.sub_account_id == account_id]
    return found


def figures(item: Any) -> tuple[str, ...]:
    names = ("month_to_date", "opening", "increases", "falls", "adjustments")
    amounts = [getattr(item, name) for name in names]
    assert amounts[0] == sum(amounts[1:])
    return tuple(format(amount.normalize(), "f") if amount else "0" for amount in amounts)


def test_increases_by_day(book: Book) -> None:
    book.seen("10-31 23:55", {1: "7"})
    book.seen("11-01 23:55", {1: "0.00000001"})
    book.seen("11-02 23:55", {1: "0.30000001"})
    book.seen("11-03 23:55", {1: "0.30000001"})
    report = book.report()
    assert figures(line(report)) == ("0.30000001", "0", "0.30000001", "0", "0")
    assert line(report).daily == {
        date(2026, 11, 1): Decimal("0.00000001"),
        date(2026, 11, 2): Decimal("0.3"),
    }
    assert report.daily == line(report).daily
    assert not report.warnings


def test_snapshots_just_after_midnight_belong_to_the_day_before(book: Book) -> None:
    book.seen("10-31 23:58", {1: "1"})
    book.seen("11-01 00:05", {1: "0"})
    book.seen("11-02 00:05", {1: "2"})
    book.seen("11-03 00:05", {1: "5"})
    assert line(book.report()).daily == {date(2026, 11, 1): 2, date(2026, 11, 2): 3}


def test_the_first_sight_of_an_older_account_is_an_opening_balance(book: Book) -> None:
    book.seen("11-10 09:00", {1: "5", 2: ("3", "new", "2026-11-09T20:00:00+08:00")})
    book.seen("11-11 09:00", {1: "6", 2: "3", 3: "0.5"})
    report = book.report()
    assert figures(line(report, 1)) == ("6", "5", "1", "0", "0")
    assert figures(line(report, 2)) == ("3", "0", "3", "0", "0")
    assert line(report, 2).daily == {date(2026, 11, 10): 3}
    assert figures(line(report, 3)) == ("0.5", "0.5", "0", "0", "0")
    assert figures(report.totals) == ("9.5", "5.5", "4", "0", "0")


def test_an_account_made_beside_the_turn_may_have_spent_in_either_month(book: Book) -> None:
    book.seen("11-01 09:00", {1: ("5", "a", "2026-10-31T23:59:59.999999+08:00")})
    book.seen("11-01 10:00", {2: ("5", "a", "2026-11-01T00:00:00+08:00"), 3: ("1", "a", "no time")})
    report = book.report()
    assert (line(report, 1).month_to_date, line(report, 1).certainty) == (0, "uncertain")
    assert (line(report, 2).month_to_date, line(report, 2).lower_bound) == (5, 0)
    assert line(report, 2).opening == 0
    assert line(report, 3).opening == 1


def test_a_drop_inside_the_month_is_a_fall(book: Book) -> None:
    book.seen("10-31 23:55", {1: "4", 2: "4"})
    book.turn("11", [1, 2])
    book.seen("11-05 09:00", {1: "10", 2: "1"})
    book.seen("11-06 09:00", {1: "7.5", 2: "2"})
    book.seen("11-07 09:00", {1: "8", 2: "3"})
    report = book.report()
    assert figures(line(report)) == ("8", "0", "10.5", "-2.5", "0")
    assert line(report).daily[date(2026, 11, 5)] == Decimal("-2.5")
    assert "fell" not in " ".join(report.warnings)
    assert not report.uncertain


def test_a_drop_at_the_turn_is_the_reset(book: Book) -> None:
    book.seen("10-31 23:55", {1: "10"})
    book.seen("11-01 00:05", {1: "0.5"})
    report = book.report()
    assert figures(line(report)) == ("0.5", "0", "0.5", "0", "0")
    assert line(report).daily == {date(2026, 11, 1): Decimal("0.5")}
    assert not report.warnings


def test_growth_over_the_turn_may_hide_a_reset(book: Book) -> None:
    book.seen("10-31 23:55", {1: "1"})
    book.seen("11-01 12:00", {1: "3"})
    report = book.report()
    assert (line(report).month_to_date, line(report).certainty) == (0, "uncertain")
    assert "account 1: its counter only grew" in report.warnings[0]
    october = book.report("2026-10")
    assert (line(october).month_to_date, line(october).end_doubt) == (1, "hidden")
    book.seen("11-02 12:00", {1: "4"})
    book.seen("11-03 12:00", {1: "5"})  # used after every turn there is: all of it is November's
    assert (line(book.report()).month_to_date, line(book.report()).certainty) == (5, "certain")
    assert line(book.report("2026-10")).month_to_date == 1


def test_a_reset_at_another_time_is_told(book: Book, clock: Clock) -> None:
    book.seen("10-31 23:55", {1: "10", 2: "20"})
    book.seen("11-01 00:05", {1: "10.1", 2: "20"})
    book.seen("11-01 12:00", {1: "0.2", 2: "0"})
    book.seen("11-30 23:55", {1: "5", 2: "0"})
    clock.at = local("12-01 09:00")
    report = book.report()
    [suggestion] = [warning for warning in report.warnings if "time_zone" in warning]
    assert suggestion.startswith(
        "At the turn to 2026-11 2 of 2 counters started again at another time than midnight in "
        "Asia/Shanghai, most of them between 2026-11-01 00:05 and 2026-11-01 12:00."
    )
    assert (report.status, report.totals.month_to_date) == ("estimated", 5)
    assert book.report("2026-10").totals.month_to_date == Decimal("30.1")


def test_one_large_refund_among_many_is_no_reset(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10", 2: "1", 3: "2"})
    book.seen("11-06 09:00", {1: "0.5", 2: "2", 3: "3"})
    assert not book.report().warnings


def test_a_deleted_account_keeps_its_last_value(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10", 2: "1"})
    book.deleted("11-05 18:30", {1: "12.5"})
    book.seen("11-06 09:00", {2: "2"})
    report = book.report()
    assert line(report).month_to_date == Decimal("12.5")
    assert (line(report).state, line(report).gap_minutes) == ("deleted", 0)
    assert (line(report, 2).state, line(report, 2).last_seen) == ("live", local("11-06 09:00"))
    assert not report.warnings


def test_a_deletion_that_was_recorded_without_a_cost_names_its_gap(book: Book) -> None:
    book.turn("11", [1])
    book.seen("11-15 12:00", {1: "10"})
    book.seen("11-16 12:00", {1: None})
    book.deleted("11-17 12:00", {1: None})
    book.seen("11-18 12:00", {})
    assert (line(book.report()).state, line(book.report()).gap_minutes) == ("deleted", 2 * 24 * 60)


@pytest.mark.parametrize("how", ["recorded", "vanished", "recorded after the turn", "live"])
def test_a_cost_that_nobody_saw_for_days_before_the_turn_is_not_final(
    book: Book, clock: Clock, how: str
) -> None:
    book.turn("11", [1, 2])
    book.seen("11-20 12:00", {1: "10", 2: "1"})
    book.seen("11-30 12:00", {1: None, 2: "1"})
    if how == "recorded":
        book.deleted("11-30 23:50", {1: None})
    kept = {1: None} if how in ("live", "recorded after the turn") else {}
    book.seen("11-30 23:55", {2: "1", **kept})
    if how == "recorded after the turn":
        book.deleted("12-01 00:04", {1: None})
    for at in ("12-01 00:05", "12-02 00:05"):
        book.seen(at, {2: "0", **({1: "0"} if how == "live" else {})})
    clock.at = local("12-02 12:00")
    report = book.report()
    unseen = 10 * 24 * 60 + 11 * 60
    assert (report.status, line(report).unseen_minutes >= unseen) == ("estimated", True)
    if how == "vanished":
        assert f"last {unseen + 55} minutes" in " ".join(report.warnings)


def test_a_vanished_account_names_its_gap(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10", 2: "1"})
    book.seen("11-06 09:01", {2: "2"})
    report = book.report()
    assert line(report).month_to_date == 10
    assert (line(report).state, line(report).gap_minutes) == ("vanished", 1441)
    [warning] = report.warnings
    assert "no deletion was recorded: account 1." in warning
    assert "last 1441 minutes" in warning


def test_a_deletion_that_failed_changes_nothing(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.deleted("11-05 18:30", {1: "12.5"})
    book.seen("11-06 09:00", {1: "13"})
    assert (line(book.report()).state, line(book.report()).month_to_date) == ("live", 13)
    book.seen("11-07 09:00", {})
    assert line(book.report()).state == "vanished"


def test_a_renamed_account_keeps_its_history(book: Book) -> None:
    book.seen("11-05 09:00", {1: ("10", "trial")})
    book.seen("11-06 09:00", {1: ("12", "search.web")})
    book.seen("11-07 09:00", {1: ("13", "ads.web")})
    report = book.report(owners={"ads.*": "Ads", "trial": "Trial"})
    found = line(report)
    assert (found.alias, found.former_aliases, found.month_to_date) == (
        "ads.web",
        ["trial", "search.web"],
        13,
    )
    assert [(item.owner.team, item.month_to_date) for item in report.owners] == [("Ads", 13)]


def test_a_missed_day_is_booked_in_the_middle_and_named(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.seen("11-06 09:00", {1: "11"})
    book.seen("11-08 09:00", {1: "17"})
    report = book.report()
    assert line(report).daily == {date(2026, 11, 5): 1, date(2026, 11, 7): 6}
    assert report.missed_days == [date(2026, 11, 7)]
    assert report.warnings == [
        "No snapshot on 2026-11-07: the figure on it or beside it covers more than one day."
    ]


def test_an_account_without_a_figure_is_not_zero(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.seen("11-06 09:00", {1: None})
    book.seen("11-07 09:00", {1: "11"})
    report = book.report()
    assert figures(line(report)) == ("11", "10", "1", "0", "0")
    assert line(report).daily == {date(2026, 11, 6): 1}


@pytest.mark.parametrize(
    ("last", "now", "status", "gap"),
    [
        ("11-30 23:55", "12-01 00:06", "final", 5),
        ("11-30 23:45", "12-01 00:06", "final", 15),
        ("11-30 23:44", "12-02 00:00", "estimated", 16),
        ("11-29 12:00", "12-02 00:00", "estimated", 2160),
        ("11-30 23:55", "11-30 23:59", "open", None),
    ],
)
def test_final_open_or_estimated(
    book: Book, clock: Clock, last: str, now: str, status: str, gap: int | None
) -> None:
    book.seen("10-31 23:55", {1: "1"})
    book.turn("11", [1])
    book.seen("11-01 09:00", {1: "1"})
    book.seen(last, {1: "10"})
    book.turn("12", [1])
    book.deleted("11-30 23:59", {})  # a deletion's records are no complete listing
    clock.at = local(now)
    report = book.report()
    assert (report.status, report.gap_minutes) == (status, gap)
    assert any("not estimated" in warning for warning in report.warnings) is (status == "estimated")


def test_a_month_without_a_snapshot(book: Book) -> None:
    book.seen("10-31 23:55", {1: "10"})
    with pytest.raises(NoObservation, match=r"no usable snapshot of 2026-11 \(it has months: 2026-10\)"):
        book.report()


def test_another_zone_turns_elsewhere(book: Book, clock: Clock) -> None:
    clock.at = local("12-02 09:00")
    book.seen("12-01 00:05", {1: "10"})
    report = book.report("2026-12")
    assert report.totals.month_to_date == 10
    with pytest.raises(NoObservation, match="Give the snapshot and the report the same time_zone"):
        book.report("2026-12", time_zone="America/New_York")


def test_sums_are_exact_beyond_any_context(book: Book) -> None:
    costs = {1: "99999999999999999999999.00000001", 2: "0.000000000000000001", 3: "1"}
    book.seen("11-05 09:00", costs)
    with decimal.localcontext(decimal.Context(prec=6)):
        report = book.report()
    assert format(report.totals.month_to_date, "f") == "100000000000000000000000.000000010000000001"


def test_observations_are_sorted_by_time(book: Book) -> None:
    book.seen("11-07 09:00", {1: "13"})
    book.seen("11-05 09:00", {1: "10"})
    book.seen("11-06 09:00", {1: "12"})
    report = book.report()
    assert line(report).daily == {date(2026, 11, 5): 2, date(2026, 11, 6): 1}
    assert [at.astimezone(UTC).day for at in report.history.snapshots] == [5, 6, 7]


def test_two_snapshots_of_one_day_add_up(book: Book) -> None:
    book.seen("10-31 23:55", {1: "7"})
    book.turn("11", [1])
    book.seen("11-03 09:00", {1: "1"})
    book.seen("11-03 12:00", {1: "1.5"})
    book.seen("11-03 18:00", {1: "1.25"})
    report = book.report()
    assert line(report).daily == {date(2026, 11, 2): 1, date(2026, 11, 3): Decimal("0.25")}
    assert figures(line(report)) == ("1.25", "0", "1.5", "-0.25", "0")


def test_an_account_without_a_cost_is_there(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10", 2: None})
    book.seen("11-06 09:00", {1: (None, "renamed"), 2: None})
    report = book.report()
    assert (line(report).state, line(report).month_to_date, line(report).alias) == ("live", 10, "renamed")
    told = (
        "Listed at times without a monthly_cost: accounts 1, 2. What no other snapshot shows of them is "
        "missing."
    )
    assert told in report.warnings


def test_days_before_the_months_first_snapshot_are_missed_too(book: Book) -> None:
    book.seen("10-31 23:55", {1: "7"})
    book.seen("11-04 23:55", {1: "4"})
    assert book.report().missed_days == [date(2026, 11, day) for day in (1, 2, 3)]
    assert "No snapshot on 2026-11-01, 2026-11-02, 2026-11-03" in book.report().warnings[0]


def test_an_account_that_vanishes_at_the_turn_is_named(book: Book) -> None:
    book.seen("10-30 23:55", {1: "7", 2: "5", 3: "1", 4: "1"})
    book.seen("10-31 23:58", {1: "7", 2: "5", 3: "1", 4: "1"})
    book.deleted("10-31 23:59", {3: "1"})
    book.deleted("11-01 00:01", {4: "0"})
    book.seen("11-01 00:05", {1: "0"})
    report = book.report()
    assert report.warnings == [
        "Not listed any more in 2026-11, and no deletion was recorded: account 2. What they spent between "
        "2026-10-31 23:58 and 2026-11-01 00:05 is missing. Delete with DeleteSubAccountsOperator(ledger=...)."
    ]


def test_a_year_that_is_none_is_no_creation(book: Book) -> None:
    book.seen("11-05 09:00", {1: ("10", "a", "9999-12-31T23:59:59-08:00")})
    assert line(book.report()).created_at is None


def test_the_value_before_a_gap_counts_not_the_sight(book: Book, clock: Clock) -> None:
    book.seen("10-31 23:55", {1: "9"})
    book.seen("11-01 23:55", {1: "1"})
    book.seen("11-10 23:55", {1: None})
    book.seen("11-20 23:55", {1: "5"})
    assert line(book.report()).daily == {date(2026, 11, 1): 1, date(2026, 11, 11): 4}
    book.seen("11-30 23:58", {1: None, 2: "0"})
    clock.at = local("12-01 09:00")
    report = book.report()
    gap = 10 * 24 * 60 + 5
    assert (report.status, report.gap_minutes) == ("estimated", gap)
    assert (line(report).state, line(report).gap_minutes) == ("live", gap - 2)


def test_an_account_that_never_had_a_cost_is_no_account_that_is_gone(book: Book) -> None:
    book.seen("10-31 23:55", {1: "9"})
    book.seen("11-01 23:55", {1: None})
    book.seen("11-02 23:55", {1: None})
    report = book.report()
    assert any(one.startswith("Listed at times without a monthly_cost:") for one in report.warnings)
    assert (line(report).state, line(report).month_to_date) == ("live", 0)
    book.seen("11-03 23:55", {1: "6"})
    assert figures(line(book.report())) == ("6", "0", "6", "0", "0")
    assert line(book.report()).is_certain


def test_a_deletion_that_failed_hides_no_later_loss(book: Book) -> None:
    book.deleted("10-10 09:00", {1: "50"})
    book.seen("10-31 23:55", {1: "90", 2: "1"})
    book.seen("11-01 00:05", {2: "0"})
    assert "no deletion was recorded: account 1" in " ".join(book.report().warnings)


def test_an_account_that_goes_after_the_months_last_look_has_minutes_that_nobody_saw(book: Book) -> None:
    for at in ("11-29 12:00", "11-30 12:00"):
        book.seen(at, {1: "50", 2: "1"})
    book.seen("12-01 12:00", {2: "1"})
    book.clock.at = local("12-02 12:00")
    assert line(book.report()).unseen_minutes == 1440, (
        "the platform's month may end later than it is assumed to"
    )


def test_an_account_that_goes_before_its_counter_may_have_started_again(book: Book) -> None:
    for at in ("11-29 12:00", "11-30 23:58", "12-01 00:05"):
        book.seen(at, {1: "50", 2: "1"})
    for at in ("12-01 12:00", "12-02 12:00"):
        book.seen(at, {2: "0"})
    book.clock.at = local("12-03 12:00")
    report = book.report()
    assert (line(report).unseen_minutes, report.status) == (715, "estimated")


def test_a_deletion_of_an_account_that_is_listed_later_is_none(book: Book) -> None:
    """It was recorded, did not happen, and was done by hand 20 hours later."""
    book.deleted("11-05 13:00", {1: "5"})
    book.seen("11-05 13:01", {1: "5", 2: "1"})
    assert line(book.report()).state == "live"
    book.seen("11-06 13:00", {2: "1"})
    report = book.report()
    assert (line(report).state, line(report).gap_minutes) == ("vanished", 1439)
    assert "no deletion was recorded: account 1" in report.warnings[0]
