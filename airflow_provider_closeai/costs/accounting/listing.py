"""Checks that listings can be recorded, and turns their accounts into observations."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from airflow_provider_closeai.client.errors import UnreadableAccount
from airflow_provider_closeai.client.models import Item, SubAccount, UnreadableItem, pricing_record
from airflow_provider_closeai.costs.accounting.money import is_bookable
from airflow_provider_closeai.costs.accounting.months import Month, format_ids
from airflow_provider_closeai.costs.accounting.observations import Observation
from airflow_provider_closeai.costs.errors import SnapshotRefused

log = logging.getLogger(__name__)

_SHOWN = 10


def require_readable(listing: Iterable[Item]) -> list[SubAccount]:
    """
    Return a listing's accounts.

    :raises UnreadableAccount: an entry cannot be read.
    """
    items = list(listing)
    if unreadable := _unreadable(items):
        raise UnreadableAccount(
            f"The listing has sub-accounts that cannot be read: {unreadable}. A snapshot counts all "
            "accounts or none: nothing was recorded. A retry reads them again; if it lasts, ask the platform "
            "about these accounts. The next snapshot of the month has all that this one would have had."
        )
    return [item for item in items if isinstance(item, SubAccount)]


def require_recordable(accounts: Sequence[SubAccount]) -> Sequence[SubAccount]:
    """
    Check, before accounts are deleted, that their last state can be recorded; return them.

    :raises UnreadableAccount: an amount is too large or too small for money, and no report could count it.
    """
    if unreadable := _unreadable(accounts):
        raise UnreadableAccount(
            f"Sub-accounts that were to be deleted cannot be recorded: {unreadable}. Nothing was recorded or "
            "deleted: what they cost would be lost. A retry reads them again; if it lasts, ask the platform "
            "about these accounts, and select the others."
        )
    if unknown := [account.id for account in accounts if account.monthly_cost is None]:
        log.warning(
            "Listed without a monthly_cost, and to be deleted: %s. What they spent since an observation "
            "last had their cost is in no report.",
            format_ids(unknown),
        )
    return accounts


def _unreadable(items: Iterable[Item]) -> str:
    """Describe the entries that cannot be recorded; empty if there are none."""
    found = [
        f"{'an entry without an id' if item.id is None else item.id} ({problem})"
        for item in items
        if (problem := _problem(item))
    ]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def _problem(item: Item) -> str:
    if isinstance(item, UnreadableItem):
        return item.problem
    is_absurd = item.monthly_cost is not None and not is_bookable(item.monthly_cost)
    return "monthly_cost: no money has that size" if is_absurd else ""


def require_main_account(rows: Iterable[Observation], known: int | None, ledger: object) -> None:
    """
    Check that a listing belongs to the ledger's main account.

    :param known: the main account's id in the ledger; ``None``: none yet.
    :param ledger: the ledger's folder, for the message.
    :raises SnapshotRefused: accounts belong to another main account, or to several.
    """
    listed = sorted({row.user_id for row in rows if row.user_id is not None})
    if len(listed) > 1:
        raise SnapshotRefused(
            f"The listing has accounts of the main accounts {', '.join(map(str, listed[:_SHOWN]))}: one key "
            "lists one main account's. Nothing was recorded. Look at the connection; where it is right, ask "
            "the platform."
        )
    if listed and known is not None and listed != [known]:
        raise SnapshotRefused(
            f"The listing is of the main account {listed[0]}, and the ledger {ledger} of {known}: their "
            "costs would be added. Nothing was recorded. Give each main account a ledger of its own, or "
            "correct closeai_conn_id."
        )


def require_within(month: Month, ended: datetime) -> None:
    """
    Check that a listing lies within one month.

    :raises SnapshotRefused: the month turned meanwhile.
    """
    if ended >= month.end:
        raise SnapshotRefused(
            f"The listing began in {month.name} and ended after the month's turn in {month.zone}: some "
            "counters are of the old month, some of the new one. Nothing was recorded or deleted; a retry "
            "reads the new month. Let what runs before the turn begin earlier."
        )


def refuse_empty(name: str, rows: int, left: Sequence[int]) -> None:
    """
    Refuse an empty listing if accounts should remain.

    :param name: the last snapshot's file.
    :param rows: how many accounts it has.
    :param left: its accounts without a recorded deletion.
    :raises SnapshotRefused: there are some.
    """
    if left:
        raise SnapshotRefused(
            f"The listing is empty, and {name} has {rows} sub-accounts, of which {len(left)} were not "
            f"deleted by this provider (ids {', '.join(map(str, left[:_SHOWN]))}). That is rather a fault of "
            "the platform or another main account's key than the truth. Nothing was recorded. Look at the "
            "connection; if they were really all deleted elsewhere, pause this DAG: their last "
            "snapshot stays their last figure."
        )


def observations_of(accounts: Iterable[SubAccount]) -> list[Observation]:
    """Return accounts as observations, sorted by id."""
    return [
        Observation(
            account.id,
            account.alias or "",
            account.monthly_cost,
            account.created_at or "",
            account.enabled,
            account.balance if account.balance is not None and is_bookable(account.balance) else None,
            json.dumps(pricing_record(account.pricing), ensure_ascii=False, separators=(",", ":")),
            account.user_id,
        )
        for account in sorted(accounts, key=lambda account: account.id)
    ]
