"""Budget alerts: exact thresholds, each told once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from books import Book

from airflow_provider_closeai.client.errors import InvalidParameter
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
