"""The files of a report: which there are, and what writes each."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.report_model import Report
from airflow_provider_closeai.costs.inputs import short_repr
from airflow_provider_closeai.costs.render import focus, focus_metadata, json_report, outputs
from airflow_provider_closeai.costs.render.focus import Dataset
from airflow_provider_closeai.costs.tables import Column

#: ``focus`` is one file, to hand over; the others are folders with a part for each month, to query.
FOCUS_FORMATS = frozenset({"focus", "focus-csv", "focus-parquet"})
FORMATS = ("html", "csv", "json", "parquet", "focus", "focus-csv", "focus-parquet")
_STATEMENTS = "statements"


class OutputFile(msgspec.Struct, frozen=True):
    """
    A file to write.

    :param label: what is in it: ``html``, ``owners.csv`` ...
    :param name: its name, perhaps in a folder.
    :param write: writes it into an open file.
    """

    label: str
    name: str
    write: Callable[[IO[bytes]], None]


def parse_formats(source: object) -> tuple[str, ...]:
    """
    Read the ``formats`` parameter.

    :param source: some of ``FORMATS``: a list, or a text with commas.
    :raises InvalidParameter: another one, or none.
    :raises MissingLibrary: Parquet without pyarrow.
    """
    text = source.rstrip(", \n").split(",") if isinstance(source, str) else None
    given: Iterable[Any] = text or (source if isinstance(source, Iterable) else ())
    names = [name.strip().lower() if isinstance(name, str) else name for name in given]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        found = ", ".join(map(short_repr, unknown)) or "none given"
        raise InvalidParameter(f"formats: {found}; there are {', '.join(FORMATS)}.")
    if any(name.endswith("parquet") for name in names):
        tables.load_pyarrow()
    return tuple(dict.fromkeys(names))


def files_of(
    dataset: Dataset, earlier: Earlier, formats: Sequence[str], *, alerts: Sequence[str], statements: bool
) -> Iterator[OutputFile]:
    """
    Return the files of a report.

    :param formats: some of ``FORMATS``.
    :param alerts: about accounts, for the page.
    :param statements: also a page for each team.
    """
    report = dataset.report
    stem = f"closeai-costs-{report.month.name}"
    # FOCUS first: what is wrong with it is a warning on the page.
    for kind in sorted(formats, key=lambda kind: kind not in FOCUS_FORMATS):
        if kind == "json":
            write = functools.partial(json_report.write_json, report=report, earlier=earlier)
            yield OutputFile(kind, f"{stem}.json", write)
        elif kind == "html":
            yield _page(dataset, earlier, stem, alerts=alerts, statements=statements)
        elif kind in FOCUS_FORMATS:
            yield _focus(kind, dataset, stem)
        else:
            yield from _tables(kind, report, stem)
    if any(kind in FOCUS_FORMATS for kind in formats):
        write = functools.partial(focus_metadata.write_metadata, dataset=dataset)
        yield OutputFile("focus-metadata", f"{stem}-focus-metadata.json", write)
    if statements:
        back = f"../../{stem}.html" if "html" in formats else ""
        yield from _statements(dataset, earlier, back=back)


def _focus(kind: str, dataset: Dataset, stem: str) -> OutputFile:
    extension = "parquet" if kind == "focus-parquet" else "csv"
    name = f"{stem}-focus.{extension}"
    if kind != "focus":
        name = f"{kind}/billing_month={dataset.report.month.name}/{name}"
    rows = functools.partial(focus.charges, dataset)
    return OutputFile(kind, name, _table(extension, focus.columns_of(dataset), rows))


def _table(
    extension: str, columns: Sequence[Column], rows: Callable[[], Iterable[Any]], mark: bytes = b""
) -> Callable[[IO[bytes]], None]:
    """Return what writes a table; ``mark`` is the byte order mark by which a spreadsheet knows UTF-8."""

    def write(file: IO[bytes]) -> None:
        if extension == "parquet":
            tables.write_parquet(file, columns, rows)
        else:
            file.write(mark)
            tables.write_csv(file, columns, rows())

    return write


def _tables(kind: str, report: Report, stem: str) -> Iterator[OutputFile]:
    for table in outputs.tables_of(report):
        write = _table(kind, table.columns, table.rows, codecs.BOM_UTF8)
        yield OutputFile(f"{table.name}.{kind}", f"{stem}-{table.name}.{kind}", write)


def _page(
    dataset: Dataset, earlier: Earlier, stem: str, *, alerts: Sequence[str], statements: bool
) -> OutputFile:
    from airflow_provider_closeai.costs.render.page import render  # not before: it imports Jinja

    report, account = dataset.report, dataset.account
    folder = f"{_STATEMENTS}/{report.month.name}" if statements else ""
    page = functools.partial(render, report, earlier, account=account, alerts=alerts, statements=folder)
    return OutputFile("html", f"{stem}.html", _text(page))


def _text(render: Callable[[], str]) -> Callable[[IO[bytes]], None]:
    def write(file: IO[bytes]) -> None:
        file.write(render().encode())

    return write


def _statements(dataset: Dataset, earlier: Earlier, *, back: str) -> Iterator[OutputFile]:
    from airflow_provider_closeai.costs.render.statement import render, statements_of

    report, account = dataset.report, dataset.account
    for statement in statements_of(report, earlier):
        page = functools.partial(render, report, earlier, statement, account=account, back=back)
        name = f"{_STATEMENTS}/{report.month.name}/{statement.team.page}.html"
        yield OutputFile(f"statement {statement.team.name}", name, _text(page))
