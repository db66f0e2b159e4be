"""What the month under way has cost so far, by which budgets are held: never the month before."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from books import Book, local

from airflow_provider_closeai.client.models import SecretToken, SubAccount
from airflow_provider_closeai.costs import month_to_date


def spent(book: Book, at: str, costs: dict[int, str]) -> dict[str, str]:
    accounts = [
        SubAccount(id=number, token=SecretToken("sk-x"), alias=f"a-{number}", monthly_cost=Decimal(cost))
        for number, cost in costs.items()
    ]
    return {alias: str(cost) for alias, cost in month_to_date(book.ledger, accounts, local(at)).items()}


@pytest.mark.parametrize(
    ("looks", "deleted", "counts"),
    [
        ({}, "59.3", "0.3"),  # not reset yet: a cost of the month before was posted late
        ({}, "59", "0"),
        ({}, "0.3", "0.3"),
        ({"11-01 00:15": "59", "11-01 00:20": "59.1"}, "59.3", "0.3"),
        ({"11-01 00:15": "0", "11-01 00:20": "58"}, "59.3", "59.3"),  # it was reset, and spent since
    ],
)
def test_a_key_that_is_deleted_just_after_the_turn(
    book: Book, looks: dict[str, str], deleted: str, counts: str
) -> None:
    book.seen("10-31 23:55", {1: "59"})
    for at, cost in looks.items():
        book.seen(at, {1: cost})
    book.deleted("11-01 00:30", {1: deleted})
    assert spent(book, "11-20 12:00", {}) == {"a-1": counts}


@pytest.mark.parametrize("deleted", [True, False], ids=["recorded", "in the console"])
@pytest.mark.parametrize(("looks", "counts"), [(["59.3"], "0.3"), (["0", "59.3"], "59.3")])
def test_a_key_that_a_snapshot_saw_last_just_after_the_turn(
    book: Book, looks: list[str], counts: str, *, deleted: bool
) -> None:
    """Snapshots beside a deletion count as it does, be it this account's or another's."""
    book.seen("10-31 23:55", {1: "59", 2: "1"})
    for minute, cost in enumerate(looks, 28):
        book.seen(f"11-01 00:{minute}", {1: cost, 2: "1"})
    book.deleted("11-01 00:30", {1: "59.2"} if deleted else {2: "1"})
    assert spent(book, "11-20 12:00", {})["a-1"] == counts


def test_the_record_of_a_deletion_that_did_not_happen_shows_the_reset_too(book: Book) -> None:
    book.seen("10-31 23:55", {1: "59"})
    book.deleted("11-01 00:10", {1: "0.1"})
    book.deleted("11-01 03:00", {1: "61"})
    assert spent(book, "11-20 12:00", {}) == {"a-1": "61"}


def test_a_key_that_is_deleted_later_counts_whole(book: Book) -> None:
    book.seen("10-31 23:55", {1: "5"})
    book.deleted("11-02 00:30", {1: "8"})
    assert spent(book, "11-20 12:00", {}) == {"a-1": "8"}


@pytest.mark.parametrize("last", ["11-20 13:00", "11-20 23:55"])
def test_a_cost_that_is_not_given_any_more_counts_as_it_was_last_seen(book: Book, last: str) -> None:
    book.seen("11-19 12:00", {1: "5", 2: "0"})
    book.seen("11-20 12:00", {1: "12", 2: "0"})
    book.seen(last, {1: None, 2: "0"})
    book.clock.at = local("11-21 12:00")
    assert spent(book, "11-21 12:00", {2: "0"})["a-1"] == str(book.report().totals.month_to_date) == "12"


def test_what_is_spent_is_exact_to_any_digit(book: Book) -> None:
    cost = "12345678901234567.123456789012345678"
    book.seen("11-05 12:00", {1: "0"})
    assert spent(book, "11-20 12:00", {1: cost}) == {"a-1": cost}


def test_a_deletion_that_did_not_happen_moves_no_counter(book: Book) -> None:
    book.seen("10-31 23:55", {1: "59"})
    book.deleted("11-01 00:30", {1: "59"})
    assert spent(book, "11-03 12:00", {1: "59"}) == {"a-1": "0"}


@pytest.mark.parametrize(
    ("at", "now", "counts"),
    [("11-01 12:00", "61", "61"), ("11-02 00:00", "61", "0"), ("11-03 00:00", "62", "62")],
)
@pytest.mark.parametrize("last_look", ["10-31 23:55", "08-15 12:00"], ids=["at the turn", "long before"])
def test_a_counter_that_stands_still_is_of_the_month_before(
    book: Book, at: str, now: str, counts: str, last_look: Any
) -> None:
    """A suspended key, on a platform that begins a month with an account's first use."""
    book.seen(last_look, {1: "61"})
    assert spent(book, at, {1: now}) == {"a-1": counts}


@pytest.mark.parametrize("kind", ["listing", "deletion", "snapshot"])
def test_a_counter_that_is_back_at_the_same_value_counts(book: Book, kind: str) -> None:
    """A flat price, or a limit that is used up on the first day of each month."""
    book.seen("10-31 23:55", {1: "60"})
    book.seen("11-01 00:05", {1: "0"})
    book.seen("11-01 23:55", {1: "60"})
    if kind == "deletion":
        book.deleted("11-05 12:00", {1: "60"})
    listed = {1: "60"} if kind == "listing" else {}
    assert spent(book, "11-20 12:00", listed) == {"a-1": "60"}


def test_a_balance_that_fell_shows_use_that_no_snapshot_saw(book: Book) -> None:
    book.seen("10-31 23:55", {1: "60", 2: "60"})  # with a balance of 100
    accounts = [
        SubAccount(
            id=number,
            token=SecretToken("sk-x"),
            alias=f"a-{number}",
            monthly_cost=Decimal(60),
            balance=Decimal(balance),
        )
        for number, balance in ((1, 40), (2, 100))
    ]
    found = month_to_date(book.ledger, accounts, local("11-20 12:00"))
    assert found == {"a-1": Decimal(60), "a-2": Decimal(0)}


def test_the_main_accounts_own_entry_counts_for_nobody(book: Book) -> None:
    main = SubAccount(
        id=9, token=SecretToken("sk-x"), alias="a-1", monthly_cost=Decimal(1000), token_type="master"
    )
    assert month_to_date(book.ledger, [main], local("11-20 12:00")) == {}


@pytest.mark.parametrize(
    ("snapshot", "record", "listed", "counts"),
    [
        ("12:00", "12:01", {}, "30"),
        ("12:00", "12:00", {}, "30"),
        ("12:00", "12:05", {}, "28"),  # a fall
        (None, "12:58", {1: "27"}, "28"),
        (None, "12:50", {1: "27"}, "27"),
    ],
)
def test_of_two_looks_that_overlap_the_higher_value_counts_as_in_a_report(
    book: Book, snapshot: str | None, record: str, listed: dict[int, str], counts: str
) -> None:
    book.seen("10-31 23:55", {1: "7"})
    book.turn("11", [1])
    if snapshot:
        book.seen(f"11-20 {snapshot}", {1: "30"})
    book.deleted(f"11-20 {record}", {1: "28"})
    assert spent(book, "11-20 13:00", listed) == {"a-1": counts}
    book.seen("11-20 13:00", listed)
    assert str(book.report().totals.month_to_date) == counts
