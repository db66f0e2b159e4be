"""The report's files: exact, adding up, safe to open."""

from __future__ import annotations

import contextlib
import csv
import decimal
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import parse_currency
from airflow_provider_closeai.costs.render.files import parse_formats
from airflow_provider_closeai.costs.store.files import atomic_write

EVIL = '=HYPERLINK("http://evil.example","x")'


@pytest.fixture
def rich(book: Book) -> Book:
    book.seen("11-04 09:00", {1: ("1", "search.a"), 2: ("2", EVIL)})
    book.seen(
        "11-05 09:00",
        {1: ("1.00000001", "search.a"), 2: ("1.5", EVIL), 3: ("0.1", '多,"x"', "2026-11-04T10:00:00+08:00")},
    )
    book.note(sub_account_id=3, amount="-0.05")
    return book


def written(book: Book, folder: Path, *formats: str, **options: Any) -> dict[str, Path]:
    owners = {"search.*": {"team": "Search", "cost_center": "CC-1"}}
    files = book.publish(folder, formats, owners=owners, budgets={"Search": 4}, **options).files
    return {name: Path(path) for name, path in files.items()}


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))


def test_csv_adds_up(rich: Book, tmp_path: Path) -> None:
    files = written(rich, tmp_path / "out", "csv")
    assert sorted(files) == ["accounts.csv", "budgets.csv", "days.csv", "owners.csv"]
    assert files["owners.csv"].read_bytes().startswith(b"\xef\xbb\xbfbilling_month,currency,status,team")
    total = Decimal("2.55000001")
    for name, column in (
        ("owners.csv", "month_to_date"),
        ("accounts.csv", "month_to_date"),
        ("days.csv", "amount"),
    ):
        lines = table(files[name])
        assert sum(Decimal(line[column]) for line in lines) == total, name
        assert {(line["billing_month"], line["currency"], line["status"]) for line in lines} == {
            ("2026-11", "CNY", "open")
        }
    owners = {line["team"]: line for line in table(files["owners.csv"])}
    assert (owners["Search"]["month_to_date"], owners["Search"]["share_percent"]) == ("1.00000001", "39.2157")
    assert owners["Unallocated"]["adjustments"] == "-0.05"
    days = [
        (line["day"], line["kind"], line["sub_account_id"], line["amount"])
        for line in table(files["days.csv"])
    ]
    assert sorted(days) == [
        ("", "adjustment", "3", "-0.05"),
        ("", "opening", "1", "1"),
        ("", "opening", "2", "2"),
        ("2026-11-04", "correction", "2", "-0.5"),
        ("2026-11-04", "increase", "1", "0.00000001"),
        ("2026-11-04", "increase", "3", "0.1"),
    ]
    of_budget = [
        (line["team_budget"], line["team_budget_percent"], line["sub_account_id"])
        for line in table(files["accounts.csv"])
    ]
    assert of_budget == [("", "", "2"), ("4", "25.0000", "1"), ("", "", "3")]
    [budget] = table(files["budgets.csv"])
    assert (budget["actual"], budget["used_percent"]) == ("1.00000001", "25.0000")


def test_csv_runs_no_formula(rich: Book, tmp_path: Path) -> None:
    files = written(rich, tmp_path, "csv", "focus")
    for path in files.values():
        for line in csv.reader(io.StringIO(path.read_text("utf-8-sig"))):
            for cell in line:
                assert cell[:1] not in tuple("=+@\t\r") or not cell
                assert not cell.startswith("-") or Decimal(cell) < 0
    assert "'" + EVIL in {line["alias"] for line in table(files["accounts.csv"])}


def test_json_is_exact(rich: Book, tmp_path: Path) -> None:
    found = json.loads(written(rich, tmp_path, "json")["json"].read_text())
    assert found["totals"] == {
        "month_to_date": "2.55000001",
        "opening": "3",
        "increases": "0.10000001",
        "corrections": "-0.5",
        "adjustments": "-0.05000000",
    }
    accounts = {line["sub_account_id"]: line for line in found["accounts"]}
    assert accounts[2]["alias"] == EVIL
    assert (accounts[1]["team_budget"], accounts[1]["team_budget_percent"]) == ("4", "25.0000")
    assert (accounts[2]["team_budget"], accounts[2]["team_budget_percent"]) == (None, None)
    assert accounts[2]["daily"] == {"2026-11-04": "-0.5"}
    assert (
        found["owners"][0]["daily"] == {"2026-11-04": "-0.39999999"} or found["owners"][0]["team"] == "Search"
    )
    assert (found["currency"], found["status"], found["observed_days"]) == ("CNY", "open", 2)
    assert len(found["evidence"]) == 2
    assert found["appended"][0]["reason"] == "note"


def test_parquet_is_decimal(rich: Book, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    files = written(rich, tmp_path, "parquet")
    days = parquet.read_table(files["days.parquet"])
    assert str(days.schema.field("amount").type) == "decimal128(38, 8)"
    assert str(days.schema.field("observed_to").type) == "timestamp[us, tz=UTC]"
    assert sum(days["amount"].to_pylist()) == Decimal("2.55000001")
    accounts = parquet.read_table(files["accounts.parquet"])
    assert EVIL in accounts["alias"].to_pylist()


def test_focus_layout(rich: Book, tmp_path: Path) -> None:
    lines = table(written(rich, tmp_path, "focus", billed_cost="zero")["focus"])
    assert [name for name in lines[0] if name.startswith("x_")] == [
        "x_Completeness",
        "x_Kind",
        "x_LocalMonth",
        "x_Certainty",
        "x_UnseenMinutes",
    ]
    assert sum(Decimal(line["EffectiveCost"]) for line in lines) == Decimal("2.55000001")
    assert {line["BilledCost"] for line in lines} == {"0"}
    first = next(line for line in lines if line["SubAccountId"] == "3" and line["x_Kind"] == "increase")
    assert first["BillingPeriodStart"] == "2026-10-31T16:00:00Z"
    assert first["BillingPeriodEnd"] == "2026-11-30T16:00:00Z"
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == (
        "2026-11-04T02:00:00Z",
        "2026-11-05T01:00:00Z",
    )
    assert (first["BillingCurrency"], first["ChargeCategory"], first["ChargeClass"]) == ("CNY", "Usage", "")
    search = next(line for line in lines if line["SubAccountId"] == "1")
    assert json.loads(search["Tags"]) == {"team": "Search", "cost_center": "CC-1"}
    with pytest.raises(InvalidParameter, match="billed_cost: 'some' is not one of effective, zero"):
        written(rich, tmp_path, "focus", billed_cost="some")


def focus(book: Book, month: str, folder: Path) -> list[dict[str, str]]:
    return table(Path(book.publish(folder, ["focus"], month).files["focus"]))


def amounts(lines: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(line["EffectiveCost"], line["x_Kind"], line["ChargeClass"]) for line in lines]


def test_focus_counts_nothing_twice(book: Book, clock: Clock, tmp_path: Path) -> None:
    """Corrections of a closed month are rows of the open one, and the closed one's rows stay."""

    def correct(amount: str, reason: str) -> None:
        book.note(sub_account_id=1, amount=amount, reason=reason)

    book.seen("11-30 23:50", {1: "10"})
    clock.at = local("12-01 00:05")
    correct("0.5", "before the closing")
    assert amounts(focus(book, "2026-11", tmp_path)) == [("10", "opening", ""), ("0.5", "manual", "")]
    book.seen("12-01 00:05", {1: "0"})
    assert amounts(focus(book, "2026-12", tmp_path)) == []
    clock.at = local("12-01 00:06")
    book.close()
    clock.at = local("12-03 09:00")
    book.seen("12-03 09:00", {1: "1"})
    correct("-2", "credit note")
    book.deleted("11-30 23:59", {1: "10.25"})  # late evidence
    november = focus(book, "2026-11", tmp_path)
    assert amounts(november) == [
        ("10", "opening", ""),
        ("0.25", "increase", ""),
        ("0.5", "manual", ""),
        ("-0.25", "closed", ""),
    ]
    assert sum(Decimal(line["EffectiveCost"]) for line in november) == Decimal("10.5")
    december = focus(book, "2026-12", tmp_path)
    assert amounts(december) == [("1", "increase", ""), ("-2", "manual", "Correction")]
    assert december[1]["BillingPeriodStart"] == "2026-11-30T16:00:00Z"
    assert december[1]["ChargePeriodStart"] == "2026-10-31T16:00:00Z"
    clock.at = local("12-31 23:59")
    assert len(focus(book, "2026-12", tmp_path)) == 2


@pytest.mark.parametrize(
    ("source", "told"), [("pdf", "'pdf'"), ([], "none given"), ("", "''"), (None, "none given")]
)
def test_unknown_formats(source: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=f"formats: {told}; there are html, csv"):
        parse_formats(source)
    assert parse_formats("html, CSV,html") == ("html", "csv")


@pytest.mark.parametrize("bad", [None, "", "RMB", "rmb", "cny", "¥", "CNYX", 5])
def test_a_currency_is_required(bad: Any) -> None:
    with pytest.raises(InvalidParameter, match="currency: "):
        parse_currency(bad)
    assert parse_currency("CNY") == "CNY"


def test_budgets_may_have_more_decimals_than_costs(book: Book, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    book.seen("11-05 09:00", {1: "10"})
    budgets = {"A": "12.0000000001"}
    files = book.publish(tmp_path / "out", ["parquet"], owners={"*": "A"}, budgets=budgets).files
    assert pq.read_table(files["budgets.parquet"])["budget"].to_pylist() == [Decimal("12.0000000001")]


def test_an_error_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), atomic_write(tmp_path / "report.csv") as file:
        file.write(b"half of it")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_days_are_exact_however_long(book: Book) -> None:
    book.seen("10-31 23:55", {1: "0"})
    for day, cost in enumerate(("1E23", "100000000000000000000000.000000010000000001"), 1):
        book.seen(f"11-0{day} 11:00", {1: cost})
        book.seen(f"11-0{day} 12:00", {1: Decimal(cost) + Decimal("1E-18")})
    with decimal.localcontext(decimal.Context(prec=60)):
        [line] = book.report().accounts
        assert sum(line.daily.values()) == line.month_to_date


def test_two_writers_of_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "r.html") as first, atomic_write(tmp_path / "r.html") as second:
        first.write(b"first")
        second.write(b"second, longer")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"first"]


def test_what_goes_wrong_elsewhere_is_not_the_files_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "x.csv"):
        (tmp_path / "elsewhere").read_bytes()


def test_focus_without_what_is_damaged(book: Book, clock: Clock, tmp_path: Path) -> None:
    book.seen("10-31 23:55", {1: "10"})
    book.turn("11", [1])
    clock.at = local("11-01 00:06")
    book.close("2026-10", even_if_uncertain=True)
    clock.at = local("11-05 09:00")
    book.note("2026-10", sub_account_id=1, amount="-1")
    [file] = book.ledger.files("adjustments", "2026-10")
    (book.ledger.root / file.name).write_bytes(b"")
    book.seen("11-05 09:00", {1: "1"})
    result = book.publish(tmp_path / "out", ["html", "focus"])
    assert "Not in the FOCUS file: lines appended to 2026-10." in result.report.warnings[-1]
    assert "Not in the FOCUS file" in Path(result.files["html"]).read_text()


def test_no_page_and_no_digest_turns_its_writing(book: Book, tmp_path: Path) -> None:
    """Not by an alias, a team's name, a cost center or the account's name."""
    turn = "\u202e\u2066"
    book.seen("11-05 09:00", {1: ("10", f"a{turn}")})
    owners = {"a*": {"team": f"T{turn}", "cost_center": f"C{turn}"}}
    options: dict[str, Any] = {"owners": owners, "budgets": {f"T{turn}": 1}, "account": f"m{turn}"}
    result = book.publish(tmp_path / "out", ["html"], statements=True, **options)
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*.html")]
    assert len(texts) == 2
    for text in [*texts, result.digest, result.headline]:
        assert not any(mark in text for mark in turn)
    assert "T\\u202e\\u2066: over budget" in result.digest
