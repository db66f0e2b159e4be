"""What is derived of a lower bound says so: on pages, in tables, JSON, FOCUS, SQL, alerts and the digest."""

from __future__ import annotations

import csv
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.costs import ReportResult

OWNERS = {"a.*": "A", "b.*": "B", "c.*": {"split": {"A": 50, "C": 50}}}
OPTIONS: dict[str, Any] = {
    "owners": OWNERS,
    "budgets": {"A": 2, "B": 10},
    "thresholds": ["80%", "forecast 100%", "balance", "spike 300% over 1"],
    "statements": True,
}
FORMATS = ["html", "csv", "json", "focus", "focus-csv"]


@pytest.fixture
def book(book: Book, clock: Clock) -> Book:
    """Over the turn to November 1 grows, 2 falls once, 3 is shared and grows, 4 is made and goes."""
    for at in ("09-30 23:58", "10-01 00:05", "10-02 00:05"):
        book.seen(at, {1: ("0", "a.1"), 2: ("0", "b.1"), 3: ("0", "c.1")})
    book.seen("10-30 23:55", {1: ("2", "a.1"), 2: ("9", "b.1"), 3: ("0", "c.1")})
    book.seen("10-31 23:58", {1: ("2", "a.1"), 2: ("9", "b.1"), 3: ("0", "c.1")})
    book.seen("11-01 00:05", {1: ("2", "a.1"), 2: ("0", "b.1"), 3: ("0", "c.1")})
    book.deleted("11-01 05:00", {4: ("7", "d.1", "2026-10-31T20:00:00+08:00")})
    book.seen("11-01 23:55", {1: ("8", "a.1"), 2: ("1", "b.1"), 3: ("4", "c.1")})
    book.seen("11-10 23:55", {1: ("8", "a.1"), 2: ("9", "b.1"), 3: ("4", "c.1")})
    clock.at = local("11-11 12:00")
    return book


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def result(book: Book, tmp_path: Path) -> ReportResult:
    return book.publish(tmp_path / "out", FORMATS, **OPTIONS)


def test_tables_say_it(result: ReportResult) -> None:
    certain = {"A": "uncertain", "B": "certain", "C": "uncertain", "Unallocated": "uncertain"}
    owners = {row["team"]: row for row in rows(result.files["owners.csv"])}
    assert {team: row["certainty"] for team, row in owners.items()} == certain
    # Of the shared account's 4 all may be October's, and each owner has half of both.
    bounds = {
        team: Decimal(row["month_to_date"]) - Decimal(row["lower_bound"]) for team, row in owners.items()
    }
    assert bounds["C"] == 2
    assert {row["month_certainty"] for row in owners.values()} == {"uncertain"}
    budgets = {row["team"]: row for row in rows(result.files["budgets.csv"])}
    assert {team: row["certainty"] for team, row in budgets.items()} == {"A": "uncertain", "B": "certain"}
    days = rows(result.files["days.csv"])
    assert {row["certainty"] for row in days if row["alias"] == "b.1"} == {"certain"}
    assert {row["certainty"] for row in days if row["alias"] != "b.1"} == {"uncertain"}
    assert {row["month_certainty"] for row in rows(result.files["accounts.csv"])} == {"uncertain"}


def test_owners_lower_bounds_are_those_of_accounts(result: ReportResult) -> None:
    report = result.report
    accounts = sum((line.lower_bound for line in report.accounts), Decimal(0))
    assert sum((line.lower_bound for line in report.owners), Decimal(0)) == report.lower_bound == accounts
    assert report.lower_bound < report.totals.month_to_date


def test_json_says_it(result: ReportResult) -> None:
    found = json.loads(Path(result.files["json"]).read_text())
    assert found["certainty"] == found["year_to_date"]["certainty"] == "uncertain"
    assert {line["team"]: line["certainty"] for line in found["owners"]}["C"] == "uncertain"
    assert {line["team"]: line["certainty"] for line in found["budgets"]} == {
        "A": "uncertain",
        "B": "certain",
    }
    # October: account 1 only grew at its end.
    assert found["last_month"]["certainty"] == "uncertain"
    assert "B" not in found["last_month"]["uncertain_teams"]


def test_focus_has_a_row_for_an_uncertain_account_that_cost_nothing(result: ReportResult) -> None:
    found = [row for row in rows(result.files["focus"]) if row["SubAccountName"] == "d.1"]
    assert [(row["EffectiveCost"], row["x_Kind"], row["x_Certainty"]) for row in found] == [
        ("0", "uncertain", "uncertain")
    ]


def test_focus_keeps_that_row_when_something_is_booked_after_the_close(
    new_book: Any, clock: Clock, tmp_path: Path
) -> None:
    """What is booked later is a row of the period in which it is booked."""
    book = new_book("closed")
    for at in ("10-31 23:55", "11-01 00:05", "11-29 23:55"):
        book.seen(at, {1: "0"})
    for at in ("11-30 23:55", "12-01 00:05"):
        book.seen(at, {1: "5"})
    clock.at = local("12-01 00:06")
    book.close(even_if_uncertain=True)
    for _ in range(2):
        found = rows(book.publish(tmp_path, "focus").files["focus"])
        assert [(row["EffectiveCost"], row["x_Kind"], row["x_Certainty"]) for row in found] == [
            ("0", "uncertain", "uncertain")
        ]
        clock.at = local("12-01 09:00")
        book.note(sub_account_id=1, amount="1.5")


def test_pages_say_it_beside_each_figure(result: ReportResult) -> None:
    page = Path(result.files["html"]).read_text()
    cards = dict(
        re.findall(r'<div class="card[^"]*"><div class="soft">([^<]*)</div>(.*?</div>.*?</div>)', page, re.S)
    )
    for name in ("Forecast of the month", "Budgets used", "Last month", "Year to date"):
        assert "uncertain" in cards[name], name
    teams = dict(re.findall(r'<tr><th scope="row" class="team" title="([^"]*)">(.*?)</tr>', page, re.S))
    assert teams["A"].count('class="doubt"') >= 4  # its cost, what it used, its forecast, last month
    assert "doubt" not in teams["B"]
    assert "Shares are of an uncertain total." in page
    assert "Of it certain" in page
    statement = Path(result.files["statement A"]).read_text()
    assert statement.count('class="doubt"') >= 4
    assert "uncertain" not in Path(result.files["statement B"]).read_text()


def test_the_digest_and_alerts_say_it(result: ReportResult) -> None:
    [line] = [line for line in result.digest.splitlines() if line.startswith("- A: ")]
    assert "uncertain: " in line
    assert "At this rate it will be" in result.headline
    assert "(uncertain)" in result.headline
    alerts = {(alert.team, alert.threshold): alert for alert in result.alerts}
    assert alerts["A", "80%"].is_lower_bound
    assert "is certain" in alerts["A", "80%"].text
    assert not alerts["B", "80%"].is_lower_bound
    assert alerts["A", "forecast 100%"].is_lower_bound
    assert " or more" in alerts["A", "forecast 100%"].text


def test_what_was_settled_after_a_close_is_booked_by_the_next(new_book: Any, clock: Clock) -> None:
    book = new_book("settled")
    for at in ("09-30 23:58", "10-01 00:05", "10-02 00:05"):
        book.seen(at, {1: "0"})
    book.seen("10-31 23:58", {1: "10"})
    book.seen("11-01 00:05", {1: "10"})
    clock.at = local("11-01 00:10")
    book.close("2026-10", even_if_uncertain=True)
    [line] = book.report("2026-10").accounts
    was = line.month_to_date
    book.seen("11-01 12:00", {1: "11"})
    book.seen("11-01 20:00", {1: "2"})  # it started again at another time than was thought
    clock.at = local("11-05 12:00")
    report = book.report("2026-10")
    assert (report.accounts[0].month_to_date, report.accounts[0].certainty) == (was, "uncertain")
    assert report.status == "estimated"
    assert any("Closing the month again books the difference." in text for text in report.warnings)
    book.close("2026-10", run="d" * 12)
    [line] = book.report("2026-10").accounts
    assert (line.month_to_date, line.certainty) == (Decimal(11), "certain")


def test_what_is_settled_with_the_figure_that_was_closed_is_certain_in_the_next_month_too(
    new_book: Any, clock: Clock, tmp_path: Path
) -> None:
    book = new_book("settled")
    for at in ("09-30 23:58", "10-01 00:05", "10-02 00:05"):
        book.seen(at, {1: "0"})
    for at in ("10-31 14:00", "10-31 23:58", "11-01 00:05"):
        book.seen(at, {1: "10"})
    clock.at = local("11-01 00:10")
    book.close("2026-10", even_if_uncertain=True)
    book.seen("11-01 12:00", {1: "0"})
    clock.at = local("11-01 12:05")
    assert "October 2026 cost 10.0000 (uncertain)." in book.publish(tmp_path, "json").headline
    assert book.close("2026-10", run="d" * 12) is not None
    assert book.close("2026-10", run="e" * 12) is None
    assert "October 2026 cost 10.0000." in book.publish(tmp_path, "json").headline


def test_a_closed_month_keeps_its_figures_when_a_later_part_of_the_reset_is_seen(
    new_book: Any, clock: Clock
) -> None:
    """10, 4, 0: a reset in two parts, or a refund of 6 and a reset. It was closed before the second fall."""
    book = new_book("closed")
    book.seen("10-31 23:58", {1: "0"})
    for at in ("11-01 00:05", "11-02 00:05"):
        book.seen(at, {1: "0"})
    for at in ("11-30 14:00", "11-30 23:55"):
        book.seen(at, {1: "10"})
    book.seen("12-01 00:05", {1: "4"})
    clock.at = local("12-01 00:10")
    book.close()
    book.seen("12-01 06:00", {1: "0"})
    book.seen("12-01 23:55", {1: "1"})
    clock.at = local("12-02 12:00")
    assert book.close(run="d" * 12) is None  # what is in doubt is no difference
    [line] = book.report().accounts
    assert (line.month_to_date, line.lower_bound, line.certainty) == (Decimal(10), Decimal(4), "uncertain")
    assert any("Of what is reported 6 may be another month's" in text for text in book.report().warnings)
    [after] = book.report("2026-12").accounts
    assert (after.month_to_date, after.certainty) == (Decimal(1), "uncertain")
