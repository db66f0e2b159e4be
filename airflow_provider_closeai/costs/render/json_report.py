"""A report as JSON."""

from __future__ import annotations

import functools
import json
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

import msgspec

from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.money import format_amount, total
from airflow_provider_closeai.costs.accounting.report_model import Report, certainty_of
from airflow_provider_closeai.costs.render.outputs import AMOUNTS, records_of
from airflow_provider_closeai.costs.render.summary import headline


def write_json(file: IO[bytes], report: Report, earlier: Earlier) -> None:
    """Write a complete report as JSON, one account per line; amounts are strings."""
    dumps = functools.partial(json.dumps, default=_text, ensure_ascii=False)
    head = dumps(summary(report, earlier), indent=1)
    file.write(head.removesuffix("\n}").encode() + b',\n "accounts": [')
    mark = "\n  "
    for line, record in zip(report.accounts, records_of(report, "accounts"), strict=True):
        record |= {"former_aliases": line.former_aliases, "daily": _by_day(line.daily)}
        file.write((mark + dumps(record, separators=(",", ":"))).encode())
        mark = ",\n  "
    file.write(b"\n ]\n}\n")


def summary(report: Report, earlier: Earlier) -> dict[str, Any]:
    """Return all of a report but its accounts."""
    history, closing = report.history, report.closing
    last = earlier.last
    return {
        "billing_month": report.month.name,
        "time_zone": report.month.zone,
        "currency": report.currency,
        "status": report.status,
        "gap_minutes": report.gap_minutes,
        "generated_at": report.generated_at,
        "first_snapshot": history.snapshots[0],
        "last_snapshot": history.last_snapshot,
        "observed_days": len(report.observed_days),
        "missed_days": report.missed_days,
        "totals": {column.name: column.getter(report.totals) for column in AMOUNTS},
        "certainty": report.certainty,
        "lower_bound": report.lower_bound,
        "uncertain_accounts": len(report.uncertain),
        "unseen_minutes": report.unseen_minutes,
        "forecast": report.forecast,
        "daily": _by_day(report.daily),
        "owners": [
            record | {"daily": _by_day(line.daily)}
            for line, record in zip(report.owners, records_of(report, "owners"), strict=True)
        ],
        "budgets": list(records_of(report, "budgets")),
        "closed": None
        if closing is None
        else {"at": closing.at, "status": closing.status, "total": closing.total},
        "appended": [msgspec.structs.asdict(line) for line in report.appended],
        "main_account": report.control
        and {
            "at": report.control.at,
            "used": report.control.used,
            "not_in_sub_accounts": report.main_difference,
        },
        "warnings": report.warnings,
        "evidence": history.files,
        "headline": headline(report, earlier),
        "last_month": last
        and {
            "billing_month": last.month.name,
            "status": last.status,
            "total": last.amount,
            "by_team": last.by_team,
            "certainty": certainty_of(last.is_uncertain()),
            "uncertain_teams": sorted(last.uncertain),
        },
        "year_to_date": {
            "total": total([earlier.year_before(), report.totals.month_to_date]),
            "months": [month.month.name for month in earlier.of_year] + [report.month.name],
            "not_included": list(earlier.unusable),
            "certainty": certainty_of(report.uncertain or earlier.is_year_uncertain()),
        },
    }


def _by_day(daily: dict[date, Decimal]) -> dict[str, Decimal]:
    return {str(day): amount for day, amount in daily.items()}


def _text(value: Any) -> str:
    """Write values that JSON has no type for."""
    if isinstance(value, Decimal):
        return format_amount(value)
    return tables.utc_text(value) if isinstance(value, datetime) else str(value)
