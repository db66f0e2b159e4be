"""Files of the ledger: what was written is read, and what was not is found out."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from books import OLD, Book, Clock, local
from msgspec.structs import replace

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.observations import Observation
from airflow_provider_closeai.costs.errors import (
    MissingLibrary,
    NoObservation,
    NotRead,
    NotWritten,
    TooManyDigits,
)
from airflow_provider_closeai.costs.requests import SnapshotRequest
from airflow_provider_closeai.costs.store.kinds import CONTROL, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger, run_key
from airflow_provider_closeai.costs.texts import csv_text, plain_text

AT = datetime(2026, 11, 24, 1, 0, 3, 5, tzinfo=UTC)
ROW = Observation(7, "a", Decimal("0.44000013"), OLD, True, Decimal("-0.5"), "[]")
ALIASES = [
    "=1+1",
    "+x",
    "-x",
    "@x",
    "'x",
    "\tx",
    " =1",
    "a,b",
    'say "hi"',
    "多",
    "\N{FULLWIDTH EQUALS SIGN}1",
    "line\nbreak",
    "x\r=1+1",
    "",
]


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_what_is_written_is_read(tmp_path: Path, extension: str) -> None:
    if extension == "parquet":
        pytest.importorskip("pyarrow")
    ledger = Ledger(tmp_path)
    rows = [replace(ROW, sub_account_id=number, alias=alias) for number, alias in enumerate(ALIASES)]
    rows.append(Observation(99, "none", None, "", False, None, "[]"))
    file = ledger.write(SNAPSHOTS, "2026-11", AT, run_key("a"), rows, extension=extension)
    assert file.name.startswith("snapshots/billing_month=2026-11/20261124T010003_000005Z-15-")
    assert ledger.files(SNAPSHOTS, "2026-11") == [file]
    read = ledger.rows(file)
    assert [row[3] for row in read] == [*ALIASES, "none"]
    assert [row[2] for row in read] == [*range(len(ALIASES)), 99]
    assert {row[5:7] for row in read} == {(Decimal("-0.5"), Decimal("0.44000013")), (None, None)}
    assert (read[0][4], read[-1][4], read[0][8], read[-1][8]) == ("true", "false", OLD, "")


def test_csv_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    rows = [replace(ROW, alias=alias) for alias in ALIASES]
    text = (tmp_path / ledger.write(SNAPSHOTS, "2026-11", AT, "0" * 12, rows).name).read_text()
    assert ",=1" not in text
    for alias in ALIASES:
        assert plain_text(csv_text(alias)) == alias
        assert csv_text(alias)[:1] not in tuple("=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}")


def test_a_crash_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)

    def rename(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", rename)
        with pytest.raises(KeyboardInterrupt):
            ledger.write(SNAPSHOTS, "2026-11", AT, run_key("mine"), [ROW])
    assert ledger.files(SNAPSHOTS, "2026-11") == []


def damage_cut(data: bytes) -> bytes:
    return data[:-20]


def damage_edit(data: bytes) -> bytes:
    return data.replace(b"10", b"11", 1)


@pytest.mark.parametrize("damage", [damage_cut, damage_edit, lambda data: b"", lambda data: data + b"\n"])
def test_a_damaged_file_is_left_out_and_named(book: Book, damage: Callable[[bytes], bytes]) -> None:
    book.seen("11-05 09:00", {1: "10"})
    middle = book.seen("11-06 09:00", {1: "10.5"})
    book.seen("11-07 09:00", {1: "12"})
    path = book.ledger.root / middle.name
    path.write_bytes(damage(path.read_bytes()))
    report = book.report()
    assert report.totals.month_to_date == 12
    assert report.warnings[0].startswith(f"Left out: The ledger's file {path} is damaged: its content is not")
    assert "move it out of the ledger" in report.warnings[0]


def renamed(book: Book, name: str, data: bytes) -> Path:
    """Put a file there whose digest is right."""
    import hashlib

    folder = book.ledger.root / "snapshots/billing_month=2026-11"
    path: Path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.csv"
    path.write_bytes(data)
    return path


HEADER = (
    "observed_at,billing_month,sub_account_id,alias,enabled,balance,monthly_cost,model_pricing,created_at"
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "observed_at,billing_month,sub_account_id,alias\nx,2026-11,1,a\n",
            "the column 'monthly_cost', 'created_at' is missing",
        ),
        (f"{HEADER}\nx,2026-11,1\n", "fewer cells than there are columns"),
        (f"{HEADER}\nx,2026-11,1,a,true,1,much,[],\n", "it cannot be read as CSV"),
        (f"{HEADER}\nx,2026-11,one,a,true,1,1,[],\n", "it cannot be read as CSV"),
        (f"{HEADER}\nx,2026-11,,a,true,1,1,[],\n", "without a sub_account_id"),
        (f"{HEADER}\nx,2026-10,1,a,true,1,1,[],\n", "holds lines of 2026-10"),
        (f"{HEADER}\n", "it has 0 lines instead of 1"),
    ],
)
def test_a_file_of_another_shape_is_named(book: Book, text: str, told: str) -> None:
    book.seen("11-05 09:00", {1: "10"})
    path = renamed(book, "20261106T010000_000000Z-1-0123456789ab", text.encode())
    report = book.report()
    assert report.totals.month_to_date == 10
    assert path.name in report.warnings[0]
    assert told in report.warnings[0]
    assert report.history.is_damaged


def test_unrecognized_files_are_named(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    folder = book.ledger.root / "snapshots/billing_month=2026-11"
    for name in ("notes.txt", "20269999T010000_000000Z-1-0123456789ab-0123456789abcdef.csv", ".x.partial"):
        (folder / name).write_text("x")
    report = book.report()
    assert report.totals.month_to_date == 10
    [renamed, foreign] = report.warnings
    assert "Left out: snapshots/billing_month=2026-11/20269999T010000" in renamed
    assert "Left out: snapshots/billing_month=2026-11/notes.txt" in foreign
    assert report.history.is_damaged, "it may be a renamed file: no month is closed without it"


def test_only_damaged_files(book: Book) -> None:
    file = book.seen("11-05 09:00", {1: "10"})
    (book.ledger.root / file.name).write_bytes(b"")
    with pytest.raises(NoObservation, match="Left out: The ledger's file"):
        book.report()


def test_a_damaged_control_total_is_named(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.seen("11-06 09:00", {1: "10"})
    book.control("11-05 09:00", "12")
    book.control("11-06 09:00", "13")
    [_, newest] = book.ledger.files(CONTROL, "2026-11")
    (book.ledger.root / newest.name).write_bytes(b"")
    report = book.report()
    assert report.control is not None
    assert (report.control.at, report.main_difference) == (local("11-05 09:00"), 2)
    assert newest.name in report.warnings[0]


def test_formats_may_be_mixed(book: Book) -> None:
    pytest.importorskip("pyarrow")
    book.seen("11-05 09:00", {1: "10"})
    book.extension = "parquet"
    book.seen("11-06 09:00", {1: "10.000000000001"})
    book.extension = "csv"
    book.seen("11-07 09:00", {1: "11"})
    assert [str(amount) for amount in book.report().accounts[0].daily.values()] == [
        "1E-12",
        "0.999999999999",
    ]


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'airflow-provider-closeai\[parquet\]'"):
        Ledger(tmp_path).write(SNAPSHOTS, "2026-11", AT, "0" * 12, [ROW], extension="parquet")
    assert not list(tmp_path.iterdir())


def test_a_ledger_has_a_folder() -> None:
    for empty in ("", None, "  "):
        with pytest.raises(InvalidParameter, match="ledger: it is empty"):
            SnapshotRequest.parse(ledger=empty)


def test_an_object_store(clock: Clock) -> None:
    """Nothing is renamed there: an object is shown when all of it is there."""
    from upath import UPath

    ledger = Ledger(UPath("memory://bucket/ledger"))
    assert ledger.months(SNAPSHOTS) == ledger.files(SNAPSHOTS, "2026-11") == []
    first = ledger.write(SNAPSHOTS, "2026-11", AT, run_key("mine"), [ROW])
    mine = ledger.write(SNAPSHOTS, "2026-11", AT.replace(minute=5), run_key("mine"), [ROW])
    ledger.remove(first)
    assert ledger.months(SNAPSHOTS) == ["2026-11"]
    assert ledger.files(SNAPSHOTS, "2026-11") == [mine]
    result = Book(ledger.root, clock).publish(UPath("memory://bucket/out"), ["html", "csv", "json"])
    assert result.report.totals.month_to_date == Decimal("0.44000013")
    assert {UPath(path).exists() for path in result.files.values()} == {True}


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file is in its place")
    with pytest.raises(NotWritten, match=r"ledger/snapshots/.* could not be written: .* A retry is safe"):
        Ledger(tmp_path / "ledger").write(SNAPSHOTS, "2026-11", AT, "0" * 12, [ROW])


def test_a_price_list_of_thousands_of_models(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    prices = "[" + ",".join(['{"model":"m","pricing_factor":1}'] * 9000) + "]"
    file = ledger.write(SNAPSHOTS, "2026-11", AT, "0" * 12, [replace(ROW, model_pricing=prices)])
    assert ledger.rows(file)[0][7] == prices


def test_an_amount_that_is_no_number_is_damage(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.seen("11-06 09:00", {1: "NaN"})
    report = book.report()
    assert report.totals.month_to_date == 10
    assert "an amount is not a finite number" in report.warnings[0]


@pytest.mark.parametrize("amount", ["1E-40", "1e35"])
def test_amounts_that_parquet_does_not_hold(tmp_path: Path, amount: str) -> None:
    pytest.importorskip("pyarrow")
    row = replace(ROW, monthly_cost=Decimal(amount))
    with pytest.raises(TooManyDigits, match="Parquet holds 38 digits"):
        Ledger(tmp_path).write(SNAPSHOTS, "2026-11", AT, "0" * 12, [row], extension="parquet")
    assert not list(tmp_path.rglob("*.parquet*"))


def test_only_months_are_months(tmp_path: Path) -> None:
    for name in ("billing_month=__HIVE_DEFAULT_PARTITION__", "billing_month=2026-11", "other"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    assert Ledger(tmp_path).months(SNAPSHOTS) == ["2026-11"]


def test_a_control_total_whose_snapshot_is_damaged_is_no_control(book: Book) -> None:
    for at, cost, used in (("11-05 09:00", "10", "12"), ("11-06 09:00", "90", "96")):
        book.seen(at, {1: cost})
        book.control(at, used)
    (book.ledger.root / book.ledger.files("snapshots", "2026-11")[-1].name).write_text("cut")
    assert book.report().main_difference == 2


def test_an_empty_control_file_is_named(book: Book) -> None:
    book.seen("11-05 09:00", {1: "10"})
    book.ledger.write(CONTROL, "2026-11", local("11-05 09:00"), "0" * 12, [])
    report = book.report()
    assert report.control is None
    assert "Left out: the control total control/" in report.warnings[0]


def test_a_store_that_hiccups_is_no_damage(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    book.seen("11-05 09:00", {1: "10"})

    def read_bytes(path: Path) -> bytes:
        raise TimeoutError("the store is slow")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        with pytest.raises(NotRead, match="could not be read: the store is slow") as caught:
            book.report()
    assert not caught.value.permanent
    assert book.report().totals.month_to_date == 10


def test_the_newest_file_is_not_an_empty_folder(book: Book) -> None:
    assert book.ledger.newest(SNAPSHOTS) is None
    file = book.seen("11-05 09:00", {1: "10"})
    for name in ("billing_month=2026-12", "billing_month=2026-99"):
        (book.ledger.root / "snapshots" / name).mkdir()
    assert book.ledger.newest(SNAPSHOTS) == file
