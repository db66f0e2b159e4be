"""Runs deletions: list, refuse unintended ones, record what is lost, delete, read back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.provisioning.delete import batches, closing_line, last_state, refuse
from airflow_provider_closeai.provisioning.errors import NotConfirmed, about, foremost, with_history
from airflow_provider_closeai.provisioning.reading import select, still_listed
from airflow_provider_closeai.provisioning.requests import DeleteRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.listings import Sent, read_back
from airflow_provider_closeai.provisioning.texts import format_ids, ids_of

log = logging.getLogger(__name__)

Record = Callable[[Sequence[SubAccount], datetime], None]


def delete(client: CloseAIClient, request: DeleteRequest, record: Record | None = None) -> list[SubAccount]:
    """
    Delete accounts, and return their last state, with their costs.

    :param record: called just before the deletion, with the accounts and when their listing began; if it
        raises, nothing is deleted.
    :returns: the accounts as they were just before (with ``dry_run``: those that would be deleted).
    :raises MissingAccounts: one is not listed, and ``missing="fail"``. Nothing was deleted.
    :raises NotASubAccount: one is something else. Nothing was deleted.
    :raises TooManySelected: they are more than ``max_delete``. Nothing was deleted.
    :raises MaskedKeys: the listing hides their keys. Nothing was deleted or recorded.
    :raises Declined: the platform said no, and they are still listed.
    :raises NotConfirmed: the listing still shows some 30 seconds later.
    """
    listed_at = client.clock.utc_now()
    accounts = select(client, request.accounts, missing=request.missing)
    refuse(accounts, request.max_delete)
    if accounts and not request.dry_run:
        todo = batches(accounts, request.batch_size)
        return read_back(client, send_deletions(client, todo, listed_at, record))
    for account in accounts:
        log.info("%s", last_state(account, request.dry_run))
    log.info("%s", closing_line(accounts, request.dry_run))
    return accounts


class SentDeletions(Sent):
    """
    Accounts that a listing must no longer show.

    A refusal of some does not stop the others: :meth:`conclude` raises it.
    """

    def __init__(self, client: CloseAIClient, accounts: Sequence[SubAccount]) -> None:
        super().__init__(accounts, locking.CONFIRM_WITHIN)
        self._client = client
        self._since = client.clock.monotonic()
        self._accepted: set[int] = set()
        self._kept = {account.id for account in accounts}  # refused, or not sent
        self._why: dict[int, CloseAIError] = {}  # an account may still exist
        self._stopped: CloseAIError | None = None
        self._is_filter_doubted = False
        self._left: Sequence[SubAccount] = ()
        #: The accounts that a listing no longer shows, as they were before.
        self.deleted: list[SubAccount] = []

    def send(self, todo: Sequence[Sequence[SubAccount]]) -> None:
        """Delete batches. If the platform refuses one, a listing decides what to send again."""
        refused: list[Sequence[SubAccount]] = []  # not looked for in a listing yet
        try:
            while todo:
                for batch in todo:
                    if not self._delete(batch):
                        refused.append(batch)
                left = still_listed(self._client, refused, locking.CONFIRM_WITHIN)
                todo = [part for each in map(self._left_of, refused, left) for part in each]
                refused = []
        except CloseAIError as stopped:
            self._stopped = stopped
            self._kept = self._kept.difference(*map(_ids, refused))
            self.seconds = 0.0  # list once
        self.accounts = [account for account in self.accounts if account.id not in self._kept]
        self.is_shown = not self.accounts

    def explain(self, error: CloseAIError) -> CloseAIError:
        ids = format_ids(sorted(self._accepted))
        done = f"the platform accepted the deletion of ids {ids}" if self._accepted else ""
        doubt = next((why for key, why in self._why.items() if key not in self._kept), None)
        return foremost([with_history(each, done, doubt) for each in [*self._problems(self._kept), error]])

    @property
    def may_be_there(self) -> set[int]:
        """The ids not known to be deleted, by an answer or a listing."""
        return self._kept if self.is_shown else self._kept | self._why.keys()

    def _delete(self, batch: Sequence[SubAccount]) -> bool:
        """Delete one batch; return False if it was refused."""
        ids = _ids(batch)
        try:
            self._client.delete(batch)
        except OutcomeUnknown as error:
            log.warning("%s Reading back shows whether it was.", error)
            self._is_filter_doubted = True
            self._why |= dict.fromkeys(ids, error)
        except (Rejected, Declined) as error:
            if error.status in (401, 403):
                raise about(f"Sub-accounts {ids_of(batch)} are not deleted", error) from None
            self._is_filter_doubted = True
            self._why |= dict.fromkeys(ids, error)
            return False
        else:
            self._accepted |= ids
            self._why = {key: error for key, error in self._why.items() if key not in ids}
        self._kept -= ids
        return True

    def _left_of(
        self, batch: Sequence[SubAccount], there: Sequence[SubAccount]
    ) -> Sequence[Sequence[SubAccount]]:
        """Return what to send again of a refused batch: accounts that still exist, or each alias alone."""
        gone = _ids(batch) - _ids(there)
        if not gone:
            aliases = dict.fromkeys(account.alias for account in batch)
            parts = [[account for account in batch if account.alias == alias] for alias in aliases]
            return parts if len(parts) > 1 else []
        log.info("%d of %d were gone already.", len(gone), len(batch))
        self._kept -= gone
        if isinstance(self._why[batch[0].id], Rejected):  # others deleted them
            self._why = {key: error for key, error in self._why.items() if key not in gone}
        return [there] if there else []

    def _shows(self, items: Sequence[Item]) -> bool:
        self._left = self._listed(items)
        if not self._left:
            self._left = self._client.may_be_unlisted(self.accounts, self._since, locking.CONFIRM_WITHIN)
        if not self._left and self._is_filter_doubted:
            self._is_filter_doubted = False
            self._left = self._listed(self._client.iter_listing())
            self._client.doubt_filter(self._left)
        return not self._left

    def _listed(self, items: Iterable[Item]) -> list[SubAccount]:
        listed = {item.id for item in items}
        return [account for account in self.accounts if account.id in listed]

    def _problems(self, there: Collection[int]) -> list[CloseAIError]:
        """Return why accounts still exist, each reason once, and the error that stopped the rest."""
        ids_by_reason: dict[str, list[int]] = {}
        for key in sorted(self._why.keys() & there):
            ids_by_reason.setdefault(str(self._why[key]), []).append(key)
        problems = []
        for ids in ids_by_reason.values():
            what = "not deleted" if ids[0] in self._kept else "still listed"
            problems.append(about(f"Sub-accounts {format_ids(ids)} are {what}", self._why[ids[0]]))
        return problems if self._stopped is None else [*problems, self._stopped]

    def _conclude(self) -> list[SubAccount]:
        left = set() if self.is_shown else _ids(self._left)
        self.deleted = [account for account in self.accounts if account.id not in left]
        problems = self._problems(self._kept | left)
        if (unexplained := left - self._why.keys()) and self._stopped is None:
            problems.append(
                NotConfirmed(
                    f"The platform accepted the deletion, and {self.seconds:g} s later still lists "
                    f"{format_ids(sorted(unexplained))}. A retry deletes them again, which does no harm.",
                    call="delete",
                )
            )
        if problems:
            done = [each for each in self.deleted if each.id in self._accepted | self._why.keys()]
            text = f"ids {ids_of(done)} were deleted" if done else ""
            raise foremost([with_history(each, text) for each in problems])
        log.info("%s", closing_line(self.deleted, dry_run=False))
        return self.deleted


def _ids(accounts: Iterable[SubAccount]) -> set[int]:
    return {account.id for account in accounts}


def send_deletions(
    client: CloseAIClient,
    todo: Sequence[Sequence[SubAccount]],
    listed_at: datetime,
    record: Record | None,
) -> SentDeletions:
    """
    Record and delete accounts that were checked; a listing must then show that they are gone.

    :param todo: the accounts of each call.
    :param listed_at: when their listing began.
    """
    accounts = [account for batch in todo for account in batch]
    failures.require_keys(accounts)
    client.prove_filter(accounts)
    for account in accounts:
        log.info("%s", last_state(account, dry_run=False))
    if record is not None:
        record(accounts, listed_at)
    sent = SentDeletions(client, accounts)
    sent.send(todo)
    return sent
