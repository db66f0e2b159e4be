"""Write down what the counters say, while they say it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from airflow_provider_closeai.client.errors import CloseAIError, UnreadableAccount
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem, pricing_record
from airflow_provider_closeai.costs import months
from airflow_provider_closeai.costs.errors import SnapshotRefused
from airflow_provider_closeai.costs.ledger import CONTROL, DELETED, SNAPSHOTS, Ledger, LedgerFile, run_key
from airflow_provider_closeai.costs.months import Month, month_of, text_of, total

log = logging.getLogger(__name__)

_NAMED = 10


class Client(Protocol):
    """What is asked of the client: a complete listing, and the control total."""

    def iter_listing(self) -> Iterable[SubAccount | UnreadableItem]:
        """Stream all sub-accounts, each once, and the entries that cannot be read."""

    def main_usage(self) -> Decimal:
        """Return what the main account consumed this month."""


class Taken(msgspec.Struct, frozen=True):
    """
    A snapshot that was recorded.

    :param file: its file.
    :param total: the sum of its ``monthly_cost``.
    :param main_usage: what the main account used, where the platform said so.
    """

    file: LedgerFile
    total: Decimal
    main_usage: Decimal | None

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON, for XCom and for the asset's metadata."""
        return {
            "file": self.file.name,
            "billing_month": self.file.month,
            "observed_at": self.file.at.isoformat(),
            "sub_accounts": self.file.rows,
            "total": text_of(self.total),
            "main_usage": None if self.main_usage is None else text_of(self.main_usage),
        }


def take_snapshot(
    client: Client,
    ledger: Ledger,
    *,
    run: str,
    zone: str = months.DEFAULT_ZONE,
    extension: str = "csv",
    with_main_usage: bool = True,
) -> Taken:
    """
    Record one complete listing.

    :param client: the API.
    :param ledger: where to.
    :param run: the task run (:func:`~airflow_provider_closeai.costs.ledger.run_key`): tried again, it
        replaces its file.
    :param zone: the time zone in which the billing month turns.
    :param extension: ``csv`` or ``parquet``.
    :param with_main_usage: also record what the platform says the main account used. A failure of that call
        is only a warning.
    :raises ListingUnstable: the listing does not agree with its own total. Nothing was recorded.
    :raises UnreadableAccount: an entry cannot be read. Nothing was recorded.
    :raises SnapshotRefused: it spans the month's turn, or is empty while the last one was not.
    """
    began = months.now()
    month = month_of(began, zone)
    listed = _readable(client.iter_listing())
    accounts = [account for account in listed if not account.is_other]
    if len(accounts) < len(listed):
        log.warning("%d listed entries are no sub-accounts: left out.", len(listed) - len(accounts))
    _refuse_turn(month, months.now())
    if not accounts:
        _refuse_empty(ledger, month)
    without = [account.id for account in accounts if account.monthly_cost is None]
    if without:
        log.warning("The platform gave no monthly_cost of %s: these stay empty.", without[:20])
    rows = _rows(accounts, began, month)
    file = ledger.write(SNAPSHOTS, month.name, began, run, rows, extension=extension, replace=True)
    used = _main_usage(client, month) if with_main_usage else None
    if used is not None:
        ledger.write(CONTROL, month.name, began, run, [(began, month.name, used)], replace=True)
    return Taken(file, total(row[6] for row in rows if row[6] is not None), used)


def record_deleted(
    ledger: Ledger,
    accounts: Sequence[SubAccount],
    listed_at: datetime,
    *,
    run: str,
    zone: str = months.DEFAULT_ZONE,
) -> LedgerFile | None:
    """
    Record the last state of accounts that are about to be deleted: their counters go with them.

    Call it after the look at them and before the deletion. Records of an earlier try are never replaced: what
    it deleted is not listed any more.

    :param ledger: where to.
    :param accounts: as they were just listed.
    :param listed_at: when that listing began: their counters are of this time.
    :param run: the task run.
    :param zone: the time zone in which the billing month turns.
    :raises SnapshotRefused: the month has turned since. Nothing was recorded, so nothing may be deleted.
    :returns: the file; ``None`` without accounts.
    """
    if not accounts:
        return None
    month = month_of(listed_at, zone)
    _refuse_turn(month, months.now())
    unique = run_key(run, listed_at, *(account.id for account in accounts))
    file = ledger.write(DELETED, month.name, listed_at, unique, _rows(accounts, listed_at, month))
    log.info("%s: the last records of %d sub-accounts.", file.name, file.rows)
    return file


def _rows(accounts: Iterable[SubAccount], at: datetime, month: Month) -> list[tuple[Any, ...]]:
    return [
        (
            at,
            month.name,
            account.id,
            account.alias,
            account.enabled,
            account.balance,
            account.monthly_cost,
            json.dumps(pricing_record(account.pricing), ensure_ascii=False, separators=(",", ":")),
            account.created_at,
        )
        for account in sorted(accounts, key=lambda account: account.id)
    ]


def _readable(listing: Iterable[SubAccount | UnreadableItem]) -> list[SubAccount]:
    items = list(listing)
    unreadable = [item for item in items if isinstance(item, UnreadableItem)]
    if unreadable:
        told = "; ".join(
            f"{'an entry without an id' if item.id is None else item.id} ({item.problem})"
            for item in unreadable[:_NAMED]
        )
        more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
        raise UnreadableAccount(
            f"The listing has sub-accounts that cannot be read: {told}{more}. A snapshot counts all accounts "
            "or none: nothing was recorded. A retry reads them again; if it lasts, ask the platform about "
            "these accounts. The next snapshot of the month has all that this one would have had."
        )
    return [item for item in items if isinstance(item, SubAccount)]


def _refuse_turn(month: Month, ended: datetime) -> None:
    if ended >= month.end:
        raise SnapshotRefused(
            f"The listing began in {month.name} and ended after the month's turn in {month.zone}: some "
            "counters are of the old month, some of the new one. Nothing was recorded or deleted; a retry "
            "reads the new month. Let what runs before the turn begin earlier."
        )


def _refuse_empty(ledger: Ledger, month: Month) -> None:
    last = ledger.newest(SNAPSHOTS)
    if last is None or not last.rows:
        return
    gone = {
        account_id
        for name in {last.month, month.name}
        for file in ledger.files(DELETED, name)
        for account_id in ledger.read(file, ["sub_account_id"])[0]
    }
    left = [number for number in ledger.read(last, ["sub_account_id"])[0] if number not in gone]
    if left:
        raise SnapshotRefused(
            f"The listing is empty, and {last.name} has {last.rows} sub-accounts, of which {len(left)} were "
            f"not deleted by this provider (ids {', '.join(map(str, left[:10]))}). That is rather a fault "
            "of the platform or another main account's key than the truth. Nothing was recorded. Look at "
            "the connection; if they were really all deleted elsewhere, pause this DAG: their last "
            "snapshot stays their last figure."
        )


def _main_usage(client: Client, month: Month) -> Decimal | None:
    try:
        used = client.main_usage()
    except CloseAIError as error:
        log.warning("No control total this time: %s", error)
        return None
    if months.now() >= month.end:
        log.warning("No control total this time: it came after the month's turn.")
        return None
    return used
