"""What each alias has spent in the month under way: a listing and the ledger, by which budgets are held."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.costs.accounting.aggregate import OVERLAP
from airflow_provider_closeai.costs.accounting.money import ZERO, total
from airflow_provider_closeai.costs.accounting.months import Month, month_of, zone_name
from airflow_provider_closeai.costs.accounting.turns import Turn
from airflow_provider_closeai.costs.errors import DamagedFile
from airflow_provider_closeai.costs.store.kinds import DELETED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger, LedgerFile

log = logging.getLogger(__name__)

#: A counter that still has its old value so long after the turn will not fall by itself: the platform may
#: begin a month with an account's first use, which a suspended key never sees.
STUCK_AFTER = timedelta(hours=24)


class _Row(msgspec.Struct, frozen=True, gc=False):
    """An account as a file or the listing shows it."""

    id: int
    alias: str
    cost: Decimal | None
    balance: Decimal | None


def month_to_date(
    ledger: Ledger, accounts: Sequence[SubAccount], at: datetime, time_zone: str = defaults.TIME_ZONE
) -> dict[str, Decimal]:
    """
    Return what each alias has spent this month, by the counters of its accounts, gone ones included.

    Of accounts that were deleted elsewhere, the last snapshot of a day that shows them counts. A counter
    that has not moved since the last snapshot before the month's turn counts 0 from 24 hours after it; one
    that is back at the same value has moved if its balance fell by that, or a snapshot shows another value.
    What an account had before the turn, and still showed when it was deleted just after it, does not count.

    :param ledger: with the snapshots and deletions of this month, and the last snapshot before it.
    :param at: when that was made.
    :param time_zone: where the billing month turns.
    :raises NotRead: a file could not be read, this time.
    """
    month = month_of(at, zone_name(time_zone))
    before = _costs_before(ledger, month)
    latest: dict[int, tuple[str, Decimal]] = {}
    looks: dict[int, tuple[Decimal, datetime, bool]] = {}
    moved: set[int] = set()

    def note(row: _Row, seen_at: datetime, *, is_record: bool = False, old: Decimal = ZERO) -> None:
        if row.cost is None:
            return
        if row.id in looks:
            before_it, began, was_record = looks[row.id]
            if row.cost < before_it and (is_record or was_record) and seen_at - began < OVERLAP:
                looks[row.id] = (before_it, began, True)
                return  # as in a report: rather the older value of two looks that overlap than a fall
        looks[row.id] = (row.cost, seen_at, is_record)
        latest[row.id] = (row.alias, total([row.cost], less=[old]))
        if row.id in before and _has_moved(before[row.id], row):
            moved.add(row.id)

    for file in _files(ledger, month):
        is_near = file.kind == DELETED and file.at < Turn(month.start).closes
        old = _not_reset(ledger, month, file, before) if is_near else {}
        for row in _rows(ledger, file):
            note(row, file.at, is_record=file.kind == DELETED, old=old.get(row.id, ZERO))
    for account in accounts:
        if not account.is_other:
            note(_Row(account.id, account.alias or "", account.monthly_cost, account.balance), at)
    still = {number for number, (_, cost) in latest.items() if cost} & before.keys() - moved
    stuck: set[int] = set()
    if at >= month.start + STUCK_AFTER:
        stuck = still - _seen_moving(ledger, month, before, still)
    spent: dict[str, Decimal] = {}
    for account_id, (alias, cost) in latest.items():
        spent[alias] = total([spent.get(alias, ZERO), ZERO if account_id in stuck else cost])
    return spent


def _has_moved(before: _Row, now: _Row) -> bool:
    """Whether a counter has another value than before the turn, or its balance fell by that value since."""
    is_spent_again = (
        now.balance is not None and before.balance is not None and before.balance - now.balance == now.cost
    )
    return now.cost != before.cost or bool(now.cost and is_spent_again)


def _seen_moving(ledger: Ledger, month: Month, before: dict[int, _Row], still: set[int]) -> set[int]:
    """Return those of some accounts that any snapshot of the month shows with another value than before."""
    moving: set[int] = set()
    for file in ledger.files(SNAPSHOTS, month.name):
        if moving == still:
            break
        rows = (row for row in _rows(ledger, file) if row.id in still and row.cost is not None)
        moving |= {row.id for row in rows if _has_moved(before[row.id], row)}
    return moving


def _costs_before(ledger: Ledger, month: Month) -> dict[int, _Row]:
    """Return the accounts of the last usable snapshot before the month's turn, as they were."""
    months = [name for name in ledger.months(SNAPSHOTS) if name < month.name]
    for file in (file for name in reversed(months) for file in reversed(ledger.files(SNAPSHOTS, name))):
        rows = _rows(ledger, file)
        if rows:
            return {row.id: row for row in rows if row.cost is not None}
    return {}


def _not_reset(
    ledger: Ledger, month: Month, deletion: LedgerFile, before: dict[int, _Row]
) -> dict[int, Decimal]:
    """Return what deleted accounts had before the turn, where their counters were never below that since."""
    old = {number: row.cost for number, row in before.items() if row.cost is not None}
    found = {row.id for row in _rows(ledger, deletion) if row.cost is not None}
    files = [file for file in ledger.files(SNAPSHOTS, month.name) if file.at <= deletion.at]
    seen = [row for file in [*files, deletion] for row in _rows(ledger, file) if row.id in found]
    fallen = {row.id for row in seen if row.cost is not None and row.cost < old.get(row.id, ZERO)}
    return {number: old[number] for number in found & old.keys() - fallen}


def _files(ledger: Ledger, month: Month) -> list[LedgerFile]:
    """Return all deletions, the snapshots beside them, and the last one of each day, oldest first."""
    snapshots, deletions = ledger.files(SNAPSHOTS, month.name), ledger.files(DELETED, month.name)
    times = [file.at for file in deletions]

    def is_beside(at: datetime) -> bool:
        return bisect.bisect_right(times, at - OVERLAP) < bisect.bisect_left(times, at + OVERLAP)

    daily = {month.local(file.at).date(): file for file in snapshots}
    found = {*daily.values(), *deletions, *(file for file in snapshots if is_beside(file.at))}
    return sorted(found, key=lambda file: file.order)


def _rows(ledger: Ledger, file: LedgerFile) -> list[_Row]:
    try:
        return list(map(_Row, *ledger.read(file, ("sub_account_id", "alias", "monthly_cost", "balance"))))
    except DamagedFile as error:
        log.warning("Left out of what is spent this month: %s", error)
        return []
