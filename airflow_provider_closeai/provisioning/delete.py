"""Guarded delete: looks first, records what is lost, refuses what was not meant, reads back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import SubAccount, amount_text
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.accounts import (
    CONFIRM_WITHIN,
    count_of,
    format_ids,
    read_until,
    require_keys,
    select,
    still_listed,
    with_doubt,
)
from airflow_provider_closeai.provisioning.errors import NotASubAccount, NotConfirmed, TooManySelected
from airflow_provider_closeai.provisioning.selection import Selection, selection

log = logging.getLogger(__name__)


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, validated."""

    accounts: Selection
    missing: str
    max_delete: int | None
    batch_size: int
    dry_run: bool


def deletion(
    sub_accounts: object = None,
    alias: object = None,
    sks: object = None,
    missing: object = "ignore",
    max_delete: object = None,
    batch_size: object = 100,
    dry_run: object = False,
) -> Deletion:
    """
    Validate the parameters of a delete.

    :param missing: ``ignore``: an account that is not there is deleted already. ``fail``: it is an error.
    :param max_delete: refuse to delete more than this many; ``None``: no bound.
    :raises InvalidParameter: naming the first that is wrong.
    """
    return Deletion(
        accounts=selection(sub_accounts, alias, sks),
        missing=inputs.choice("missing", missing, ("ignore", "fail")),
        max_delete=None if max_delete is None else inputs.whole("max_delete", max_delete, 0),
        batch_size=inputs.whole("batch_size", batch_size, 1),
        dry_run=inputs.flag("dry_run", dry_run),
    )


def delete_sub_accounts(
    client: CloseAIClient, asked: Deletion, record: Callable[[Sequence[SubAccount]], None] | None = None
) -> list[SubAccount]:
    """
    Delete accounts, and return their last state: money is not forgotten.

    :param client: the API.
    :param asked: what is asked for.
    :param record: is given the accounts just before they are deleted; what it raises stops the deletion.
    :returns: the accounts as they were just before (with ``dry_run``: that would be deleted).
    :raises MissingAccounts: ``missing="fail"``, and one is not listed. Nothing was deleted.
    :raises NotASubAccount: one is something else. Nothing was deleted.
    :raises TooManySelected: more than ``max_delete``. Nothing was deleted.
    :raises MaskedKeys: the listing hides their keys. Nothing was deleted or recorded.
    :raises Declined: the platform said no, and they are still listed.
    :raises NotConfirmed: the listing still shows some 30 seconds later.
    """
    accounts = select(client, asked.accounts, missing=asked.missing)
    _refuse(accounts, asked.max_delete)
    if not asked.dry_run:
        require_keys(accounts)
    for account in accounts:
        log.info(
            "Sub-account %s (%r, %s) %s: monthly_cost %s, balance %s.",
            account.id,
            account.alias,
            account.token.hint,
            "would be deleted" if asked.dry_run else "is deleted, last seen with",
            amount_text(account.monthly_cost),
            amount_text(account.balance),
        )
    if accounts and not asked.dry_run:
        if record is not None:
            record(accounts)
        doubt: OutcomeUnknown | None = None
        try:
            for start in range(0, len(accounts), asked.batch_size):
                doubt = _delete_batch(client, accounts[start : start + asked.batch_size]) or doubt
            _confirm(client, accounts, doubt)
        except CloseAIError as error:
            raise with_doubt(error, doubt) from None
    _close(accounts, asked.dry_run)
    return accounts


def _close(accounts: Sequence[SubAccount], dry_run: bool) -> None:
    ids = format_ids([account.id for account in accounts])
    if not accounts:
        log.info("Nothing to delete: none of the selected sub-accounts is listed.")
    elif dry_run:
        log.info("%s would be deleted (dry run, nothing was changed): ids %s.", count_of(accounts), ids)
    else:
        log.info("Deleted %s, not listed any more: ids %s.", count_of(accounts), ids)


def _refuse(accounts: Sequence[SubAccount], max_delete: int | None) -> None:
    others = [account for account in accounts if not account.is_sub_account]
    if others:
        told = ", ".join(f"{account.id} ({account.token_type!r})" for account in others[:20])
        raise NotASubAccount(
            f"Selected for deletion, but not sub-accounts: {told}. Nothing was deleted. Select sub-accounts "
            "only, by id.",
            call="delete",
        )
    if max_delete is not None and len(accounts) > max_delete:
        raise TooManySelected(
            f"{len(accounts)} sub-accounts are selected, and max_delete is {max_delete}: ids "
            f"{format_ids([account.id for account in accounts])}. Nothing was "
            "deleted. Look at them with dry_run=True; raise max_delete if they are meant.",
            call="delete",
        )


def _delete_batch(client: CloseAIClient, batch: Sequence[SubAccount]) -> OutcomeUnknown | None:
    """
    Delete one batch. What a platform says of keys that are gone already is not known: the listing decides.
    """
    while batch:
        try:
            client.delete(batch)
        except OutcomeUnknown as error:
            log.warning("%s Reading back shows whether it was.", error)
            return error
        except (Rejected, Declined) as error:
            left = batch if error.status in (401, 403) else _left_of(client, batch)
            if len(left) == len(batch):
                raise
            log.info("%d of %d were gone already; deleting the others.", len(batch) - len(left), len(batch))
            batch = left
        else:
            break
    return None


def _left_of(client: CloseAIClient, batch: Sequence[SubAccount]) -> Sequence[SubAccount]:
    left, _ = read_until(
        client, lambda: still_listed(client, batch), lambda listed: len(listed) < len(batch), CONFIRM_WITHIN
    )
    return left


def _confirm(client: CloseAIClient, accounts: Sequence[SubAccount], doubt: OutcomeUnknown | None) -> None:
    left, all_gone = read_until(
        client, lambda: still_listed(client, accounts), lambda listed: not listed, CONFIRM_WITHIN
    )
    if all_gone:
        return
    if doubt is not None:
        raise doubt
    raise NotConfirmed(
        f"The platform accepted the deletion, and {CONFIRM_WITHIN:g} s later still lists "
        f"{format_ids([account.id for account in left])}. A retry deletes them again, which does no harm.",
        call="delete",
    )
