"""Writes and reads tables: CSV always, Parquet if pyarrow is installed.

A table is a list of :class:`Column`, each with a function that gets its cell from a row. Text cells that a
spreadsheet would run as a formula get an apostrophe in front; reading removes it.
"""

from __future__ import annotations

import contextlib
import csv
import decimal
import functools
import io
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import IO, Any

import msgspec

from airflow_provider_closeai.costs.accounting.money import format_amount, places_of
from airflow_provider_closeai.costs.errors import DamagedFile, MissingLibrary, TooManyDigits
from airflow_provider_closeai.costs.texts import csv_text, plain_text

FORMATS = ("csv", "parquet")
_BATCH = 50_000
_MIN_PLACES = 8
_MAX_DIGITS = 38


class Constant(msgspec.Struct, frozen=True):
    """A getter for a column with the same cell in every row."""

    value: Any

    def __call__(self, row: object) -> Any:
        """Return the cell."""
        return self.value


class Column(msgspec.Struct, frozen=True):
    """
    A column.

    :param kind: ``text``, ``amount`` (exact decimals), ``integer``, ``flag``, ``time`` or ``day``.
    :param cell: returns a row's cell, or names the row's attribute; default: the column's name.
    :param is_required: whether a file without it is damaged; otherwise its cells are read as ``None``.
    """

    name: str
    kind: str = "text"
    cell: Callable[[Any], Any] | str = ""
    is_required: bool = True

    @property
    def getter(self) -> Callable[[Any], Any]:
        """The function that returns a row's cell."""
        return operator.attrgetter(self.cell or self.name) if isinstance(self.cell, str) else self.cell


def utc_text(moment: datetime) -> str:
    """Write a time as FOCUS requires: UTC, ISO 8601, with a ``Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_csv(file: IO[bytes], columns: Sequence[Column], rows: Iterable[Any]) -> None:
    """
    Write a table as CSV, UTF-8.

    Lines end with CRLF, as in RFC 4180, so that cells with CR or LF are quoted (Python 3.11 and 3.12 check no
    other characters).
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(_csv_lines(columns, rows))
    text.flush()
    text.detach()


def _csv_lines(columns: Sequence[Column], rows: Iterable[Any]) -> Iterator[list[str]]:
    """Yield the same list for each line: the writer does not keep it, and constant cells are made once."""
    line = [""] * len(columns)
    changing = []
    for index, column in enumerate(columns):
        if isinstance(column.cell, Constant):
            line[index] = _WRITE[column.kind](column.cell.value)
        else:
            changing.append((index, column.getter, _WRITE[column.kind]))
    for row in rows:
        for index, cell, write in changing:
            line[index] = write(cell(row))
        yield line


def write_parquet(file: IO[bytes], columns: Sequence[Column], rows: Callable[[], Iterable[Any]]) -> None:
    """
    Write a table as Parquet; amounts are decimals.

    :param rows: returns its rows; called twice, since the longest amount sets the decimals of all.
    :raises MissingLibrary: pyarrow is not installed.
    :raises TooManyDigits: an amount has too many digits for Parquet's decimals.
    """
    pa, parquet = load_pyarrow()
    amounts = [column.getter for column in columns if column.kind == "amount"]
    known = (value for row in rows() for amount in amounts if (value := amount(row)) is not None)
    places = max(places_of(known), _MIN_PLACES)
    if places > _MAX_DIGITS:
        raise TooManyDigits(
            f"An amount has {places} decimals, and Parquet holds {_MAX_DIGITS} digits: use CSV."
        )
    kinds = {
        "text": pa.string(),
        "amount": pa.decimal128(_MAX_DIGITS, places),
        "integer": pa.int64(),
        "flag": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "day": pa.date32(),
    }
    schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])
    remaining = iter(rows())
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while batch := list(itertools.islice(remaining, _BATCH)):
            try:
                arrays = [
                    pa.array(map(column.getter, batch), type=field.type, size=len(batch))
                    for column, field in zip(columns, schema, strict=True)
                ]
            except (pa.ArrowInvalid, OverflowError) as error:
                raise TooManyDigits(f"Parquet holds {_MAX_DIGITS} digits ({error}): use CSV.") from error
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


@contextlib.contextmanager
def long_cells() -> Iterator[None]:
    """Let the csv module read cells of any length, such as a price list of thousands of models."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


@long_cells()
def read_csv(data: bytes, wanted: Sequence[Column]) -> list[Sequence[Any]]:
    """
    Read some columns of a CSV file.

    :param wanted: the columns. Amounts are read as ``Decimal``, integers as ``int``, or ``None`` if the cell
        is empty; all others as text.
    :raises DamagedFile: a column is missing, a line is short, or a cell is not a number.
    """
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(lines, [])
        _require(header, wanted)
        there = [column for column in wanted if column.name in header]
        places = [header.index(column.name) for column in there]
        # All work per line is done in C: a month of 100,000 accounts has three million lines.
        cells = list(zip(*map(operator.itemgetter(*places, 0), lines), strict=True)) or [()] * len(places)
        read = _READ if b"'" in data else _READ | {"text": list}  # it contains no guards
        found = {column.name: read.get(column.kind, list)(cells[index]) for index, column in enumerate(there)}
        return [found.get(column.name) or [None] * len(cells[0]) for column in wanted]
    except IndexError:
        raise DamagedFile(f"line {lines.line_num} has fewer cells than there are columns") from None
    except (csv.Error, ValueError, decimal.InvalidOperation) as error:
        raise DamagedFile(f"it cannot be read as CSV ({error!r})") from error


def read_parquet(data: bytes, wanted: Sequence[Column]) -> list[Sequence[Any]]:
    """
    Read some columns of a Parquet file, as :func:`read_csv` does.

    :raises DamagedFile: a column is missing, or it is not a Parquet file.
    :raises MissingLibrary: pyarrow is not installed.
    """
    pa, parquet = load_pyarrow()
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        _require(file.schema_arrow.names, wanted)
        names = [column.name for column in wanted if column.name in file.schema_arrow.names]
        table = file.read(columns=names)
        return [
            _arrow_cells(pa, table[column.name], column.kind)
            if column.name in names
            else [None] * table.num_rows
            for column in wanted
        ]
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"it cannot be read as Parquet ({error})") from error


def _require(header: Sequence[str], wanted: Sequence[Column]) -> None:
    missing = [column.name for column in wanted if column.is_required and column.name not in header]
    if missing:
        raise DamagedFile(
            f"the column {', '.join(map(repr, missing))} is missing; it has {', '.join(header) or 'none'}"
        )


def _parsed(parse: Callable[[str], Any], cells: Sequence[str]) -> list[Any]:
    return list(map(parse, cells)) if all(cells) else [parse(cell) if cell else None for cell in cells]


def _amounts(cells: Sequence[str]) -> list[Decimal | None]:
    amounts = _parsed(Decimal, cells)
    if not all(map(Decimal.is_finite, filter(None, amounts))):
        raise ValueError("an amount is not a finite number")
    return amounts


def _text(write: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that writes a cell, and ``None`` as an empty one."""
    return lambda value: "" if value is None else write(value)


_READ: dict[str, Callable[[Any], Sequence[Any]]] = {
    "amount": _amounts,
    "integer": functools.partial(_parsed, int),
    "text": lambda cells: [plain_text(cell) for cell in cells],
}
_often_the_same = functools.lru_cache(4096)  # for values that repeat in a column
_WRITE: dict[str, Callable[[Any], str]] = {
    "text": _often_the_same(_text(csv_text)),
    "amount": _text(format_amount),
    "integer": _text(str),
    "flag": _text(lambda flag: str(flag).lower()),
    "time": _often_the_same(_text(utc_text)),
    "day": _often_the_same(_text(str)),
}


def _arrow_cells(pa: Any, cells: Any, kind: str) -> Sequence[Any]:
    if kind == "amount":  # via text: faster than pyarrow's own Decimals, and as exact
        return _amounts(cells.cast(pa.string()).to_pylist())
    if kind == "integer":
        return list(cells.to_pylist())
    return [value or "" for value in cells.cast(pa.string()).to_pylist()]


def load_pyarrow() -> tuple[Any, Any]:
    """
    Return pyarrow and its module for Parquet.

    :raises MissingLibrary: it is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingLibrary(
            "Parquet needs pyarrow, which is not installed here: pip install "
            "'airflow-provider-closeai[parquet]', "
            "or use CSV."
        ) from error
    return pyarrow, pyarrow.parquet
