"""Snapshots of two main accounts in one ledger: refused, or named."""

from __future__ import annotations

import shutil
from datetime import timedelta
from decimal import Decimal
from typing import Any

from books import OLD, Book, Clock, local

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


def test_two_deployments_may_give_their_runs_the_same_keys(new_book: Any, clock: Clock) -> None:
    """One DAG file in two deployments: the same DAG, run and task, each with a main account of its own."""
    books = [new_book(name) for name in ("one", "two")]
    for second, book in enumerate(books):
        number = second + 1
        for at in ("10-30 23:55", "10-31 23:58", "11-01 00:05"):
            moment = local(at) + timedelta(seconds=second)
            book.seen(moment, {number: "0" if at > "11" else "7"}, run=run_key(at))
        clock.at = local("11-01 00:10") + timedelta(seconds=second)
        book.close("2026-10", run=run_key("close"))
    shutil.copytree(books[1].ledger.root, books[0].ledger.root, dirs_exist_ok=True)
    report = books[0].report("2026-10")
    assert [line.sub_account_id for line in report.accounts] == [1, 2]
    assert any("listed again later: accounts 1, 2" in text for text in report.warnings)
    assert any("2026-10 was closed twice" in text for text in report.warnings)


def test_a_ledger_whose_newest_files_do_not_say_whose_it_is_mixes_no_main_accounts(book: Book) -> None:
    for at, main, number in (("11-20 10:00", 7, 1), ("11-21 10:00", 8, 9)):
        rows = [Observation(number, "a", Decimal(60), OLD, user_id=main)]
        book.ledger.write(SNAPSHOTS, "2026-11", local(at), run_key(at), rows)
    for hour in (10, 11, 12):
        book.seen(f"11-22 {hour}:00", {1: "60"})
    report = book.report()
    assert [line.sub_account_id for line in report.accounts] == [1]
    assert any("is of the main account 8, and the ledger of 7" in text for text in report.warnings)


def test_a_note_that_was_copied_counts_once(new_book: Any) -> None:
    """Two ledgers have it, and were merged: its file has another name there."""
    books = [new_book(name) for name in ("one", "two")]
    for book in books:
        book.seen("11-02 23:55", {1: "10"})
    books[1].note(sub_account_id=1, amount="1", reason="another")
    for book in books:
        book.note(sub_account_id=1, amount="-5", reason="credit note 7")
    shutil.copytree(books[1].ledger.root, books[0].ledger.root, dirs_exist_ok=True)
    report = books[0].report()
    assert report.totals.month_to_date == Decimal(6)
    assert any("'credit note 7'" in text and "counts once" in text for text in report.warnings)


def test_two_closings_that_differ_are_named(new_book: Any, clock: Clock) -> None:
    books = [new_book(name) for name in ("one", "two")]
    for number, book in enumerate(books, 1):
        for at in ("10-30 23:55", "10-31 23:58", "11-01 00:05"):
            book.seen(at, {number: "0"})
        clock.at = local("11-01 00:10")
        book.close("2026-10", run=str(number) * 12)
    assert not any("closed twice" in text for text in books[0].report("2026-10").warnings)
    shutil.copytree(books[1].ledger.root, books[0].ledger.root, dirs_exist_ok=True)
    assert any("2026-10 was closed twice" in text for text in books[0].report("2026-10").warnings)
