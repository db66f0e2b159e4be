"""Ledgers written by hand, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.costs import (
    CloseRequest,
    Ledger,
    NoteRequest,
    Report,
    ReportRequest,
    ReportResult,
    Run,
    close,
    compute,
    record_note,
    report,
    run_key,
)
from airflow_provider_closeai.costs.accounting.months import month_of
from airflow_provider_closeai.costs.accounting.observations import ControlTotal, Observation
from airflow_provider_closeai.costs.store.kinds import CONTROL, DELETED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import LedgerFile

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

    def __init__(
        self, root: Any, clock: Clock | None = None, extension: str = "csv", zone: str = "Asia/Shanghai"
    ) -> None:
        self.ledger = Ledger(root)
        self.clock = clock or Clock()
        self.extension = extension
        self.zone = zone

    def seen(
        self, at: str | datetime, costs: Mapping[int, Any], *, kind: str = SNAPSHOTS, run: str | None = None
    ) -> Any:
        """Write one; a value is a cost, or ``(cost, alias, created_at, balance)``, or less of that."""
        moment = local(at) if isinstance(at, str) else at
        month = month_of(moment, self.zone).name
        rows = []
        for account_id, value in costs.items():
            cost, alias, created, balance = (
                (*value, None, None, None)[:4] if isinstance(value, tuple) else (value, None, None, None)
            )
            amount = None if cost is None else Decimal(cost)
            rows.append(
                Observation(
                    account_id,
                    alias or f"a-{account_id}",
                    amount,
                    OLD if created is None else created,
                    True,
                    Decimal(100 if balance is None else balance),
                    "[]",
                )
            )
        key = run or run_key(moment, kind)
        return self.ledger.write(kind, month, moment, key, rows, extension=self.extension)

    def turn(self, name: str, accounts: Sequence[int]) -> Any:
        """See counters that start again from 0 at a month's turn: ``book.turn("12", [1, 2])``."""
        return self.seen(f"{name}-01 00:05", dict.fromkeys(accounts, "0"))

    def deleted(self, at: str, costs: Mapping[int, Any]) -> Any:
        return self.seen(at, costs, kind=DELETED)

    def control(self, at: str, used: str) -> None:
        moment = local(at)
        month = month_of(moment).name
        self.ledger.write(CONTROL, month, moment, run_key(moment), [ControlTotal(moment, Decimal(used))])

    def report(self, month: str = "2026-11", **options: Any) -> Report:
        """Compute a month."""
        return compute(self._month(month, options), clock=self.clock)

    def close(self, month: str = "2026-11", run: str = "c" * 12, **options: Any) -> LedgerFile | None:
        """Close a month."""
        return close(self._month(month, options), run=Run(key=run), clock=self.clock)

    def note(self, month: str = "2026-11", **fields: Any) -> LedgerFile | None:
        """Book a note."""
        fields = {"currency": "CNY", "reason": "note", **fields}
        request = NoteRequest.parse(ledger=self.ledger.root, month=month, **fields)
        return record_note(request, clock=self.clock)

    def publish(
        self, output: Any, formats: Any, month: str = "2026-11", run: str | None = None, **options: Any
    ) -> ReportResult:
        """Write a report's files, and find its new alerts."""
        options = {"currency": "CNY", "account": "main", **options}
        request = ReportRequest.parse(
            ledger=self.ledger.root, month=month, output=output, formats=formats, **options
        )
        return report(request, run=Run(key=run) if run else None, clock=self.clock)

    def _month(self, month: str, options: dict[str, Any]) -> CloseRequest:
        options = {"currency": "CNY", "time_zone": self.zone, **options}
        return CloseRequest.parse(ledger=self.ledger.root, month=month, **options)
