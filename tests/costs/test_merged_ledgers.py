"""Snapshots of two main accounts in one ledger: refused, or named."""

from __future__ import annotations

from decimal import Decimal

from books import OLD, Book, local

from airflow_provider_closeai.costs import run_key
from airflow_provider_closeai.costs.accounting.observations import Observation
from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS


def test_two_ledgers_that_were_merged_are_named(book: Book) -> None:
    """Without main account ids only their accounts show it: they come and go."""
    for day in (2, 3):
        book.seen(f"11-0{day} 23:55", {1: "1"})
        book.seen(f"11-0{day} 23:57", {7: "1"})
    [text] = [text for text in book.report().warnings if "two main accounts" in text]
    assert "listed again later: accounts 1, 7" in text


def test_a_ledger_whose_newest_files_do_not_say_whose_it_is_mixes_no_main_accounts(book: Book) -> None:
    for at, main, number in (("11-20 10:00", 7, 1), ("11-21 10:00", 8, 9)):
        rows = [Observation(number, "a", Decimal(60), OLD, user_id=main)]
        book.ledger.write(SNAPSHOTS, "2026-11", local(at), run_key(at), rows)
    for hour in (10, 11, 12):
        book.seen(f"11-22 {hour}:00", {1: "60"})
    report = book.report()
    assert [line.sub_account_id for line in report.accounts] == [1]
    assert any("is of the main account 8, and the ledger of 7" in text for text in report.warnings)
