"""The files of a report, and what writes each."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.inputs import short_repr
from airflow_provider_closeai.costs.render import focus, json_report, outputs
from airflow_provider_closeai.costs.render.focus import Dataset
from airflow_provider_closeai.costs.tables import Column

#: ``focus`` is one file, to hand over; the others are folders with a part per month, to query.
FOCUS_FORMATS = frozenset({"focus", "focus-csv", "focus-parquet"})
FORMATS = ("html", "csv", "json", "parquet", "focus", "focus-csv", "focus-parquet")
#: Opens a file: takes its label (``html``, ``owners.csv`` ...) and its name, perhaps with a folder.
OpenFile = Callable[[str, str], AbstractContextManager[IO[bytes]]]


def parse_formats(source: object) -> tuple[str, ...]:
    """
    Read the ``formats`` parameter.

    :param source: some of ``FORMATS``: a list, or a text with commas.
    :raises InvalidParameter: there is another one, or none.
    :raises MissingLibrary: Parquet is requested without pyarrow.
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


def write_files(
    dataset: Dataset,
    earlier: Earlier,
    formats: Sequence[str],
    open_file: OpenFile,
    *,
    alerts: Sequence[str],
    statements: bool,
) -> None:
    """
    Write the files of a report.

    :param formats: some of ``FORMATS``.
    :param open_file: opens each file.
    :param alerts: alerts about accounts, for the page.
    :param statements: also write a page for each team.
    """
    report, account = dataset.report, dataset.account
    stem, pages = f"closeai-costs-{report.month.name}", f"statements/{report.month.name}"
    for kind in formats:
        if kind == "json":
            with open_file(kind, f"{stem}.json") as file:
                json_report.write_json(file, report, earlier)
        elif kind == "html":
            from airflow_provider_closeai.costs.render import page  # here, as it imports Jinja

            folder = pages if statements else ""
            html = page.render(report, earlier, account=account, alerts=alerts, statements=folder)
            with open_file(kind, f"{stem}.html") as file:
                file.write(html.encode())
        elif kind in FOCUS_FORMATS:
            extension = "parquet" if kind == "focus-parquet" else "csv"
            folder = "" if kind == "focus" else f"{kind}/billing_month={report.month.name}/"
            with open_file(kind, f"{folder}{stem}-focus.{extension}") as file:
                rows = functools.partial(focus.charges, dataset)
                _write_table(file, extension, focus.columns_of(dataset), rows)
        else:
            for table in outputs.tables_of(report):
                label = f"{table.name}.{kind}"
                with open_file(label, f"{stem}-{label}") as file:
                    _write_table(file, kind, table.columns, table.rows, codecs.BOM_UTF8)
    if not FOCUS_FORMATS.isdisjoint(formats):
        with open_file("focus-metadata", f"{stem}-focus-metadata.json") as file:
            focus.write_metadata(file, dataset)
    if statements:
        from airflow_provider_closeai.costs.render.page import render_statements

        back = f"../../{stem}.html" if "html" in formats else ""
        for team, html in render_statements(report, earlier, account=account, back=back):
            with open_file(f"statement {team.name}", f"{pages}/{team.page}.html") as file:
                file.write(html.encode())


def _write_table(
    file: IO[bytes],
    extension: str,
    columns: Sequence[Column],
    rows: Callable[[], Iterable[Any]],
    mark: bytes = b"",
) -> None:
    """Write a table; ``mark`` is the byte order mark by which spreadsheets recognise UTF-8."""
    if extension == "parquet":
        tables.write_parquet(file, columns, rows)
    else:
        file.write(mark)
        tables.write_csv(file, columns, rows())
