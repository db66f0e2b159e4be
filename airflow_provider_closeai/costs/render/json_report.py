"""A report as JSON."""

from __future__ import annotations

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
    """Write a complete report as JSON; amounts are strings. One account per line."""
    head = json.dumps(_plain(summary(report, earlier)), ensure_ascii=False, indent=1)
    file.write(head.removesuffix("\n}").encode() + b',\n "accounts": [')
    mark = b"\n  "
    for line, record in zip(report.accounts, records_of(report, "accounts"), strict=True):
        daily = {str(day): format_amount(amount) for day, amount in line.daily().items()}
        plain = {name: _plain(value) for name, value in record.items()}
        plain |= {"former_aliases": line.former_aliases, "daily": daily}
        file.write(mark + msgspec.json.encode(plain))
        mark = b",\n  "
    file.write(b"\n ]\n}\n")


def summary(report: Report, earlier: Earlier) -> dict[str, Any]:
    """Return everything of a report but its accounts."""
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
        "daily": report.daily,
        "owners": [
            record | {"daily": line.daily}
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


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return format_amount(value)
        case datetime():
            return tables.utc_text(value)
        case date():
            return value.isoformat()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
