"""What each alias has spent in the month under way: a listing and the ledger, by which budgets are held."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.client.models import SubAccount
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


def month_to_date(
    ledger: Ledger, accounts: Sequence[SubAccount], at: datetime, time_zone: str = defaults.TIME_ZONE
) -> dict[str, Decimal]:
    """
    Return what each alias has spent this month, by the counters of its accounts, gone ones included.

    Of accounts that were deleted elsewhere, the last snapshot of a day that shows them counts. A counter
    that has not moved since the last snapshot before the month's turn counts 0 from 24 hours after it. What
    an account had before the turn, and still showed when it was deleted just after it, does not count.

    :param ledger: with the snapshots and deletions of this month, and the last snapshot before it.
    :param accounts: the listing.
    :param at: when that was made.
    :param time_zone: where the billing month turns.
    :raises NotRead: a file could not be read, this time.
    """
    month = month_of(at, zone_name(time_zone))
    before = _costs_before(ledger, month)
    latest: dict[int, tuple[str, Decimal]] = {}
    moved: set[int] = set()

    def note(account_id: int, alias: str, cost: Decimal | None, old: Decimal = ZERO) -> None:
        if cost is None:
            return
        latest[account_id] = (alias, total([cost], less=[old]))
        if cost != before.get(account_id, cost):
            moved.add(account_id)

    for file in _files(ledger, month):
        is_near = file.kind == DELETED and file.at < Turn(month.start).closes
        old = _not_reset(ledger, month, file, before) if is_near else {}
        for account_id, alias, cost in _rows(ledger, file):
            note(account_id, alias, cost, old.get(account_id, ZERO))
    for account in accounts:
        note(account.id, account.alias or "", account.monthly_cost)
    is_settled = at >= month.start + STUCK_AFTER
    spent: dict[str, Decimal] = {}
    for account_id, (alias, cost) in latest.items():
        is_stuck = is_settled and account_id in before and account_id not in moved
        spent[alias] = total([spent.get(alias, ZERO), ZERO if is_stuck else cost])
    return spent


def _costs_before(ledger: Ledger, month: Month) -> dict[int, Decimal]:
    """Return the counters of the last usable snapshot before the month's turn."""
    months = [name for name in ledger.months(SNAPSHOTS) if name < month.name]
    for file in (file for name in reversed(months) for file in reversed(ledger.files(SNAPSHOTS, name))):
        rows = _rows(ledger, file)
        if rows:
            return {account_id: cost for account_id, _, cost in rows if cost is not None}
    return {}


def _not_reset(
    ledger: Ledger, month: Month, deletion: LedgerFile, before: dict[int, Decimal]
) -> dict[int, Decimal]:
    """Return what deleted accounts had before the turn, where their counters were never below that since."""
    found = {number: cost for number, _, cost in _rows(ledger, deletion) if cost is not None}
    files = [file for file in ledger.files(SNAPSHOTS, month.name) if file.at <= deletion.at]
    seen = [row for file in [*files, deletion] for row in _rows(ledger, file) if row[0] in found]
    fallen = {number for number, _, cost in seen if cost is not None and cost < before.get(number, ZERO)}
    return {number: before[number] for number in found.keys() & before.keys() - fallen}


def _files(ledger: Ledger, month: Month) -> list[LedgerFile]:
    """Return the month's last snapshot of each day and all deletions, oldest first."""
    daily = {month.local(file.at).date(): file for file in ledger.files(SNAPSHOTS, month.name)}
    return sorted([*daily.values(), *ledger.files(DELETED, month.name)], key=lambda file: file.order)


def _rows(ledger: Ledger, file: LedgerFile) -> list[tuple[int, str, Decimal | None]]:
    try:
        columns = ledger.read(file, ("sub_account_id", "alias", "monthly_cost"))
        return list(zip(*columns, strict=True))
    except DamagedFile as error:
        log.warning("Left out of what is spent this month: %s", error)
        return []
