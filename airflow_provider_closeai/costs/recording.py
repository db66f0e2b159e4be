"""Records snapshots of all accounts, and the last state of accounts that are deleted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.costs.accounting import listing
from airflow_provider_closeai.costs.accounting.late_runs import require_in_time
from airflow_provider_closeai.costs.accounting.money import is_bookable, total
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.observations import ControlTotal
from airflow_provider_closeai.costs.clock import Clock, utc_now
from airflow_provider_closeai.costs.requests import DeletionRequest, Run, SnapshotRequest
from airflow_provider_closeai.costs.results import SnapshotResult
from airflow_provider_closeai.costs.store import observations
from airflow_provider_closeai.costs.store.kinds import CONTROL, DELETED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import LedgerFile, run_key

log = logging.getLogger(__name__)


class Client(Protocol):
    """The part of the client that is needed: a complete listing, and the control total."""

    def iter_listing(self) -> Iterable[Item]:
        """Yield all sub-accounts, each once, and the entries that cannot be read."""

    def main_usage(self) -> Decimal:
        """Return the main account's consumption this month."""


def snapshot(
    request: SnapshotRequest, connect: Callable[[], Client], *, run: Run | None = None, clock: Clock = utc_now
) -> SnapshotResult:
    """
    Record one complete listing.

    :param request: what to record, and where.
    :param connect: returns the client, for instance ``hook.get_conn``; not called if the run is too late.
    :param run: the task's run; when tried again, it replaces its file, unless that shows more.
    :param clock: returns the time.
    :raises NothingToDo: other snapshots have all that this one would: the run is late, or others list
        constantly.
    :raises TooLate: the run is late, and what it should have recorded is lost.
    :raises ListingUnstable: the listing is not proven complete. Nothing was recorded.
    :raises UnreadableAccount: an entry cannot be read. Nothing was recorded.
    :raises SnapshotRefused: it spans the month's turn, is empty although accounts should remain, or is of
        another main account.
    """
    run, ledger = run or Run(), request.ledger
    _require_in_time(request, run, clock())
    client = connect()
    began, found = observations.list_alone(ledger, client.iter_listing, clock)
    listed = listing.require_readable(found)
    month = month_of(began, request.time_zone)
    accounts = [account for account in listed if not account.is_other]
    if len(accounts) < len(listed):
        log.warning("%d listed entries are not sub-accounts: left out.", len(listed) - len(accounts))
    listing.require_within(month, clock())
    if not accounts:
        last, left = observations.accounts_left(ledger, month)
        if last is not None:
            listing.refuse_empty(last.name, last.rows, left)
    rows = listing.observations_of(accounts)
    listing.require_main_account(rows, observations.main_account(ledger), ledger.root)
    without = [account.id for account in accounts if account.monthly_cost is None]
    if without:
        log.warning("The platform gave no monthly_cost of %s: these stay empty.", without[:20])
    file = ledger.write(SNAPSHOTS, month.name, began, run.key, rows, extension=request.file_format)
    for earlier in observations.superseded(ledger, month, file):
        ledger.remove(earlier)
    used = _main_usage(client, month, clock) if request.control_total else None
    if used is not None:
        ledger.write(CONTROL, month.name, began, run.key, [ControlTotal(began, used)])
    costs = total(row.monthly_cost for row in rows if row.monthly_cost is not None)
    return SnapshotResult(file, costs, used)


def record_deleted(
    request: DeletionRequest,
    accounts: Sequence[SubAccount],
    listed_at: datetime,
    *,
    run: Run | None = None,
    clock: Clock = utc_now,
) -> LedgerFile | None:
    """
    Record the last state of accounts that are about to be deleted, and their counters with them.

    Call it between listing and deletion. Records of an earlier try stay, since it may have deleted accounts.

    :param request: where to record.
    :param accounts: as they were just listed.
    :param listed_at: when that listing began: the time of their counters.
    :param run: the task run.
    :param clock: returns the time.
    :raises SnapshotRefused: the month has turned since, or the ledger is another main account's. Nothing was
        recorded, so nothing may be deleted.
    :raises UnreadableAccount: an amount cannot be recorded. The same holds.
    :returns: the file; ``None`` without accounts.
    """
    if not accounts:
        return None
    month, now = month_of(listed_at, request.time_zone), clock()
    listing.require_within(month, now)
    key = run_key((run or Run()).key, listed_at, *(account.id for account in accounts))
    rows = listing.observations_of(listing.require_recordable(accounts))
    listing.require_main_account(rows, observations.main_account(request.ledger), request.ledger.root)
    # Snapshots that began meanwhile still list them: date the deletion not before those.
    meanwhile = (
        file.at for file in request.ledger.files(SNAPSHOTS, month.name) if listed_at < file.at <= now
    )
    at = max(meanwhile, default=listed_at)
    file = request.ledger.write(DELETED, month.name, at, key, rows)
    log.info("%s: the last records of %d sub-accounts.", file.name, file.rows)
    return file


def _require_in_time(request: SnapshotRequest, run: Run, now: datetime) -> None:
    if run.due is None:
        return
    month = month_of(run.due, request.time_zone)
    warning = require_in_time(
        due=run.due,
        at=now,
        max_lag=request.max_lag,
        zone=month.zone,
        seen=lambda: [file.at for file in request.ledger.files(SNAPSHOTS, month.name)],
        is_first_run=run.is_first,
    )
    if warning:
        log.warning("%s", warning)


def _main_usage(client: Client, month: Month, clock: Clock) -> Decimal | None:
    try:
        used = client.main_usage()
    except CloseAIError as error:
        log.warning("No control total this time: %s", error)
        return None
    if not is_bookable(used):
        log.warning("No control total this time: no money has the size of what the platform said.")
        return None
    if clock() >= month.end:
        log.warning("No control total this time: it came after the month's turn.")
        return None
    return used
