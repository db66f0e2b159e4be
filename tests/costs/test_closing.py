"""Closed months stand; what comes later is appended."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE, Adjustment
from airflow_provider_closeai.costs.accounting.closing import differences
from airflow_provider_closeai.costs.errors import CloseRefused, CurrencyConflict, DamagedFile
from airflow_provider_closeai.costs.store.booked import append_adjustments
from airflow_provider_closeai.costs.store.kinds import ADJUSTMENTS, CLOSED


@pytest.fixture
def november(book: Book, clock: Clock) -> Book:
    book.seen("10-31 23:58", {1: "10", 2: "1"})
    book.turn("11", [1, 2])
    book.seen("11-05 09:00", {1: "10", 2: "1"})
    book.seen("11-30 23:55", {1: "12.5", 2: "3"})
    book.turn("12", [1, 2])
    clock.at = local("12-01 00:05")
    return book


def test_closing_once(november: Book, clock: Clock) -> None:
    file = november.close()
    assert file is not None
    assert file.kind == CLOSED
    assert november.close() is None
    assert november.close(run="d" * 12) is None
    report = november.report()
    assert report.closing is not None
    assert (report.closing.total, report.closing.status) == (Decimal("15.5"), "final")
    assert (report.totals.month_to_date, report.totals.adjustments) == (Decimal("15.5"), 0)


def test_a_difference_is_exact_to_any_digit(new_book: Any, clock: Clock) -> None:
    book = new_book("digits")
    book.seen("10-31 23:55", {1: "0"})
    book.turn("11", [1])
    book.seen("11-30 23:50", {1: "123456789012345678.123456789012345678"})
    book.turn("12", [1])
    clock.at = local("12-01 00:10")
    book.close()
    book.seen("11-30 23:55", {1: "123456789012345678.223456789012345679"})
    book.close(run="d" * 12)
    [line] = book.report().appended
    assert line.amount == Decimal("0.100000000000000001")


def test_late_evidence_changes_nothing_until_it_is_appended(november: Book, clock: Clock) -> None:
    november.close()
    november.deleted("11-30 23:58", {2: "3.25"})
    november.deleted("11-12 10:00", {9: ("0.5", "gone", "2026-11-12T09:00:00+08:00")})
    report = november.report()
    assert report.totals.month_to_date == Decimal("15.5")
    assert report.totals.adjustments == Decimal("-0.75")
    assert (
        "the observations of 2 accounts say something else now. The closed figures stand"
        in report.warnings[-1]
    )
    clock.at = local("12-05 09:00")
    file = november.close()
    assert file is not None
    assert (file.kind, file.rows) == (ADJUSTMENTS, 2)
    assert november.close() is None
    report = november.report()
    assert (report.totals.month_to_date, report.totals.adjustments) == (Decimal("16.25"), 0)
    assert [(line.sub_account_id, line.amount, line.source) for line in report.appended] == [
        (2, Decimal("0.25"), "evidence"),
        (9, Decimal("0.5"), "evidence"),
    ]
    assert not any("closed" in warning for warning in report.warnings)
    assert len(november.ledger.files(CLOSED, "2026-11")) == 1


def test_two_closes_at_once_of_which_one_saw_more_book_nothing_twice(november: Book, clock: Clock) -> None:
    november.close()
    november.seen("11-30 23:56", {1: "20", 2: "3"})
    before = november.report()
    november.seen("11-30 23:57", {1: "20", 2: "5"})
    november.close()
    lines = differences(before, clock.at + timedelta(seconds=1))
    append_adjustments(november.ledger, "2026-11", lines, about=DIFFERENCE, known=before.appended)
    assert november.report().totals.month_to_date == 23
    november.close()
    assert november.report().totals.month_to_date == 25
    assert november.close() is None


def test_a_file_damaged_after_the_closing_takes_nothing_away(november: Book) -> None:
    november.close()
    [*_, last] = november.ledger.files("snapshots", "2026-11")
    (november.ledger.root / last.name).write_bytes(b"")
    report = november.report()
    assert report.totals.month_to_date == Decimal("15.5")
    assert report.totals.adjustments == Decimal("4.5")
    with pytest.raises(CloseRefused, match="files of its ledger are damaged"):
        november.close()


def test_a_month_that_goes_on_is_not_closed(november: Book, clock: Clock) -> None:
    clock.at = local("11-30 23:59")
    with pytest.raises(CloseRefused, match="2026-11 is not over"):
        november.close()


def test_a_line_by_hand(november: Book, clock: Clock) -> None:
    november.close()
    clock.at = local("12-10 09:00")
    options: dict[str, Any] = {
        "sub_account_id": 2,
        "amount": "-0.50000001",
        "currency": "CNY",
        "alias": "a-2",
    }
    assert november.note(reason="credit note 7", **options) is not None
    assert november.note(reason="credit note 7", **options) is None
    report = november.report()
    assert report.totals.month_to_date == Decimal("14.99999999")
    assert report.totals.adjustments == Decimal("-0.50000001")
    assert november.close() is None  # it is no difference of the observations
    assert [line.source for line in report.appended] == ["manual"]
    assert not any("closed" in warning for warning in report.warnings)
    with pytest.raises(InvalidParameter, match="reason: ' ' is not text"):
        november.note(reason=" ", **options)
    with pytest.raises(InvalidParameter, match="2027-01 is in the future"):
        november.note("2027-01", reason="x", **options)


def test_a_line_of_an_unknown_account(november: Book) -> None:
    november.note(sub_account_id=77, amount="2", alias="ads.x")
    report = november.report(owners={"ads.*": "Ads", "a-*": "A"})
    assert [(line.owner.team, line.month_to_date) for line in report.owners] == [
        ("A", Decimal("15.5")),
        ("Ads", 2),
    ]
    assert report.accounts[-1].state == "unobserved"


def test_two_currencies_are_refused(november: Book) -> None:
    november.close()
    with pytest.raises(CurrencyConflict, match="2026-11 was closed in CNY, and the report is in USD"):
        november.report(currency="USD")


def test_a_month_is_closed_in_the_currency_of_the_ledger(november: Book, clock: Clock) -> None:
    november.close()
    november.seen("12-31 23:55", {1: "1"})
    clock.at = local("12-31 23:59").replace(year=2027)
    with pytest.raises(CurrencyConflict, match="in this ledger months were closed in CNY"):
        november.close("2026-12", currency="USD", even_if_uncertain=True)
    assert not november.ledger.files("closed", "2026-12")


def test_a_currency_that_no_file_says_any_more(november: Book, clock: Clock) -> None:
    november.close()
    [closed] = november.ledger.files("closed", "2026-11")
    path = november.ledger.root / closed.name
    path.write_bytes(path.read_bytes()[:-3])
    november.seen("12-31 23:55", {1: "1"})
    clock.at = local("12-31 23:59").replace(year=2027)
    with pytest.raises(DamagedFile, match="closed/billing_month=2026-11"):
        november.close("2026-12", currency="USD", even_if_uncertain=True)
    assert not november.ledger.files("closed", "2026-12")


def test_a_note_in_another_currency_is_named_and_left_out(november: Book) -> None:
    november.note(sub_account_id=1, amount="2", reason="r", currency="USD")
    report = november.report()
    assert report.totals.month_to_date == Decimal("15.5")
    [warning] = [text for text in report.warnings if "note" in text]
    assert warning.startswith("Left out: the note 'r' of 2026-11 for account 1 (adjustments/")
    assert "it is in USD, and the report is in CNY" in warning


def test_a_note_is_booked_in_the_currency_of_the_ledger(november: Book, clock: Clock) -> None:
    november.close()
    with pytest.raises(CurrencyConflict, match="in this ledger months were closed in CNY"):
        november.note("2026-10", sub_account_id=1, amount="2", currency="USD")


def test_a_note_of_absurd_size_is_named_and_left_out(november: Book, clock: Clock) -> None:
    with pytest.raises(InvalidParameter, match="amount: '1e400' is out of range"):
        november.note(sub_account_id=1, amount="1e400")
    line = Adjustment(clock(), "2026-11", "CNY", 1, "a-1", Decimal("1e400"), "manual", "odd")
    november.ledger.write(ADJUSTMENTS, "2026-11", clock(), "a" * 12, [line])
    report = november.report()
    assert report.totals.month_to_date == Decimal("15.5")
    assert "no amount of money has 401 digits" in report.warnings[0]


def test_notes_that_two_writers_booked_at_one_moment_are_named(november: Book, clock: Clock) -> None:
    """Each of them found nothing of the other's."""
    for key, reason, amount in (("a", "refund", "-1"), ("b", "refund", "-2"), ("c", "other", "-4")):
        line = Adjustment(clock(), "2026-11", "CNY", 1, "a-1", Decimal(amount), "manual", reason)
        november.ledger.write(ADJUSTMENTS, "2026-11", clock(), key * 12, [line])
    report = november.report()
    assert report.totals.month_to_date == Decimal("8.5")
    [warning] = [text for text in report.warnings if "note" in text]
    first, second, _ = (file.name for file in november.ledger.files(ADJUSTMENTS, "2026-11"))
    assert warning == (
        "The note 'refund' of 2026-11 for account 1 has several amounts, and all of them count: "
        f"-1 ({first}), -2 ({second}). Move the files that are wrong out of the ledger."
    )


def test_a_note_of_an_unobserved_month_is_named(november: Book) -> None:
    november.note("2026-09", sub_account_id=1, amount="2")
    [warning] = [text for text in november.report().warnings if "booked" in text]
    assert warning.startswith("In no report: 1 lines that were booked in 2026-09")


@pytest.mark.parametrize("kind", [CLOSED, ADJUSTMENTS])
@pytest.mark.parametrize("name", ["copy of {}", "{}.bak", "../{}", "../2026-11", "old.CSV"])
def test_a_renamed_closing_or_note_is_named(november: Book, kind: str, name: str) -> None:
    november.close()
    november.note(sub_account_id=1, amount="2")
    [file] = november.ledger.files(kind, "2026-11")
    path = november.ledger.root / file.name
    path.rename(path.parent / name.format(path.name))
    assert any("is not the name of a ledger file" in warning for warning in november.report().warnings)
    with pytest.raises(CloseRefused, match="files of its ledger are damaged"):
        november.close()


@pytest.mark.parametrize("kind", [CLOSED, ADJUSTMENTS])
def test_a_closing_or_note_in_another_month_s_folder_is_not_used(november: Book, kind: str) -> None:
    november.close()
    november.note(sub_account_id=1, amount="2")
    november.seen("10-31 23:55", {1: "4"})
    [file] = november.ledger.files(kind, "2026-11")
    path = november.ledger.root / file.name
    folder = path.parent.with_name("billing_month=2026-10")
    folder.mkdir()
    path.rename(folder / path.name)
    with pytest.raises(DamagedFile, match="was written as one of 2026-11"):
        november.report("2026-10")


def test_a_close_refuses_doubt(november: Book, clock: Clock) -> None:
    """One account of three is not reset yet after the turn."""
    late = {3: ("4", "late", "2026-11-20T00:00:00+08:00")}
    november.seen("11-30 14:00", {1: "12.5", 2: "3", **late})
    november.seen("11-30 23:57", {1: "12.5", 2: "3", **late})
    november.seen("12-01 00:06", {1: "0", 2: "0", **late})
    clock.at = local("12-01 00:10")
    with pytest.raises(CloseRefused) as caught:
        november.close()
    assert "account 3: its counter has not started again yet" in str(caught.value)
    assert "A snapshot after 2026-12-01 23:00 settles it; where the counter stands still" in str(caught.value)
    assert november.report().closing is None
    november.close(even_if_uncertain=True)
    report = november.report()
    assert (report.status, report.closing and report.closing.status) == ("estimated", "estimated")
    closed = report.closing.accounts if report.closing else {}
    assert {number: line.certainty for number, line in closed.items()} == {
        1: "certain",
        2: "certain",
        3: "uncertain",
    }


GROWN = {"11-30 23:30": "13", "12-01 12:00": "15"}  # a reset may hide in that


@pytest.mark.parametrize(
    "looks",
    [GROWN, {"11-30 12:00": "13", "12-01 00:05": "4", "12-01 12:00": "2"}],
    ids=["grown", "fell twice"],
)
def test_a_close_says_which_doubt_no_later_snapshot_settles(
    book: Book, clock: Clock, looks: dict[str, str]
) -> None:
    book.turn("11", [1])
    for at, cost in {**looks, "12-02 12:00": "16", "12-03 12:00": "17"}.items():
        book.seen(at, {1: cost})
    clock.at = local("12-03 13:00")
    with pytest.raises(CloseRefused) as caught:
        book.close()
    assert "No later snapshot settles it. To close it all the same, close with close=" in str(caught.value)
    assert "Run the close again" not in str(caught.value)
    assert book.close(even_if_uncertain=True)


@pytest.mark.parametrize(
    "first_day",
    [
        {"11:00": ("0", None, "2026-12-01T10:00:00+08:00"), "13:00": "5"},
        {"11:00": ("5", None, "")},
        {"11:00": ("5", None, None, "95"), "13:00": ("5", None, None, "95"), "13:01": "deleted"},
    ],
    ids=["made and used", "undated", "used and deleted"],
)
def test_no_close_waits_for_what_nothing_settles(book: Book, clock: Clock, first_day: dict[str, Any]) -> None:
    book.turn("11", [1])
    before = {2: "0"} if "13:01" in first_day else {}
    for at in ("11-29 12:00", "11-30 23:55", "12-01 00:05"):
        book.seen(at, {1: "0", **before})
    for at, value in first_day.items():
        if value == "deleted":
            book.deleted(f"12-01 {at}", {2: ("5", None, None, "95")})
        else:
            book.seen(f"12-01 {at}", {1: "0", 2: value})
    book.seen("12-02 00:05", {1: "0"} if "13:01" in first_day else {1: "0", 2: "6"})
    clock.at = local("12-02 12:00")
    with pytest.raises(CloseRefused, match=r"No later snapshot settles it\. To close it all the same"):
        book.close()


@pytest.mark.parametrize(
    ("last_still", "told"),
    [("12-05 08:00", None), ("12-01 12:00", "either month. What is reported is a lower bound. No later")],
)
def test_a_key_that_idles_for_a_month_on_a_platform_that_resets_at_first_use(
    book: Book, clock: Clock, last_still: str, told: str | None
) -> None:
    """Whichever turn its fall was for, it used nothing, if its next use came after all zones had turned."""
    for at in ("10-30 12:00", "10-31 23:55", "11-01 00:05", "11-30 23:55", "12-01 00:05", last_still):
        book.seen(at, {1: "50"})
    for at, cost in {"12-05 09:00": "3", "12-20 12:00": "9"}.items():
        book.seen(at, {1: cost})
    clock.at = local("12-31 12:00")
    assert book.close("2026-10")
    if told:
        with pytest.raises(CloseRefused, match=told):
            book.close()
    else:
        assert book.close()
        [line] = book.report().accounts
        assert (line.month_to_date, line.certainty) == (0, "certain")


def test_growth_may_be_settled_until_the_next_use(book: Book, clock: Clock) -> None:
    book.turn("11", [1])
    for at, cost in GROWN.items():
        book.seen(at, {1: cost})
    clock.at = local("12-01 13:00")
    with pytest.raises(CloseRefused, match=r"A later snapshot may settle it\. Run the close again when"):
        book.close()
    book.seen("12-01 18:00", {1: "1"})  # its platform turns then
    clock.at = local("12-01 19:00")
    assert book.close()


def test_a_damaged_closing_is_an_error(november: Book) -> None:
    file = november.close()
    assert file is not None
    (november.ledger.root / file.name).write_bytes(b"x")
    with pytest.raises(DamagedFile, match="closed/billing_month=2026-11/"):
        november.report()


def test_a_month_without_accounts_is_closed_too(book: Book, clock: Clock) -> None:
    book.seen("11-30 23:50", {})
    book.turn("12", [])
    clock.at = local("12-01 00:05")
    book.close()
    report = book.report()
    assert report.closing is not None
    assert (report.closing.total, report.totals.month_to_date, report.accounts) == (0, 0, [])


def test_who_paid_when_it_was_closed_stands(november: Book, clock: Clock) -> None:
    november.close(owners={"a-1": {"team": "Search", "cost_center": "CC-1"}, "a-2": "Ads"})
    report = november.report(owners={"a-*": "Ads"})
    assert {line.owner.team: str(line.month_to_date) for line in report.owners} == {
        "Search": "12.5",
        "Ads": "3",
    }
    assert report.warnings[-1] == (
        "2026-11 is closed, and the owner rules now give account 1 to somebody else. Who paid when it was "
        "closed stands."
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sub_account_id": "1"}, "sub_account_id: '1' is not a whole number"),
        ({"sub_account_id": None}, "sub_account_id: None is not a whole number"),
        ({"sub_account_id": 2**63}, "an account's id is from 0 to 9223372036854775807"),
        ({"sub_account_id": -1}, "an account's id is from 0"),
        ({"sub_account_id": 10**5000}, "an account's id is from 0"),
        ({"amount": 10**5000}, "amount: <an integer of .* bits> is out of range"),
        ({"reason": None}, "reason: "),
        ({"currency": "rmb"}, "For the renminbi that is CNY"),
        ({"currency": "USD"}, "2026-11 was closed in CNY"),
        ({"month": "0000-05"}, "is not a valid month"),
        ({"month": "previous"}, "'previous' is not a valid month"),
    ],
)
def test_a_line_by_hand_breaks_no_month(november: Book, wrong: dict[str, Any], told: str) -> None:
    november.close()
    fields = {"sub_account_id": 1, "amount": "-1", "reason": "note", "currency": "CNY", **wrong}
    with pytest.raises((InvalidParameter, CurrencyConflict), match=told):
        november.note(**fields)
    assert november.report().appended == []


def test_a_reason_is_booked_with_one_amount(november: Book) -> None:
    fields: dict[str, Any] = {"sub_account_id": 1, "reason": "note", "currency": "CNY"}
    assert november.note(amount="-1", **fields)
    assert november.note(amount="-1.0", **fields) is None
    assert november.note(amount="-1", **{**fields, "reason": " note\n"}) is None
    with pytest.raises(InvalidParameter, match="'note' is booked already"):
        november.note(amount="-5", **fields)
