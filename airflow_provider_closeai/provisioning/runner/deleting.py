"""Runs deletions: list first, record what is lost, refuse what was not meant, read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.provisioning.delete import batches, closing_line, last_state, refuse
from airflow_provider_closeai.provisioning.errors import NotConfirmed, about, told
from airflow_provider_closeai.provisioning.reading import entries_of, read_until, select
from airflow_provider_closeai.provisioning.requests import DeleteRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.listings import Sent, read_back
from airflow_provider_closeai.provisioning.texts import ids_of

log = logging.getLogger(__name__)

Record = Callable[[Sequence[SubAccount], datetime], None]


def delete(client: CloseAIClient, request: DeleteRequest, record: Record | None = None) -> list[SubAccount]:
    """
    Delete accounts, and return their last state: money is not forgotten.

    :param record: is given the accounts just before they are deleted, and when their listing was begun; what
        it raises stops the deletion.
    :returns: the accounts as they were just before (with ``dry_run``: that would be deleted).
    :raises MissingAccounts: ``missing="fail"``, and one is not listed. Nothing was deleted.
    :raises NotASubAccount: one is something else. Nothing was deleted.
    :raises TooManySelected: more than ``max_delete``. Nothing was deleted.
    :raises MaskedKeys: the listing hides their keys. Nothing was deleted or recorded.
    :raises Declined: the platform said no, and they are still listed.
    :raises NotConfirmed: the listing still shows some 30 seconds later.
    """
    listed_at = client.clock.utc_now()
    accounts = select(client, request.accounts, missing=request.missing)
    if accounts and not request.dry_run:
        return read_back(client, send_deletions(client, accounts, listed_at, request, record))
    refuse(accounts, request.max_delete)
    for account in accounts:
        log.info("%s", last_state(account, request.dry_run))
    log.info("%s", closing_line(accounts, request.dry_run))
    return accounts


class SentDeletions(Sent):
    """Accounts that a listing must not show any more."""

    _left: Sequence[SubAccount] = ()

    def _shows(self, items: Sequence[Item]) -> bool:
        listed = {item.id for item in items}
        self._left = [account for account in self.accounts if account.id in listed]
        return not self._left

    def _conclude(self) -> list[SubAccount]:
        if not self.is_shown:
            left = ids_of(self._left)
            if self._doubt is not None:
                raise about(f"Sub-accounts {left} are still listed", self._doubt)
            raise NotConfirmed(
                f"The platform accepted the deletion, and {locking.CONFIRM_WITHIN:g} s later still lists "
                f"{left}. A retry deletes them again, which does no harm.",
                call="delete",
            )
        log.info("%s", closing_line(self.accounts, dry_run=False))
        return self.accounts


def send_deletions(
    client: CloseAIClient,
    accounts: Sequence[SubAccount],
    listed_at: datetime,
    request: DeleteRequest,
    record: Record | None = None,
) -> SentDeletions:
    """
    Check, record and delete accounts; a listing must show then that they are gone. See :func:`delete`.

    :param listed_at: when their listing was begun.
    """
    refuse(accounts, request.max_delete)
    failures.require_keys(accounts)
    client.prove_filter(accounts)
    for account in accounts:
        log.info("%s", last_state(account, dry_run=False))
    if record is not None:
        record(accounts, listed_at)
    doubt: OutcomeUnknown | None = None
    done: list[SubAccount] = []
    try:
        for batch in batches(accounts, request):
            unknown = _delete_batch(client, batch)
            doubt = unknown or doubt
            done += batch if unknown is None else ()
    except CloseAIError as error:
        raise told(error, _accepted(done), doubt) from None
    return SentDeletions(accounts, locking.CONFIRM_WITHIN, _accepted(done), doubt)


def _accepted(done: Sequence[SubAccount]) -> str:
    return f"the platform accepted the deletion of ids {ids_of(done)}" if done else ""


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
                raise about(f"Sub-accounts {ids_of(batch)} are not deleted", error) from None
            log.info("%d of %d were gone already; deleting the others.", len(batch) - len(left), len(batch))
            batch = left
        else:
            break
    return None


def _left_of(client: CloseAIClient, batch: Sequence[SubAccount]) -> Sequence[SubAccount]:
    """Return the accounts that are still listed, once they are fewer or the time is over."""

    def still_listed() -> list[SubAccount]:
        listed = {item.id for item in entries_of(client, batch)}
        return [account for account in batch if account.id in listed]

    return read_until(client, still_listed, lambda left: len(left) < len(batch), locking.CONFIRM_WITHIN)[0]
