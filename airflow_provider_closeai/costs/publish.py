"""Write a report's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any

from airflow_provider_closeai.costs import focus, outputs
from airflow_provider_closeai.costs.alerts import Alert
from airflow_provider_closeai.costs.figures import Report
from airflow_provider_closeai.costs.files import whole
from airflow_provider_closeai.costs.ledger import Ledger
from airflow_provider_closeai.costs.months import text_of


def publish(
    report: Report,
    ledger: Ledger,
    output: Any,
    formats: Sequence[str],
    *,
    account: str,
    billed: str = "effective",
) -> dict[str, str]:
    """
    Write a report's files; those of an earlier report of the same month are replaced, one by one.

    :param report: the month.
    :param ledger: where corrections of earlier months are (FOCUS).
    :param output: the folder: a ``pathlib.Path`` or an ``ObjectStoragePath``.
    :param formats: some of :data:`~airflow_provider_closeai.costs.outputs.FORMATS`.
    :param account: the main account's name (FOCUS, and the page).
    :param billed: ``effective`` or ``zero`` (FOCUS).
    :raises NotWritten: the folder or the store does not take a file.
    :returns: the files' paths, by what is in them: ``html``, ``owners.csv`` ...
    """
    from airflow_provider_closeai.costs.page import render  # not before: it imports Jinja

    issuer = focus.Issuer(account, billed)
    stem = f"closeai-costs-{report.month.name}"
    written: dict[str, str] = {}

    def put(what: str, name: str, write: Callable[[IO[bytes]], None]) -> None:
        target = output / name
        with whole(target) as file:
            write(file)
        written[what] = str(target)

    for kind in sorted(formats, key=lambda kind: kind != "focus"):  # first: it may have a warning to add
        if kind == "json":
            put(kind, f"{stem}.json", lambda file: outputs.write_json(file, report))
        elif kind == "focus":
            put(kind, f"{stem}-focus.csv", lambda file: focus.write_focus(file, report, ledger, issuer))
        elif kind == "html":
            put(kind, f"{stem}.html", lambda file: _write(file, render(report, account=account)))
        else:
            for table in outputs.tables_of(report):
                put(f"{table.name}.{kind}", f"{stem}-{table.name}.{kind}", _table_writer(table, kind, report))
    return written


def result_of(report: Report, files: dict[str, str], new: Sequence[Alert]) -> dict[str, Any]:
    """
    Return a report's main figures as plain JSON, for XCom and for the asset's metadata.

    :param report: the month.
    :param files: what :func:`publish` wrote.
    :param new: the alerts that no earlier run reported.
    """
    return {
        "billing_month": report.month.name,
        "currency": report.currency,
        "status": report.status,
        "closed": report.closing is not None,
        "total": text_of(report.totals.month_to_date),
        "forecast": None if report.forecast is None else text_of(report.forecast),
        "files": files,
        "warnings": report.warnings,
        "alerts": [alert.record() for alert in new],
    }


def _table_writer(table: outputs.Table, kind: str, report: Report) -> Callable[[IO[bytes]], None]:
    if kind == "csv":
        return lambda file: outputs.write_csv(file, table)
    return lambda file: outputs.write_parquet(file, table, report)


def _write(file: IO[bytes], text: str) -> None:
    file.write(text.encode())
