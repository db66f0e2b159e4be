"""The month's turn, account by account: the small cases of every rule."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import OLD, Book, Clock, local

from airflow_provider_closeai.costs import run_key
from airflow_provider_closeai.costs.accounting.months import month_of
from airflow_provider_closeai.costs.accounting.observations import Observation
from airflow_provider_closeai.costs.errors import CloseRefused
from airflow_provider_closeai.costs.store.kinds import DELETED, SNAPSHOTS

NOVEMBER, DECEMBER = "2026-11", "2026-12"


@pytest.fixture
def book(book: Book, clock: Clock) -> Book:
    """A ledger that began in October, and is read in the middle of December."""
    book.seen("10-30 23:55", {1: "9", 2: "9"})
    book.seen("10-31 23:58", {1: "9", 2: "9"})
    book.turn("11", [1, 2])
    clock.at = local("12-15 12:00")
    return book


def figures(book: Book, month: str = NOVEMBER) -> dict[int, tuple[str, str]]:
    report = book.report(month)
    return {line.sub_account_id: (str(line.month_to_date), line.certainty) for line in report.accounts}


def test_a_platform_clock_that_is_ahead(book: Book) -> None:
    """The 23:58 snapshot sees counters that were reset already."""
    book.seen("11-29 23:55", {1: "2900", 2: "2000"})
    book.seen("11-30 23:50", {1: "3000", 2: "2100"})
    book.seen("11-30 23:58", {1: "0.01", 2: "0"})
    book.seen("12-01 00:05", {1: "0.02", 2: "0"})
    assert figures(book) == {1: ("3000", "certain"), 2: ("2100", "certain")}
    assert book.report().status == "final"  # 8 minutes were not seen
    assert figures(book, DECEMBER)[1] == ("0.02", "certain")


def test_a_long_gap_before_an_early_reset_is_no_final_month(book: Book) -> None:
    book.seen("11-30 08:00", {1: "3000", 2: "2100"})
    book.seen("11-30 23:58", {1: "0.01", 2: "0"})
    book.seen("12-01 00:05", {1: "0.02", 2: "0"})
    report = book.report()
    assert (report.status, report.totals.month_to_date) == ("estimated", 5100)
    assert (report.gap_minutes, report.unseen_minutes) == (2, 958)
    book.close()
    assert book.report().totals.month_to_date == 5100


def test_a_minority_that_is_reset_early(book: Book) -> None:
    book.seen("11-29 23:55", {1: "400", 2: "600"})
    book.seen("11-30 23:55", {1: "400", 2: "0"})
    book.turn("12", [1, 2])
    assert figures(book) == {1: ("400", "certain"), 2: ("600", "certain")}
    assert book.report().totals.month_to_date == 1000
    assert book.report().status == "estimated"


def test_an_account_that_is_not_reset_yet_counts_in_one_month(book: Book) -> None:
    book.seen("11-29 23:55", {1: "10", 2: "10"})
    book.seen("11-30 23:58", {1: "10", 2: "10"})
    book.seen("12-01 00:05", {1: "0", 2: "10"})
    book.seen("12-02 23:55", {1: "1", 2: "10"})
    assert figures(book) == {1: ("10", "certain"), 2: ("10", "uncertain")}
    assert figures(book, DECEMBER) == {1: ("1", "certain"), 2: ("0", "uncertain")}
    with pytest.raises(CloseRefused, match="account 2: its counter has not started again yet"):
        book.close()
    book.seen("12-09 23:55", {1: "2", 2: "0.5"})  # its first use
    assert figures(book) == {1: ("10", "certain"), 2: ("10", "certain")}
    assert figures(book, DECEMBER) == {1: ("2", "certain"), 2: ("0.5", "certain")}


def test_an_account_that_is_not_reset_yet_and_deleted(book: Book) -> None:
    book.seen("11-29 23:55", {1: "10", 2: "10"})
    book.seen("11-30 23:58", {1: "10", 2: "10"})
    book.seen("12-01 00:05", {1: "0", 2: "10"})
    book.deleted("12-01 09:00", {2: "10"})
    book.seen("12-01 23:55", {1: "0"})
    assert figures(book) == {1: ("10", "certain"), 2: ("10", "certain")}
    assert figures(book, DECEMBER) == {1: ("0", "certain"), 2: ("0", "certain")}


@pytest.mark.parametrize(
    ("before", "used", "after", "least"),
    [("0", "5", "4.5", "0"), ("10", "12", "11", "10")],
    ids=["it was 0 at the turn", "growth may hide the turn"],
)
def test_a_refund_after_a_turn_that_nobody_saw(
    new_book: Any, clock: Clock, before: str, used: str, after: str, least: str
) -> None:
    clock.at, book = local("12-15 12:00"), new_book("one")
    book.turn("11", [1])
    book.seen("11-03 00:05", {1: "0"})
    for at, cost in {"11-30 23:55": before, "12-01 00:05": before, "12-01 23:55": used}.items():
        book.seen(at, {1: cost})
    book.seen("12-05 12:00", {1: after})
    [line] = book.report().accounts
    assert (line.certainty, line.lower_bound) == ("uncertain", Decimal(least))
    assert figures(book, DECEMBER) == {1: (after, "certain")}


@pytest.mark.parametrize("looks", [["11-30 23:55", "12-01 00:05"], ["11-30 23:55"]], ids=["after", "over"])
def test_a_refund_within_hours_of_a_turn_at_0(new_book: Any, clock: Clock, looks: list[str]) -> None:
    """It was used after the turn, or over it; the closed month keeps its 0."""
    book = new_book("one")
    book.turn("11", [1])
    for at in ("11-03 00:05", *looks):
        book.seen(at, {1: "0"})
    clock.at = local("12-01 00:06")
    book.close(even_if_uncertain=len(looks) == 1)
    for at, cost in {"12-01 03:00": "5", "12-01 12:00": "4", "12-03 12:00": "4"}.items():
        book.seen(at, {1: cost})
    clock.at = local("12-03 14:00")
    assert book.close(run="d" * 12) is None
    assert figures(book) == {1: ("0", "uncertain")}
    assert figures(book, DECEMBER) == {1: ("4", "certain")}


@pytest.mark.parametrize(("still", "told"), [("95", ("5", "certain")), ("96", ("0", "uncertain"))])
def test_a_balance_tells_a_reset_from_a_refund(
    new_book: Any, clock: Clock, still: str, told: tuple[str, str]
) -> None:
    """A platform that turns later than it is assumed to: first used in between. A refund makes it rise."""
    clock.at, book = local("12-15 12:00"), new_book("one")
    book.turn("11", [1])
    for at, cost, balance in (
        ("11-03 00:05", "0", "100"),
        ("12-01 00:05", "0", "100"),
        ("12-01 03:00", "5", "95"),
        ("12-01 12:00", "0", still),
        ("12-03 12:00", "0", still),
    ):
        row = Observation(1, "a", Decimal(cost), OLD, True, Decimal(balance), "[]")
        month = month_of(local(at), book.zone).name
        book.ledger.write(SNAPSHOTS, month, local(at), run_key(at), [row])
    assert figures(book) == {1: told}


def test_a_platform_that_begins_a_month_with_the_first_use_after_it(new_book: Any, clock: Clock) -> None:
    clock.at, book = local("12-15 12:00"), new_book("one")
    book.turn("11", [1])
    book.seen("11-03 00:05", {1: "0"})
    for at, cost in {
        "11-30 12:00": "9",
        "11-30 23:55": "10",
        "12-01 00:05": "10",
        "12-05 12:00": "3",
    }.items():
        book.seen(at, {1: cost})
    assert figures(book) == {1: ("10", "certain")}
    assert figures(book, DECEMBER) == {1: ("3", "certain")}


def test_a_platform_that_turns_in_utc(book: Book) -> None:
    book.seen("11-30 23:58", {1: "10", 2: "10"})
    book.seen("12-01 00:05", {1: "11", 2: "10"})
    book.seen("12-01 23:55", {1: "4", 2: "0"})
    report = book.report()
    assert figures(book) == {1: ("11", "certain"), 2: ("10", "certain")}
    assert (report.status, report.unseen_minutes) == ("estimated", 1430)
    assert "2 of 2 counters started again at another time than midnight" in " ".join(report.warnings)
    assert figures(book, DECEMBER) == {1: ("4", "certain"), 2: ("0", "certain")}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "UTC", "America/New_York", "Etc/GMT+12"])
def test_a_ledger_of_any_zone_finds_the_platforms_turn(tmp_path: Path, zone: str) -> None:
    """Nothing is spent while the month turns in the ledger's own zone."""
    book = Book(tmp_path, zone=zone)
    for day in range(26, 32):
        book.seen(f"10-{day} 20:00", {1: "900"})
    book.seen("11-01 02:00", {1: "0"})
    for day in range(1, 31):
        book.seen(f"11-{day:02} 20:00", {1: 0 if day < 4 else 10 * (day - 3)})
    for at in ("12-01 02:00", "12-01 20:00", "12-02 20:00"):
        book.seen(at, {1: "0"})
    book.clock.at = local("12-15 12:00")
    assert figures(book) == {1: ("270", "certain")}
    assert book.report().totals.falls == 0


@pytest.mark.parametrize("created", ["", OLD, "2026-11-30T20:00:00+08:00"])
def test_an_account_that_is_first_seen_between_the_ledgers_turn_and_its_own(book: Book, created: str) -> None:
    """
    What it has then is not the new month's, if its fall is the reset.

    Of an older one it may be of any month before; of one that was just made the fall may be a refund.
    """
    book.seen("11-30 19:00", {1: "6", 2: "6"})
    book.seen("12-01 19:00", {1: "7", 2: "6", 3: ("97", "late", created)})
    book.seen("12-02 19:00", {1: "0", 2: "0", 3: ("0", "late", created)})
    book.seen("12-03 19:00", {1: "1", 2: "0", 3: ("2", "late", created)})
    assert figures(book)[3] == ("97", "uncertain")
    assert figures(book, DECEMBER)[3] == ("2", "certain")


def test_a_first_month_whose_turn_was_not_seen_is_not_final(new_book: Any, clock: Clock) -> None:
    late = new_book("late")
    late.seen("11-01 00:05", {1: "100"})  # October's, where the platform turns at 08:00
    late.seen("11-01 23:55", {1: "103"})
    late.seen("11-30 23:58", {1: "120"})
    late.turn("12", [1])
    clock.at = local("12-02 12:00")
    assert late.report().status == "estimated"
    [line] = late.report().accounts
    assert (line.start_doubt, line.lower_bound < line.month_to_date) == ("unseen", True)
    seen = new_book("seen")
    seen.seen("11-01 00:05", {1: "100"})
    seen.seen("11-01 23:55", {1: "3"})
    seen.seen("11-30 23:58", {1: "20"})
    seen.turn("12", [1])
    assert (seen.report().status, seen.report().totals.month_to_date) == ("final", 20)


@pytest.mark.parametrize("second", ["4", "0"])
def test_a_second_fall_is_in_doubt(book: Book, second: str) -> None:
    book.seen("11-29 23:55", {1: "100"})
    book.seen("11-30 20:00", {1: "90"})  # a refund? half of a reset?
    book.seen("12-01 00:05", {1: second})
    assert figures(book)[1] == ("90", "uncertain")
    assert book.report().accounts[0].end_doubt == "fell again"


def test_a_lower_bound_is_never_below_what_is_certain_of_others(new_book: Any, clock: Clock) -> None:
    """One look before and one after each turn, and no other: all of 1's growth is at both turns."""
    clock.at, book = local("12-15 12:00"), new_book("pairs")
    for at, first, other in (
        ("10-31 23:55", "0", "3"),
        ("11-01 00:05", "0", "0"),
        ("11-30 23:55", "10", "8"),
        ("12-01 00:05", "10", "0"),
    ):
        book.seen(at, {1: first, 2: other})
    report = book.report()
    assert ([line.lower_bound for line in report.accounts], report.lower_bound) == ([8, 0], 8)


def test_an_undated_account_that_is_seen_after_the_ledgers_turn_alone(tmp_path: Path, clock: Clock) -> None:
    """It may have been made, and used, before the platform turned, some hours later."""
    clock.at, book = local("12-15 12:00"), Book(tmp_path, clock, zone="Pacific/Kiritimati")
    book.seen("10-31 23:55", {2: "0"})
    book.seen("11-30 12:00", {2: "0"})
    book.seen("11-30 23:55", {1: ("1", "new", ""), 2: "0"})
    book.seen("12-01 00:05", {1: ("1", "new", ""), 2: "0"})
    assert figures(book)[1] == ("0", "uncertain")


def test_all_zero_is_certain(book: Book) -> None:
    book.seen("11-29 23:55", {1: "0"})
    book.seen("11-30 23:58", {1: "0"})
    book.turn("12", [1])
    assert figures(book)[1] == ("0", "certain")


def test_an_account_made_and_gone_around_the_turn(book: Book) -> None:
    made = "2026-11-30T20:00:00+08:00"
    book.seen("11-30 23:58", {1: "0", 2: "0"})
    book.deleted("12-01 05:00", {3: ("7", "brief", made)})
    book.seen("12-01 23:55", {1: "0", 2: "0"})
    assert figures(book)[3] == ("0", "uncertain")
    assert figures(book, DECEMBER)[3] == ("0", "uncertain")


def money(book: Book, at: str, rows: Mapping[int, tuple[str, str]], kind: str = SNAPSHOTS) -> None:
    """Record costs and balances."""
    moment = local(at)
    observations = [
        Observation(number, f"a-{number}", Decimal(cost), OLD, True, Decimal(balance))
        for number, (cost, balance) in rows.items()
    ]
    book.ledger.write(kind, month_of(moment).name, moment, run_key(moment), observations)


@pytest.mark.parametrize(
    ("cost", "balance", "certainty"),
    [
        ("6", "84", "certain"),  # reset, and 6 spent
        ("6", "80", "certain"),  # reset, 6 spent since, and 4 that nobody saw
        ("6", "94", "uncertain"),  # a refund of 4
        ("6", "90", "uncertain"),  # the balance moves with the costs, and nothing was spent
    ],
)
def test_the_balance_explains_a_fall_or_not(book: Book, cost: str, balance: str, certainty: str) -> None:
    money(book, "11-29 23:55", {1: ("9", "91")})
    money(book, "11-30 23:58", {1: ("10", "90")})
    money(book, "12-01 00:05", {1: (cost, balance)})
    amount = "10" if certainty == "certain" else "6"
    assert figures(book)[1] == (amount, certainty)


@pytest.mark.parametrize(("balance", "certainty"), [("88", "certain"), ("84", "uncertain")])
def test_a_hidden_part_shows_in_the_balance(book: Book, balance: str, certainty: str) -> None:
    """10, 12, 3: a reset and some use. Or 4 were reset before, and 6 were spent."""
    money(book, "11-28 23:55", {1: ("8", "92")})
    money(book, "11-29 23:55", {1: ("10", "90")})
    money(book, "11-30 23:55", {1: ("12", balance)})
    money(book, "12-01 00:05", {1: ("3", str(int(balance) - 3))})
    [line] = [line for line in book.report().accounts if line.sub_account_id == 1]
    assert (line.month_to_date, line.certainty) == (12, certainty)
    assert line.lower_bound == (12 if certainty == "certain" else 10)
    assert line.unseen_minutes == (10 if certainty == "certain" else 1450)


def test_counters_that_fall_in_parts_make_others_doubtful(book: Book) -> None:
    for at, parts in (("11-29 23:55", "9"), ("11-30 20:00", "5"), ("12-01 00:05", "1")):
        grown = {"11-29 23:55": "10", "11-30 20:00": "12", "12-01 00:05": "3"}[at]
        book.seen(at, {1: grown, 2: parts, 3: parts, 4: "7" if at < "12" else "0"})
    book.seen("12-01 23:55", {1: "4", 2: "1", 3: "1", 4: "0"})
    found = figures(book)
    assert found[1] == ("12", "uncertain")
    assert found[4][1] == "uncertain", "it is first seen in the month"
    assert book.report().accounts[0].end_doubt == "in parts"
    assert next(line for line in book.report().accounts if line.sub_account_id == 4).end_doubt == ""


def test_use_between_the_turns_of_two_parts_is_in_doubt_although_the_balance_explains_it(book: Book) -> None:
    """The part that was 0 started again before it was used, the other one after its last use."""
    for at, parts, cost, balance in (
        ("11-29 23:55", "9", "1", "99"),
        ("11-30 20:00", "5", "1", "99"),
        ("12-01 00:05", "1", "2", "98"),
        ("12-01 23:55", "1", "1", "97"),
    ):
        money(book, at, {1: (cost, balance), 2: (parts, "0"), 3: (parts, "0")})
    assert figures(book)[1] == ("2", "uncertain")
    [line] = [line for line in book.report().accounts if line.sub_account_id == 1]
    assert (line.end_doubt, line.lower_bound) == ("in parts", Decimal(1))


def test_what_is_gone_before_all_parts_fell_is_in_doubt(book: Book) -> None:
    for at, cost in (("11-29 23:55", "9"), ("11-30 20:00", "5"), ("12-01 00:05", "1")):
        book.seen(at, {1: cost, 2: cost, 3: "7" if at < "11-30" else "0"})
    book.deleted("12-01 00:30", {3: "2"})
    book.seen("12-02 23:55", {1: "1", 2: "1"})
    assert figures(book, DECEMBER)[3] == ("2", "uncertain")
    assert book.report(DECEMBER).accounts[-1].lower_bound == 0


def test_a_first_use_just_before_the_turn_may_be_of_the_next_month(new_book: Any, clock: Clock) -> None:
    """It stood still since October, and nobody has looked since."""
    book = new_book("first use")
    for at in ("10-30 23:55", "10-31 23:58", "11-01 00:05", "11-02 23:55", "11-30 20:00"):
        book.seen(at, {1: "9"})
    book.seen("11-30 23:55", {1: "11"})
    clock.at = local("12-01 00:30")
    [line] = book.report().accounts
    assert (line.certainty, line.lower_bound) == ("uncertain", 0)


def test_the_balance_tells_growth_from_a_hidden_reset(book: Book) -> None:
    """A key is used for the first time on the day after the turn."""
    money(book, "11-30 23:58", {1: ("0", "100")})
    money(book, "12-01 00:05", {1: ("0", "100")})
    money(book, "12-01 23:55", {1: ("5", "95")})
    money(book, "12-02 23:55", {1: ("8", "92")})
    assert figures(book)[1] == ("0", "certain")
    assert figures(book, DECEMBER)[1] == ("8", "certain")


def test_an_account_that_was_deleted_on_the_last_evening_is_no_doubt_of_the_next_month(book: Book) -> None:
    """Its balance moved with its costs, so no reset hides in its growth."""
    for at, cost in (("11-10 12:00", 10), ("11-29 12:00", 10), ("11-30 12:00", 11)):
        money(book, at, {1: (f"{cost}", f"{100 - cost}"), 2: ("3", "97")})
    money(book, "11-30 22:00", {1: ("12", "88")}, kind=DELETED)
    for at, used in (("11-30 23:58", "3"), ("12-01 00:05", "0"), ("12-02 12:00", "1"), ("12-31 23:00", "1")):
        money(book, at, {2: (used, "96")})
    book.clock.at = local("12-31 23:30")
    assert figures(book)[1] == ("12", "certain")
    assert figures(book, DECEMBER) == {2: ("1", "certain")}


@pytest.mark.parametrize("more", [(), ("12-01 09:00", "12-01 10:00", "12-01 11:00")], ids=["daily", "hourly"])
def test_use_from_0_since_the_turn_is_in_some_month_however_often_one_looks(
    new_book: Any, clock: Clock, more: tuple[str, ...]
) -> None:
    book = new_book("looks")
    for at in ("11-29 12:00", "11-30 23:55", "12-01 00:05", *more, "12-01 23:55", "12-19 12:00"):
        book.seen(at, {1: "80" if at >= "12-01 10:00" else "0", 2: "0"})
    book.seen("12-20 12:00", {2: "0"})
    clock.at = local("12-21 12:00")
    [line, _] = book.report("2026-12").accounts
    assert (line.month_to_date, line.lower_bound) == (Decimal(80), Decimal(0))


def test_a_first_use_in_the_last_days_of_a_month_may_hide_a_reset(new_book: Any, clock: Clock) -> None:
    """The platform resets at the first use, and the account is gone before the month is over."""
    book = new_book("late")
    looks = (("10-30", "4", "96"), ("10-31", "5", "95"), ("11-28", "5", "95"), ("11-29", "6", "89"))
    for day, cost, balance in looks:
        money(book, f"{day} 23:55", {1: (cost, balance), 2: ("0", "9")})
    money(book, "11-30 12:00", {1: ("6", "89")}, kind=DELETED)
    for at in ("11-30 23:55", "12-01 00:05", "12-01 23:55"):
        money(book, at, {2: ("0", "9")})
    clock.at = local("12-03 12:00")
    assert figures(book)[1] == ("1", "uncertain")


def test_growth_that_the_balance_does_not_explain_may_hide_a_reset(book: Book) -> None:
    book.seen("11-30 23:58", {1: "0"})
    book.seen("12-01 00:05", {1: "0"})
    book.seen("12-01 23:55", {1: "5"})
    assert figures(book)[1] == ("0", "uncertain")
    assert book.report().unseen_minutes == 1430


def test_doubt_comes_first_and_says_how_much_it_is(new_book: Any, clock: Clock) -> None:
    book = new_book("gap")
    book.seen("10-31 23:58", {1: "0", 2: "0"})
    book.seen("11-20 12:00", {1: "5", 2: "9"})
    clock.at = local("11-21 12:00")
    first, *others = book.report().warnings
    assert first.startswith("In doubt at the turn to 2026-11: ")
    assert "Of what is reported 14 may be another month's; the rest is a lower bound." in first
    assert any(text.startswith("No snapshot on ") for text in others)
    is_told = any("started again at another time" in text for text in others)
    assert not is_told, "growth is no turn that anybody saw"


def test_a_first_use_long_after_the_turn_suggests_no_time_zone(book: Book) -> None:
    book.seen("11-30 23:58", {1: "4"})
    book.seen("12-01 00:05", {1: "4"})
    book.seen("12-09 23:55", {1: "4"})
    book.seen("12-12 23:55", {1: "2"})
    assert figures(book)[1] == ("4", "certain")
    assert not any("started again at another time" in text for text in book.report().warnings)


def test_a_counter_below_0_at_first_sight(book: Book) -> None:
    """It is an opening, not a fall as well; and less than that nobody can know."""
    book.seen("11-10 09:00", {3: "-1"})
    [line] = [line for line in book.report().accounts if line.sub_account_id == 3]
    assert (line.month_to_date, line.opening, line.falls, line.increases) == (-1, -1, 0, 0)
    assert line.lower_bound == -1


@pytest.mark.parametrize(
    ("before", "around", "after", "least"),
    [
        ("-1", "-3", "0", ("-3", "0")),  # a refund, and a reset that makes it rise
        ("-3", "-3", "0", ("-3", "0")),
        ("10", "-3", "0", ("-3", "0")),  # a refund of 13 and a reset, or the other way round
        ("10", "10", "-3", ("-3", "-3")),
        ("-2", "3", "1", ("-2", "0")),
    ],
)
def test_a_counter_below_0_around_the_turn_is_in_doubt(
    book: Book, before: str, around: str, after: str, least: tuple[str, str]
) -> None:
    book.seen("11-29 23:55", {1: before})
    book.seen("11-30 23:58", {1: around})
    book.seen("12-01 00:05", {1: after})
    assert figures(book)[1] == (least[0], "uncertain")
    assert figures(book, DECEMBER)[1] == (least[1], "uncertain")


def test_a_control_total_that_was_read_in_another_month_s_counters_is_left_out(book: Book) -> None:
    """It and the counter started again before the assumed turn: 3 used, of which 1 by the account."""
    book.seen("11-29 23:55", {1: "8"})
    for at, cost in (("11-30 20:00", "0.5"), ("11-30 23:58", "1"), ("12-01 00:05", "1")):
        book.seen(at, {1: cost})
    book.control("11-30 23:58", "3")
    report = book.report()
    assert (report.control, report.main_difference) == (None, None)
    assert any("Left out: the control total" in text for text in report.warnings)
    book.control("11-29 23:55", "9")
    report = book.report()
    assert report.control is not None
    assert (report.control.used, report.main_difference) == (9, 1), "the one before it"
    book.seen("12-02 00:05", {1: "1"})
    book.control("12-02 00:05", "4")
    assert book.report(DECEMBER).main_difference == 3
