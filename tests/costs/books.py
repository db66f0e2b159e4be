"""Ledgers written by hand, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_closeai.costs import months
from airflow_provider_closeai.costs.figures import Report
from airflow_provider_closeai.costs.ledger import CONTROL, DELETED, SNAPSHOTS, Ledger, run_key
from airflow_provider_closeai.costs.months import Month, month_of
from airflow_provider_closeai.costs.owners import budgets_of, owners_of
from airflow_provider_closeai.costs.report import build_report

SHANGHAI = timezone(timedelta(hours=8))
OLD = "2026-01-05T10:00:00.000001+08:00"


def local(text: str) -> datetime:
    """Read a time of Shanghai such as ``11-24 09:00``."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=SHANGHAI)


class Clock:
    def __init__(self) -> None:
        self.at = local("11-30 12:00")

    def __call__(self) -> datetime:
        return self.at


class Book:
    """Writes observations: ``book.seen("11-24 09:00", {1: "0.5"})``."""

    def __init__(self, root: Path, extension: str = "csv") -> None:
        self.ledger = Ledger(root)
        self.extension = extension

    def seen(
        self, at: str | datetime, costs: Mapping[int, Any], *, kind: str = SNAPSHOTS, run: str | None = None
    ) -> Any:
        """Write one; a value is a cost, or ``(cost, alias)``, or ``(cost, alias, created_at)``."""
        moment = local(at) if isinstance(at, str) else at
        month = month_of(moment).name
        rows = []
        for account_id, value in costs.items():
            cost, alias, created = (
                (*value, None, None)[:3] if isinstance(value, tuple) else (value, None, None)
            )
            rows.append(
                (
                    moment,
                    month,
                    account_id,
                    alias or f"a-{account_id}",
                    True,
                    Decimal(100),
                    None if cost is None else Decimal(cost),
                    "[]",
                    created or OLD,
                )
            )
        key = run or run_key(moment, kind)
        return self.ledger.write(
            kind, month, moment, key, rows, extension=self.extension, replace=run is not None
        )

    def deleted(self, at: str, costs: Mapping[int, Any]) -> Any:
        return self.seen(at, costs, kind=DELETED)

    def control(self, at: str, used: str) -> None:
        moment = local(at)
        month = month_of(moment).name
        self.ledger.write(CONTROL, month, moment, run_key(moment), [(moment, month, Decimal(used))])

    def report(self, month: str = "2026-11", **options: Any) -> Report:
        currency = options.pop("currency", "CNY")
        return build_report(
            self.ledger,
            Month(month, options.pop("zone", months.DEFAULT_ZONE)),
            currency=currency,
            owners=owners_of(options.pop("owners", None)),
            budgets=budgets_of(options.pop("budgets", None), currency),
            **options,
        )
