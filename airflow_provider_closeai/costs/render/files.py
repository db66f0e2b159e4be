"""The files of a report: which there are, and what writes each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.report_model import Report
from airflow_provider_closeai.costs.render import focus, focus_metadata, json_report, outputs
from airflow_provider_closeai.costs.render.focus import Dataset

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
    names = [str(name).strip().lower() for name in text or (source if isinstance(source, Iterable) else ())]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        found = ", ".join(map(repr, unknown)) or "none given"
        raise InvalidParameter(f"formats: {found}; there are {', '.join(FORMATS)}.")
    if any(name.endswith("parquet") for name in names):
        tables.parse_file_format("formats", "parquet")
    return tuple(dict.fromkeys(names))


def files_of(
    report: Report,
    earlier: Earlier,
    formats: Sequence[str],
    dataset: Dataset,
    *,
    alerts: Sequence[str],
    statements: bool,
) -> Iterator[OutputFile]:
    """
    Return the files of a report.

    :param report: the month.
    :param earlier: the months before.
    :param formats: some of ``FORMATS``.
    :param dataset: the month for FOCUS; its ``account`` is on the pages, too.
    :param alerts: about accounts, for the page.
    :param statements: also a page for each team.
    """
    stem = f"closeai-costs-{report.month.name}"
    # FOCUS first: what is wrong with it is a warning on the page.
    for kind in sorted(formats, key=lambda kind: kind not in FOCUS_FORMATS):
        if kind == "json":
            write = functools.partial(json_report.write_json, report=report, earlier=earlier)
            yield OutputFile(kind, f"{stem}.json", write)
        elif kind == "html":
            yield _page(report, earlier, dataset.account, stem, alerts=alerts, statements=statements)
        elif kind in FOCUS_FORMATS:
            yield _focus(kind, dataset, stem)
        else:
            yield from _tables(kind, report, stem)
    if any(kind in FOCUS_FORMATS for kind in formats):
        write = functools.partial(focus_metadata.write_metadata, dataset=dataset)
        yield OutputFile("focus-metadata", f"{stem}-focus-metadata.json", write)
    if statements:
        back = f"../../{stem}.html" if "html" in formats else ""
        yield from _statements(report, earlier, dataset.account, back=back)


def _focus(kind: str, dataset: Dataset, stem: str) -> OutputFile:
    extension = "parquet" if kind == "focus-parquet" else "csv"
    writer = focus.write_parquet if extension == "parquet" else focus.write_csv
    name = f"{stem}-focus.{extension}"
    if kind != "focus":
        name = f"{kind}/billing_month={dataset.report.month.name}/{name}"
    return OutputFile(kind, name, functools.partial(writer, dataset=dataset))


def _tables(kind: str, report: Report, stem: str) -> Iterator[OutputFile]:
    for table in outputs.tables_of(report):
        write = (
            functools.partial(outputs.write_csv, table=table)
            if kind == "csv"
            else functools.partial(outputs.write_parquet, table=table, report=report)
        )
        yield OutputFile(f"{table.name}.{kind}", f"{stem}-{table.name}.{kind}", write)


def _page(
    report: Report, earlier: Earlier, account: str, stem: str, *, alerts: Sequence[str], statements: bool
) -> OutputFile:
    from airflow_provider_closeai.costs.render.page import write_page  # not before: it imports Jinja

    write = functools.partial(
        write_page,
        report=report,
        earlier=earlier,
        account=account,
        alerts=alerts,
        statements=f"{_STATEMENTS}/{report.month.name}" if statements else "",
    )
    return OutputFile("html", f"{stem}.html", write)


def _statements(report: Report, earlier: Earlier, account: str, *, back: str) -> Iterator[OutputFile]:
    from airflow_provider_closeai.costs.render.statement import statements_of, write_statement

    for statement in statements_of(report, earlier):
        write = functools.partial(
            write_statement, report=report, earlier=earlier, statement=statement, account=account, back=back
        )
        name = f"{_STATEMENTS}/{report.month.name}/{statement.team.page}.html"
        yield OutputFile(f"statement {statement.team.name}", name, write)
