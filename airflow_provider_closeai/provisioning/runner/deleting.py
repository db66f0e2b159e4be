"""Runs deletions: list first, record what is lost, refuse what was not meant, read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.provisioning.delete import batches, closing_line, last_state, refuse
from airflow_provider_closeai.provisioning.errors import NotConfirmed, about, foremost, told
from airflow_provider_closeai.provisioning.reading import select, still_listed
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
    refuse(accounts, request.max_delete)
    if accounts and not request.dry_run:
        return read_back(client, send_deletions(client, accounts, listed_at, request.batch_size, record))
    for account in accounts:
        log.info("%s", last_state(account, request.dry_run))
    log.info("%s", closing_line(accounts, request.dry_run))
    return accounts


class SentDeletions(Sent):
    """
    Accounts that a listing must not show any more.

    What the platform refuses of one batch does not stop the others.
    """

    def __init__(self, client: CloseAIClient, accounts: Sequence[SubAccount]) -> None:
        super().__init__(accounts, locking.CONFIRM_WITHIN)
        self._client = client
        self._doubt: CloseAIError | None = None  # it is open whether all were executed, or a part
        self._doubted: set[int] = set()  # ids of those whose deletion nobody has answered
        self._is_doubted = False  # the platform's filter alone is no proof
        self._since = client.clock.monotonic()
        self._accepted: list[SubAccount] = []
        self._left: Sequence[SubAccount] = ()

    def told(self, error: CloseAIError) -> CloseAIError:
        return told(error, self._done, self._doubt)

    @property
    def _done(self) -> str:
        ids = ids_of(self._accepted)
        return f"the platform accepted the deletion of ids {ids}" if self._accepted else ""

    @property
    def may_be_there(self) -> set[int]:
        """The ids of those that nobody knows to be gone, by an answer or a listing."""
        return set() if self.is_shown else self._doubted

    def _shows(self, items: Sequence[Item]) -> bool:
        self._left = self._listed(items)
        if not self._left:
            self._left = self._client.may_be_unlisted(self.accounts, self._since, locking.CONFIRM_WITHIN)
        if not self._left and self._is_doubted:
            self._is_doubted = False
            self._left = self._listed(self._client.iter_listing())
            self._client.doubt_filter(self._left)
        return not self._left

    def _listed(self, items: Iterable[Item]) -> list[SubAccount]:
        listed = {item.id for item in items}
        return [account for account in self.accounts if account.id in listed]

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

    def send(self, todo: Sequence[Sequence[SubAccount]]) -> None:
        """
        Delete batches. Where the platform refuses one, the listing decides.

        :raises CloseAIError: why accounts are not deleted, first what a retry may mend; the rest is logged.
        """
        problems: list[CloseAIError] = []
        try:
            while todo:
                refused = [(batch, error) for batch in todo if (error := self._refusal(batch)) is not None]
                left = still_listed(self._client, [batch for batch, _ in refused], locking.CONFIRM_WITHIN)
                todo = []
                for (batch, error), there in zip(refused, left, strict=True):
                    if len(there) == len(batch):
                        what = f"Sub-accounts {ids_of(batch)} are not deleted"
                        problems.append(told(about(what, error), self._done))
                    else:
                        log.info("%d of %d were gone already.", len(batch) - len(there), len(batch))
                        todo += [there] if there else []
        except CloseAIError as stopped:
            problems.append(self.told(stopped))
        if problems:
            raise foremost(problems)
        self._is_doubted = self._doubt is not None

    def _refusal(self, batch: Sequence[SubAccount]) -> Rejected | Declined | None:
        """Delete one batch; returns why it was refused."""
        try:
            self._client.delete(batch)
        except OutcomeUnknown as error:
            log.warning("%s Reading back shows whether it was.", error)
            self._doubt = error
            self._doubted.update(account.id for account in batch)
        except (Rejected, Declined) as error:
            if error.status in (401, 403):
                raise about(f"Sub-accounts {ids_of(batch)} are not deleted", error) from None
            self._doubt = self._doubt or error
            return error
        else:
            self._accepted += batch
        return None


def send_deletions(
    client: CloseAIClient,
    accounts: Sequence[SubAccount],
    listed_at: datetime,
    batch_size: int,
    record: Record | None,
) -> SentDeletions:
    """
    Record and delete accounts that are not refused; a listing must show then that they are gone.

    :param listed_at: when their listing was begun.
    """
    failures.require_keys(accounts)
    client.prove_filter(accounts)
    for account in accounts:
        log.info("%s", last_state(account, dry_run=False))
    if record is not None:
        record(accounts, listed_at)
    sent = SentDeletions(client, accounts)
    sent.send(batches(accounts, batch_size))
    return sent
