"""Budget alerts: exact thresholds, each told once."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import (
    CloseRefused,
    CloseRequest,
    NothingToDo,
    record_control_difference,
)
from airflow_provider_closeai.costs.accounting.alerts import parse_thresholds, reached_alerts
from airflow_provider_closeai.costs.store.kinds import ALERTS


@pytest.mark.parametrize(
    ("cost", "names"),
    [
        ("7.99999999", []),
        ("8", ["80%"]),
        ("9.99999999", ["80%"]),
        ("10", ["80%", "100%"]),
        ("11", ["80%", "100%"]),
    ],
)
def test_thresholds_are_exact(book: Book, cost: str, names: list[str]) -> None:
    book.seen("11-01 12:00", {1: cost})  # too early for a forecast
    report = book.report(owners={"*": "A"}, budgets={"A": 10})
    thresholds = parse_thresholds(["80%", "100%", "forecast 100%", "80.0 %"])
    assert [alert.threshold for alert in reached_alerts(report, thresholds)] == names


@pytest.mark.parametrize("text", ["80%", "forecast 80%"])
def test_no_threshold_is_reached_by_rounding(book: Book, text: str) -> None:
    budget, cost = Decimal("100000000000.000000000000000001"), Decimal("80000000000")
    book.seen("10-31 23:58", {1: "0"})
    book.turn("11", [1])
    book.deleted("11-16 00:00", {1: str(cost)})  # so its forecast is what it spent
    book.seen("11-16 00:05", {})
    for spent, reached in ((budget, 0), (budget - Decimal("1e-17"), 1)):
        report = book.report(owners={"*": "A"}, budgets={"A": spent})
        assert len(reached_alerts(report, parse_thresholds(text))) == reached


def test_an_alert_rounds_as_the_pages_do(book: Book, tmp_path: Path) -> None:
    book.seen("11-01 12:00", {1: "1000.125"})
    result = book.publish(tmp_path, "json", owners={"*": "A"}, budgets={"A": "1000.005"})
    assert result.alerts[0].text.startswith("A has spent 1,000.13 CNY")
    assert "of its budget of 1,000.01 CNY" in result.alerts[0].text
    assert "- A: over budget, 1,000.13 of 1,000.01 CNY" in result.digest


def test_the_forecast_must_be_above(book: Book) -> None:
    book.seen("10-31 23:50", {1: "9"})
    book.seen("11-16 00:00", {1: "5"})
    report = book.report(owners={"*": "A"}, budgets={"A": "10"})
    assert report.forecast == 10
    assert reached_alerts(report, parse_thresholds(["forecast 100%"])) == []
    report = book.report(owners={"*": "A"}, budgets={"A": "9.99"})
    [alert] = reached_alerts(report, parse_thresholds("forecast 100 %"))
    assert alert.text == (
        "A is forecast to spend 10.00 CNY in 2026-11: 100.1 % of its budget of 9.99 CNY (threshold forecast "
        "100%)."
    )
    assert alert.record()["amount"] == "10.00000000"


def test_a_month_that_began_with_its_accounts(book: Book) -> None:
    created = "2026-11-11T00:00:00+08:00"
    book.seen("11-12 00:00", {1: ("1", "a", created)})
    book.seen("11-16 00:00", {1: ("5", "a", created)})
    assert book.report().forecast == 20  # a day costs 1: 20 of its days, not 30


def test_each_account_goes_on_at_its_own_rate(book: Book) -> None:
    created = "2026-11-21T00:00:00+08:00"
    book.seen("10-31 23:50", {1: "9"})
    book.seen("11-22 12:00", {1: "0", 2: ("15", "new", created)})
    report = book.report(owners={"new": "A"}, budgets={"A": 50})
    assert report.forecast == 100, "1.5 days of ten"
    assert [line.observed_days for line in report.accounts] == [1, 1]
    assert [alert.threshold for alert in reached_alerts(report, parse_thresholds("forecast 100%"))] == [
        "forecast 100%"
    ]


def test_forecasts_add_up(book: Book) -> None:
    book.seen("10-31 23:50", {1: "9", 2: "9", 3: "9"})
    book.seen("11-10 00:00", {1: "3.00000001", 2: "1", 3: "0.1"})
    book.deleted("11-10 00:01", {2: "1"})
    book.seen("11-11 00:00", {1: "3.00000001", 3: "0.1"})
    book.note(sub_account_id=3, amount="-0.03")
    report = book.report(owners={"a-1": "A"}, budgets={"A": 10, "Nobody": 1})
    assert {line.sub_account_id: line.observed_days for line in report.accounts} == {1: 2, 2: 1, 3: 2}
    # Ten of thirty days: what lives triples, what is gone and what was appended stays as it is.
    assert {line.sub_account_id: line.forecast for line in report.accounts} == {
        1: Decimal("9.00000003"),
        2: 1,
        3: Decimal("0.27"),
    }
    assert {line.owner.team: line.forecast for line in report.owners} == {
        "A": Decimal("9.00000003"),
        "Unallocated": Decimal("1.27"),
    }
    assert [line.forecast for line in report.budgets] == [Decimal("9.00000003"), None]
    assert report.forecast == Decimal("10.27000003")


def once(book: Book, run: str) -> list[str]:
    result = book.publish(
        book.ledger.root.parent,
        "json",
        run=run,
        owners={"*": "A"},
        budgets={"A": 10},
        thresholds=["80%", "100%"],
    )
    return [alert.threshold for alert in result.alerts]


def test_each_once(book: Book) -> None:
    book.seen("11-01 12:00", {1: "8"})
    assert once(book, "a" * 12) == ["80%"]
    assert once(book, "a" * 12) == ["80%"]  # tried again: it may not have been told
    assert once(book, "b" * 12) == []
    book.seen("11-02 12:00", {1: "12"})
    assert once(book, "b" * 12) == ["100%"]
    assert once(book, "c" * 12) == []
    assert len(book.ledger.files(ALERTS, "2026-11")) == 2


def test_a_damaged_memory_tells_again(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.seen("11-01 12:00", {1: "8"})
    once(book, "a" * 12)
    [file] = book.ledger.files(ALERTS, "2026-11")
    (book.ledger.root / file.name).write_bytes(b"")
    assert once(book, "b" * 12) == ["80%"]
    assert "may be reported again" in caplog.text


@pytest.mark.parametrize("bad", ["80", "eighty%", "forecast", "-5%", ""])
def test_no_threshold(bad: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"thresholds: .* is none"):
        parse_thresholds([bad])


def test_spellings_of_a_threshold() -> None:
    assert [item.name for item in parse_thresholds("80 %, 100.0%, forecast  120%")] == [
        "80%",
        "100%",
        "forecast 120%",
    ]
    assert parse_thresholds(["80%"])[0].percent == Decimal(80)


def test_a_run_that_is_cleared_forgets_nothing_it_told(book: Book) -> None:
    book.seen("11-05 09:00", {1: "8"})
    assert once(book, "a" * 12) == ["80%"]
    book.seen("11-06 09:00", {1: "10"})
    assert once(book, "a" * 12) == ["80%", "100%"]
    assert once(book, "b" * 12) == []
    book.seen("11-07 09:00", {1: "1"})
    assert once(book, "a" * 12) == []
    book.seen("11-08 09:00", {1: "10"})
    assert once(book, "b" * 12) == []


def spend(book: Book, *costs: str | None) -> None:
    """A day costs this much, from 20 October on; ``None``: nobody looked."""
    total, day = Decimal(0), local("10-20 00:05")
    for cost in costs:
        day += timedelta(days=1)
        if cost is None:
            continue
        total = Decimal(cost) if day == local("11-02 00:05") else total + Decimal(cost)
        if day == local("11-01 00:05"):
            book.seen(day - timedelta(minutes=7), {1: total})
            total = Decimal(0)
        book.seen(day, {1: total})


def test_a_spike_is_against_the_accounts_own_four_weeks(book: Book) -> None:
    book.seen("10-20 00:05", {1: "0"})
    spend(book, *["2"] * 14, "6.2")
    thresholds = parse_thresholds(["spike 300% over 5"])
    report, previous = book.report(owners={"*": "A"}), book.report("2026-10")
    [alert] = reached_alerts(report, thresholds, previous)
    assert (alert.sub_account_id, alert.team, alert.day, alert.amount) == (
        1,
        "A",
        "2026-11-03",
        Decimal("6.2"),
    )
    assert alert.text.startswith("Account 1 (a-1, A) spent 6.20 CNY on 2026-11-03, and ")
    assert reached_alerts(report, parse_thresholds("spike 300% over 7"), previous) == []
    assert reached_alerts(report, parse_thresholds("spike 400% over 5"), previous) == []
    assert reached_alerts(report, thresholds, None) == [], "two days say nothing"


def test_two_snapshots_after_midnight_hide_no_spike(book: Book) -> None:
    """Two hosts, a few seconds apart: between the two nothing is spent, and what was is yesterday's."""
    for number in range(1, 22):
        at = local(f"11-{number:02} 00:05")
        for seconds in (0, 3):
            book.seen(at + timedelta(seconds=seconds), {1: 200 if number == 21 else number})
    [alert] = reached_alerts(book.report(), parse_thresholds("spike 300% over 5"))
    assert alert.day == "2026-11-20"


@pytest.mark.parametrize(("missed", "told"), [(0, 1), (1, 0), (4, 0)])
def test_what_several_days_cost_is_no_spike(book: Book, missed: int, told: int) -> None:
    """The snapshots' DAG was off: what the first one after it shows is of more days than one."""
    book.seen("10-20 23:55", {1: "0"})
    spend(book, *["2"] * 14, *[None] * missed, str(7 * (missed + 1)))
    report, previous = book.report(), book.report("2026-10")
    assert len(reached_alerts(report, parse_thresholds("spike 300% over 5"), previous)) == told


def test_a_spike_is_told_once(book: Book, tmp_path: Path) -> None:
    book.seen("10-20 00:05", {1: "0"})
    spend(book, *["2"] * 14, "9")
    options: dict[str, Any] = {"thresholds": ["spike 300% over 5"]}
    [alert] = book.publish(tmp_path, "json", run="a" * 12, **options).alerts
    assert alert.key == "spike 300% over 5 of account 1 on 2026-11-03"
    assert book.publish(tmp_path, "json", run="b" * 12, **options).alerts == []


def test_a_balance_that_will_not_last_the_month(book: Book) -> None:
    book.seen("10-31 23:58", {1: "9", 2: "9"})
    book.turn("11", [1, 2])
    book.seen("11-11 00:05", {1: "60", 2: "40"})  # each has 100, and 20 days to go
    [alert] = reached_alerts(book.report(), parse_thresholds("balance"))
    assert (alert.sub_account_id, alert.budget) == (1, Decimal(100))
    assert alert.text.endswith("and its balance is 100.00 CNY: it will not last the month.")


def test_a_control_difference_can_be_booked(book: Book) -> None:
    book.seen("10-31 23:58", {1: "9"})
    book.turn("11", [1])
    book.seen("11-11 00:05", {1: "60"})
    book.control("11-11 00:05", "62.5")
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    assert record_control_difference(request, clock=book.clock)
    report = book.report(owners={"id:0": "Platform", "*": "A"})
    assert {line.owner.team: line.month_to_date for line in report.owners} == {
        "A": Decimal(60),
        "Platform": Decimal("2.5"),
    }
    assert not any("no snapshot" in warning for warning in report.warnings)
    with pytest.raises(NothingToDo, match="booked already"):
        record_control_difference(request, clock=book.clock)
    book.seen("11-12 00:05", {1: "61"})
    book.control("11-12 00:05", "65")
    record_control_difference(request, clock=book.clock)
    assert book.report().totals.month_to_date == 65
    for number, amount in {2: "0.5", 3: "0.5"}.items():  # records that come late, from another host
        book.deleted("11-12 00:05", {number: (amount, f"a-{number}", "2026-11-11T12:00:00+08:00")})
        assert record_control_difference(request, clock=book.clock)
        assert book.report().totals.month_to_date == 65


def test_a_control_difference_leaves_a_credit_on_an_account_that_is_gone(book: Book) -> None:
    book.seen("10-31 23:58", {1: "9"})
    book.turn("11", [1])
    book.seen("11-11 00:05", {1: "70"})
    book.control("11-11 00:05", "75")
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    record_control_difference(request, clock=book.clock)
    book.note(sub_account_id=42, amount="-12.5", reason="credit note 117")
    with pytest.raises(NothingToDo, match="booked already"):
        record_control_difference(request, clock=book.clock)
    for amount in ("2", "-2"):  # a note with a wrong id, and the opposite amount
        book.note(sub_account_id=43, amount=amount, reason=f"of another account: {amount}")
    with pytest.raises(NothingToDo, match="booked already"):
        record_control_difference(request, clock=book.clock)
    assert book.report().totals.month_to_date == Decimal("62.5")


def test_two_control_differences_at_once_of_which_one_saw_more_count_once(book: Book) -> None:
    book.seen("10-31 23:58", {1: "9"})
    book.turn("11", [1])
    book.seen("11-11 00:05", {1: "5"})
    book.control("11-11 00:05", "15")
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    times = iter([local("11-12 12:00"), local("11-12 12:00"), local("11-12 12:02")])

    def clock() -> datetime:
        """Between a run's look and its booking another one sees more, and books it."""
        at = next(times)
        if at == local("11-12 12:02"):
            book.seen("11-12 00:05", {1: "6"})
            book.control("11-12 00:05", "18")
            record_control_difference(request, clock=lambda: local("11-12 12:01"))
        return at

    record_control_difference(request, clock=clock)
    assert book.report().totals.month_to_date == 16  # 6, and the 10 that were missing at first
    record_control_difference(request, clock=book.clock)
    assert book.report().totals.month_to_date == 18


def test_what_is_booked_of_an_account_that_nobody_saw_is_no_control_difference(
    book: Book, clock: Clock
) -> None:
    """Of account 9 there is a note, of 2 and 3 a closing; the credit note of 1 says nothing of its use."""
    book.seen("10-31 23:55", {1: "7", 3: "1"})
    book.turn("11", [1, 3])
    book.seen("11-10 12:00", {1: "50", 3: "20"})
    records = [book.deleted("11-20 12:00", {2: ("30", "b", "2026-11-19T12:00:00+08:00")})]
    records.append(book.deleted("11-21 12:00", {3: "40"}))
    book.seen("11-30 23:55", {1: "100"})
    book.control("11-30 23:55", "175")
    book.turn("12", [1])
    clock.at = local("12-01 00:06")
    assert book.report().main_difference == 5
    book.note(sub_account_id=9, amount="5", reason="came and went", alias="c")
    book.note(sub_account_id=1, amount="-1", reason="credit note")
    book.close()
    for record in records:
        assert book.report().main_difference == 0
        (book.ledger.root / record.name).unlink()
    assert book.report().main_difference == 0
    assert book.report().totals.month_to_date == 174
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    with pytest.raises(NothingToDo, match="is booked already"):
        record_control_difference(request, clock=clock)
    book.close()  # now the observations count: what the records had is in no sub-account
    assert book.report().totals.month_to_date == 124
    assert book.report().main_difference == 50
    assert record_control_difference(request, clock=clock)
    assert book.report().totals.month_to_date == 174


def test_a_note_where_the_month_begins_first(tmp_path: Path, clock: Clock) -> None:
    book = Book(tmp_path, clock, zone="Pacific/Kiritimati")
    book.seen("11-30 17:55", {1: "5"})
    book.seen("11-30 18:05", {1: "0"})
    clock.at = local("11-30 20:00")
    assert book.note("2026-12", sub_account_id=1, amount="3")


@pytest.mark.parametrize(
    "controls",
    [
        {"11-15 12:00": "58", "11-30 21:55": "110", "11-30 23:55": "1.2"},  # before them
        {"11-01 00:05": "210", "11-01 03:05": "0", "11-15 12:00": "58", "11-30 21:55": "110"},  # after
    ],
)
def test_the_main_account_s_own_counter_turns_by_itself(
    book: Book, clock: Clock, controls: dict[str, str]
) -> None:
    book.seen("10-31 23:55", {1: "7"})
    costs = {"11-01 00:05": "0", "11-01 03:05": "0", "11-15 12:00": "50"}
    for at, cost in {**costs, "11-30 21:55": "100", "11-30 23:55": "101"}.items():
        book.seen(at, {1: cost})
        if at in controls:
            book.control(at, controls[at])
        expected = None if at < "11-15" else Decimal(8 if at < "11-30" else 10)
        assert book.report().main_difference == expected, at
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    book.turn("12", [1])
    clock.at = local("12-01 00:06")
    assert record_control_difference(request, clock=clock)
    assert book.report().totals.month_to_date == 111


def test_a_control_total_of_another_month_is_left_out_and_booked_by_nobody(book: Book) -> None:
    """The platform turns hours later than assumed: all counters, and the total, are the old month's."""
    book.seen("10-31 23:55", {1: "100", 2: "100"})
    for at, seen in (("11-01 00:05", {1: "100", 2: "100"}), ("11-01 03:05", {1: "101", 2: "102"})):
        book.seen(at, seen)
        book.control(at, "250")
        report = book.report()
        assert (report.control, report.main_difference) == (None, None)
        assert any("Left out: the control total" in warning for warning in report.warnings)
        request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
        with pytest.raises(NothingToDo):
            record_control_difference(request, clock=book.clock)
    book.seen("11-02 00:05", {1: "1", 2: "2"})
    book.control("11-02 00:05", "4")
    assert book.report().main_difference == 1


def test_a_control_difference_over_a_lower_bound_is_not_booked(book: Book) -> None:
    book.seen("10-31 23:55", {1: "30"})
    book.seen("11-02 12:00", {1: "35"})  # perhaps 35 of November, perhaps 5
    book.control("11-02 12:00", "35")
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    with pytest.raises(CloseRefused, match=r"in doubt.*: account 1\. Where you know the amount"):
        record_control_difference(request, clock=book.clock)


@pytest.mark.parametrize(
    "first_day",
    [{"12:00": ("5", None, "2026-11-01T10:00:00+08:00")}, {"00:05": "4", "06:00": "0", "23:30": "5"}],
    ids=["made", "fell twice"],
)
def test_a_control_difference_is_booked_where_a_counter_in_doubt_is_shown_whole(
    book: Book, first_day: dict[str, Any]
) -> None:
    before = {2: "9"} if "00:05" in first_day else {}
    for at, cost in {"10-30 12:00": "20", "10-31 23:55": "30"}.items():
        book.seen(at, {1: cost, **before})
    for at, value in first_day.items():
        book.seen(f"11-01 {at}", {1: "0", 2: value})
    for at in ("11-02 12:00", "11-03 12:00"):
        book.seen(at, {1: "6", 2: "5"})
    book.control("11-03 12:00", "18")
    assert not book.report().accounts[1].is_certain
    request = CloseRequest.parse(ledger=book.ledger.root, month="2026-11", currency="CNY")
    assert record_control_difference(request, clock=book.clock)
    assert book.report().totals.month_to_date == 18


def test_a_team_in_doubt_has_spent_so_much_or_more(book: Book) -> None:
    book.seen("10-31 23:58", {1: "9", 2: "9"})
    book.seen("11-01 00:05", {1: "9.5", 2: "0"})
    book.seen("11-01 12:00", {1: "10", 2: "9"})
    report = book.report(owners={"*": "A"}, budgets={"A": "10"})
    [alert] = reached_alerts(report, parse_thresholds("80%"))
    assert alert.is_lower_bound
    assert alert.text.startswith("A has spent 9.00 CNY or more in 2026-11")


def test_the_asset_s_metadata_has_the_first_alerts(book: Book, tmp_path: Path) -> None:
    """Each event stays in Airflow's database: ten thousand alerts were 4 MB there."""
    for at, cost in (("10-31 23:58", "9"), ("11-01 00:05", "0"), ("11-11 00:05", "60")):
        book.seen(at, dict.fromkeys(range(1, 103), cost))
    result = book.publish(tmp_path, "json", thresholds="balance")
    published = result.published()
    assert (len(result.record()["alerts"]), len(published["alerts"]), published["more_alerts"]) == (
        102,
        100,
        2,
    )
