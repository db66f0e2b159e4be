"""Looks that were begun within minutes of each other: reports, SQL and budgets come to the same figure."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.costs import month_to_date

duckdb = pytest.importorskip("duckdb")

#: Snapshots and deletions' records at some minutes, what each shows, and what the account cost by them.
LOOKS = [
    ("snapshot 0 12, record 1 10", 12),
    ("snapshot 0 12, record 1 10, record 2 10", 12),
    ("snapshot 0 12, record 1 10, snapshot 2 11", 12),
    ("snapshot 0 12, record 1 10, snapshot 2 11, record 3 11", 12),
    ("snapshot 0 12, record 1 10, record 6 10", 10),  # a fall
    ("record 0 12, snapshot 1 10, snapshot 2 10", 12),
    ("record 0 12, snapshot 1 10, record 6 10", 10),
    ("record 0 12, snapshot 1 12, snapshot 2 10", 10),  # of two snapshots the later one is believed
]


@pytest.fixture
def book(book: Book) -> Book:
    book.seen("10-31 23:55", {1: "7", 2: "0"})
    book.turn("11", [1, 2])
    return book


def look(book: Book, looks: str) -> None:
    """Write down some looks at account 1, and that it is not there an hour later."""
    for kind, minute, cost in (one.split() for one in looks.split(", ")):
        if kind == "record":
            book.deleted(f"11-20 12:{minute:0>2}", {1: cost})
        else:
            book.seen(f"11-20 12:{minute:0>2}", {1: cost, 2: "0"})
    book.seen("11-20 13:00", {2: "0"})


@pytest.mark.parametrize(("looks", "cost"), LOOKS)
def test_a_report_believes_no_fall_beside_a_deletion_s_record(book: Book, looks: str, cost: int) -> None:
    look(book, looks)
    assert book.report().totals.month_to_date == Decimal(cost)


@pytest.mark.parametrize(("looks", "cost"), LOOKS)
def test_so_does_sql(book: Book, looks: str, cost: int) -> None:
    look(book, looks)
    database = duckdb.connect()
    database.execute(f"set variable ledger = '{book.ledger.root}'")
    database.execute((Path(__file__).parents[2] / "docs/sql/ledger.sql").read_text("utf-8"))
    found = database.execute("select sum(month_to_date) from account_months where billing_month = '2026-11'")
    assert found.fetchone() == (Decimal(cost),)


@pytest.mark.parametrize(("looks", "cost"), LOOKS)
def test_so_do_budgets(book: Book, looks: str, cost: int) -> None:
    """They read few snapshots: not only the last one of the day, which has the account no more."""
    look(book, looks)
    assert month_to_date(book.ledger, [], local("11-20 13:00"))["a-1"] == cost


@pytest.mark.parametrize(("last", "first"), [("snapshots", "deleted"), ("deleted", "snapshots")])
@pytest.mark.parametrize(("later", "cost"), [({}, "0.5"), ({1: "13"}, "13")], ids=["gone", "not gone"])
def test_across_the_turn_a_fall_is_the_reset(
    book: Book, clock: Clock, last: str, first: str, later: dict[int, str], cost: str
) -> None:
    book.seen("11-30 23:58", {1: "12"}, kind=last)
    book.seen("12-01 00:01", {1: "0.5"}, kind=first)
    book.seen("12-03 00:10", later)
    clock.at = local("12-03 12:00")
    for month, expected in (("2026-11", "12"), ("2026-12", cost)):
        [line] = [line for line in book.report(month).accounts if line.sub_account_id == 1]
        assert (line.month_to_date, line.certainty) == (Decimal(expected), "certain")
