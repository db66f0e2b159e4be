"""Folders and stores that do not give what they should: each is one short error, or is left out by name."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import Ledger, MissingLibrary, NotRead, SnapshotRequest, month_to_date
from airflow_provider_closeai.costs.errors import NotWritten
from airflow_provider_closeai.costs.store.kinds import ADJUSTMENTS

NAME = "20261105T010000_000000Z-1-0123456789ab-0123456789abcdef.csv"

SAYS = "NoCredentialsError: Unable to locate credentials"


class NoCredentialsError(Exception):
    """What botocore says: no OSError."""


def refuse(*_: Any, **__: Any) -> Any:
    raise NoCredentialsError("Unable to locate credentials")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_dead_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("put", [a_folder, a_loop, a_dead_link])
def test_what_is_no_file_is_left_out_and_named(book: Book, clock: Clock, put: Any) -> None:
    book.seen("11-04 09:00", {1: "1"})
    book.seen("11-30 23:55", {1: "10"})
    book.seen("12-01 00:05", {1: "0"})
    put(book.ledger.root / "snapshots/billing_month=2026-11" / NAME)
    clock.at = local("12-01 00:06")
    report = book.report()
    assert report.totals.month_to_date == 10
    [warning] = [text for text in report.warnings if NAME in text]
    assert warning.startswith("Left out: The ledger's file ")
    assert "is damaged: it is not a file" in warning
    assert book.report("2026-12").totals.month_to_date == 0


def test_a_ledger_is_also_its_path_as_text(book: Book) -> None:
    book.seen("11-04 09:00", {1: ("1", "search.a")})
    ledger = Ledger(str(book.ledger.root))
    assert month_to_date(ledger, [], local("11-05 09:00")) == {"search.a": 1}


@pytest.mark.parametrize("method", ["iterdir", "read_bytes"])
def test_a_store_that_lets_nobody_in(book: Book, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    book.seen("11-04 09:00", {1: "1"})
    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(NotRead, match=SAYS + r"\. Look whether this worker"):
        book.report()


def test_a_store_that_takes_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NotWritten, match=SAYS + r"\. Look whether its folder"):
        book.seen("11-04 09:00", {1: "1"})


def test_a_store_whose_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from upath import UPath

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingLibrary, match=r"ledger: gs://bucket/x needs a library .*gcsfs"):
        SnapshotRequest.parse(ledger=UPath("gs://bucket/x"))


def test_a_home_that_is_not_there() -> None:
    with pytest.raises(InvalidParameter, match="ledger: '~nobody-of-this-name/x' cannot be opened"):
        SnapshotRequest.parse(ledger="~nobody-of-this-name/x")


@pytest.mark.parametrize("field", ["reason", "alias"])
def test_half_a_character_is_in_no_note(book: Book, field: str) -> None:
    book.seen("11-04 09:00", {1: "1"})
    with pytest.raises(InvalidParameter, match=rf"{field}: '\\ud83d' holds half a character"):
        book.note(sub_account_id=1, amount="1", **{field: "\ud83d"})
    assert book.ledger.files(ADJUSTMENTS, "2026-11") == []
