"""What each alias has spent this month, from a listing and the ledger, to check budgets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
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

#: A counter with its old value this long after the turn will not fall by itself: the platform may begin an
#: account's month with its first use, which a suspended key never has.
STUCK_AFTER = timedelta(hours=24)


class _Row(msgspec.Struct, frozen=True, gc=False):
    """An account in a file or in the listing."""

    id: int
    alias: str
    cost: Decimal
    balance: Decimal | None


class _Counter(msgspec.Struct):
    """
    An account's last counter value, seen at ``at``.

    :param is_record: a deletion's record showed it, or showed less shortly after.
    :param spent: the part of it that is this month's.
    """

    alias: str
    cost: Decimal
    at: datetime
    is_record: bool
    spent: Decimal


def month_to_date(
    ledger: Ledger, accounts: Sequence[SubAccount], at: datetime, time_zone: str = defaults.TIME_ZONE
) -> dict[str, Decimal]:
    """
    Return what each alias has spent this month, by its accounts' counters, including accounts that are gone.

    For an account deleted elsewhere, the newest of the days' last snapshots that lists it counts; if that has
    no cost for it, nor the listing, that day's last snapshot with one. A counter that has not moved since the
    last snapshot before the month's turn counts 0 from 24 hours after the turn; one back at the same value
    has moved if its balance fell by that value, or a snapshot shows another. An amount from before the turn
    that a counter still showed when last seen near the turn does not count.

    :param ledger: has this month's snapshots and deletions, and the last snapshot before it.
    :param accounts: the current listing.
    :param at: when that was made.
    :param time_zone: where the billing month turns.
    :raises NotRead: a file could not be read this time.
    """
    month = month_of(at, zone_name(time_zone))
    before = _counters_before(ledger, month)
    latest: dict[int, _Counter] = {}
    moved: set[int] = set()
    fallen: set[int] = set()  # below their values before the turn: they have started again

    def note(
        rows: Iterable[_Row], seen_at: datetime, *, is_record: bool = False, is_listing: bool = False
    ) -> None:
        # The listing's counters are judged below.
        is_near_turn = not is_listing and seen_at < Turn(month.start).closes
        for row in rows:
            last, old = latest.get(row.id), before.get(row.id)
            if (
                last
                and row.cost < last.cost
                and (is_record or last.is_record)
                and seen_at - last.at < OVERLAP
            ):
                last.is_record = True
                continue  # as in a report: an older value from an overlapping look, not a fall
            is_reset = not is_near_turn or row.id in fallen
            spent = total([row.cost], less=[] if is_reset or old is None else [old.cost])
            latest[row.id] = _Counter(row.alias, row.cost, seen_at, is_record, spent)
            if old is not None and _has_moved(old, row):
                moved.add(row.id)

    counted, looked_at = _files(ledger, month)
    without: dict[int, LedgerFile] = {}  # by id: the last one that lists it, if without cost
    for file in looked_at:
        rows, costless = _read(ledger, file)
        fallen.update(row.id for row in rows if row.id in before and row.cost < before[row.id].cost)
        if file in counted:
            note(rows, file.at, is_record=file.kind == DELETED)
            for row in rows:
                without.pop(row.id, None)
            without |= dict.fromkeys(costless, file)
    for file in sorted(set(without.values()), key=lambda file: file.order):
        missing = {number for number, last in without.items() if last == file}
        for earlier in _earlier_on_day(ledger, month, file):
            found = [row for row in _rows(ledger, earlier) if row.id in missing]
            missing -= {row.id for row in found}
            note([row for row in found if row.id not in latest or latest[row.id].at < earlier.at], earlier.at)
            if not missing:
                break
    listed = [
        _Row(account.id, account.alias or "", account.monthly_cost, account.balance)
        for account in accounts
        if account.monthly_cost is not None and not account.is_other
    ]
    note(listed, at, is_listing=True)
    stuck: set[int] = set()
    if at >= month.start + STUCK_AFTER:
        still = {number for number, counter in latest.items() if counter.spent} & before.keys() - moved
        stuck = still - _seen_moving(ledger, month, before, still)
    spent: dict[str, Decimal] = {}
    for account_id, counter in latest.items():
        own = ZERO if account_id in stuck else counter.spent
        spent[counter.alias] = total([spent.get(counter.alias, ZERO), own])
    return spent


def _has_moved(before: _Row, now: _Row) -> bool:
    """Return whether a counter differs from before the turn, or the balance has fallen by its value."""
    is_spent_again = (
        now.balance is not None and before.balance is not None and before.balance - now.balance == now.cost
    )
    return now.cost != before.cost or bool(now.cost and is_spent_again)


def _seen_moving(ledger: Ledger, month: Month, before: dict[int, _Row], still: set[int]) -> set[int]:
    """Return the accounts whose counter has moved in any snapshot of the month."""
    moving: set[int] = set()
    for file in ledger.files(SNAPSHOTS, month.name):
        if moving == still:
            break
        rows = (row for row in _rows(ledger, file) if row.id in still)
        moving |= {row.id for row in rows if _has_moved(before[row.id], row)}
    return moving


def _counters_before(ledger: Ledger, month: Month) -> dict[int, _Row]:
    """Return the accounts in the last usable snapshot before the month's turn."""
    months = [name for name in ledger.months(SNAPSHOTS) if name < month.name]
    for file in (file for name in reversed(months) for file in reversed(ledger.files(SNAPSHOTS, name))):
        if rows := _rows(ledger, file):
            return {row.id: row for row in rows}
    return {}


def _files(ledger: Ledger, month: Month) -> tuple[set[LedgerFile], list[LedgerFile]]:
    """
    Return the files that count, and the files to read.

    :returns: all deletions, the snapshots near them, and each day's last snapshot; and, oldest first, these
        with all snapshots before the last of them near the turn.
    """
    snapshots, deletions = ledger.files(SNAPSHOTS, month.name), ledger.files(DELETED, month.name)
    daily = {month.local(file.at).date(): file for file in snapshots}
    beside = [file for file in snapshots if any(abs(file.at - each.at) < OVERLAP for each in deletions)]
    counted = {*daily.values(), *deletions, *beside}
    closes = Turn(month.start).closes
    near_turn = max((file.at for file in counted if file.at < closes), default=month.start)
    early = [file for file in snapshots if file.at <= near_turn]
    return counted, sorted({*counted, *early}, key=lambda file: file.order)


def _earlier_on_day(ledger: Ledger, month: Month, file: LedgerFile) -> list[LedgerFile]:
    """Return the snapshots before a file on its day, newest first."""
    day = month.local(file.at).date()
    snapshots = ledger.files(SNAPSHOTS, month.name)
    return [each for each in reversed(snapshots) if each.at < file.at and month.local(each.at).date() == day]


def _rows(ledger: Ledger, file: LedgerFile) -> list[_Row]:
    """Return the accounts with a cost in a file; none if it is damaged."""
    return _read(ledger, file)[0]


def _read(ledger: Ledger, file: LedgerFile) -> tuple[list[_Row], set[int]]:
    """Return the accounts with a cost in a file, and the ids of those without."""
    try:
        columns = ledger.read(file, ("sub_account_id", "alias", "monthly_cost", "balance"))
    except DamagedFile as error:
        log.warning("Left out of what is spent this month: %s", error)
        return [], set()
    found = list(zip(*columns, strict=True))
    return [_Row(*cells) for cells in found if cells[2] is not None], {
        cells[0] for cells in found if cells[2] is None
    }
