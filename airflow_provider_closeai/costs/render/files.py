"""The files of a report: which there are, and what writes each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.report_model import Movement, Report
from airflow_provider_closeai.costs.render import focus, json_report, outputs

FORMATS = ("html", "csv", "json", "parquet", "focus")


class OutputFile(msgspec.Struct, frozen=True):
    """
    A file to write.

    :param label: what is in it: ``html``, ``owners.csv`` ...
    :param name: its name.
    :param write: writes it into an open file.
    """

    label: str
    name: str
    write: Callable[[IO[bytes]], None]


def parse_formats(source: object) -> tuple[str, ...]:
    """
    Read the ``formats`` parameter.

    :param source: some of ``html``, ``csv``, ``json``, ``parquet``, ``focus``: a list, or a text with commas.
    :raises InvalidParameter: another one, or none.
    :raises MissingLibrary: Parquet without pyarrow.
    """
    text = source.rstrip(", \n").split(",") if isinstance(source, str) else None
    names = [str(name).strip().lower() for name in text or (source if isinstance(source, Iterable) else ())]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        found = ", ".join(map(repr, unknown)) or "none given"
        raise InvalidParameter(f"formats: {found}; there are {', '.join(FORMATS)}.")
    if "parquet" in names:
        tables.parse_file_format("formats", "parquet")
    return tuple(dict.fromkeys(names))


def files_of(
    report: Report, formats: Sequence[str], *, late: Sequence[Movement], account: str, billed_cost: str
) -> Iterator[OutputFile]:
    """
    Return the files of a report.

    :param report: the month.
    :param formats: some of ``FORMATS``.
    :param late: lines appended to earlier months that were booked in this one (FOCUS).
    :param account: the main account's name (FOCUS, and the page).
    :param billed_cost: ``effective`` or ``zero`` (FOCUS).
    """
    from airflow_provider_closeai.costs.render.page import write_page  # not before: it imports Jinja

    stem = f"closeai-costs-{report.month.name}"
    for kind in sorted(formats, key=lambda kind: kind != "focus"):
        if kind == "json":
            yield OutputFile(kind, f"{stem}.json", functools.partial(json_report.write_json, report=report))
        elif kind == "focus":
            write = functools.partial(
                focus.write_focus, report=report, late=late, account=account, billed_cost=billed_cost
            )
            yield OutputFile(kind, f"{stem}-focus.csv", write)
        elif kind == "html":
            yield OutputFile(
                kind, f"{stem}.html", functools.partial(write_page, report=report, account=account)
            )
        else:
            for table in outputs.tables_of(report):
                write = (
                    functools.partial(outputs.write_csv, table=table)
                    if kind == "csv"
                    else functools.partial(outputs.write_parquet, table=table, report=report)
                )
                yield OutputFile(f"{table.name}.{kind}", f"{stem}-{table.name}.{kind}", write)
