"""What happened to accounts in a month: made, renamed, deleted, gone, corrected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from airflow_provider_closeai.costs.accounting.history import FALL
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.render.numbers import Money, count_text
from airflow_provider_closeai.costs.texts import shown


class Event(msgspec.Struct, frozen=True):
    """Something that happened to an account."""

    at: datetime
    account: AccountCosts
    message: str


def events_of(report: Report, accounts: Sequence[AccountCosts], money: Money) -> list[Event]:
    """Return what happened to some accounts, oldest first."""
    found = [event for account in accounts for event in _of_account(report, account, money)]
    found += [
        Event(item.recorded_at, account, f"{money(item.amount)} appended ({item.source}): {item.reason}")
        for account in accounts
        for item in account.appended
    ]
    return sorted(found, key=lambda event: (event.at, event.account.sub_account_id))


def _of_account(report: Report, line: AccountCosts, money: Money) -> Iterator[Event]:
    if line.created_at is not None and line.created_at >= report.month.start:
        yield Event(line.created_at, line, "created")
    if line.state == "deleted" and line.last_seen is not None:
        value = money(line.history.cost if line.history else None)
        yield Event(line.last_seen, line, f"deleted; its last value of {value} was recorded just before")
    if line.state == "vanished" and line.last_seen is not None:
        gap = count_text(line.gap_minutes)
        yield Event(
            line.last_seen, line, f"not listed any more; up to {gap} minutes of its spending are missing"
        )
    if line.history is None:
        return
    for rename in line.history.renames:
        yield Event(rename.at, line, f"renamed from {shown(rename.old)} to {shown(rename.new)}")
    for span, amount, kind in line.history.movements() if line.falls else ():
        if kind == FALL:
            yield Event(span.end, line, f"corrected by {money(amount)}")
