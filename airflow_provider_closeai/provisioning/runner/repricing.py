"""Runs repricings: read, merge, write, read back; changes are made by one run at a time across hosts."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.local_state.claims import NameStore
from airflow_provider_closeai.local_state.clock import Clock
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import about, with_history
from airflow_provider_closeai.provisioning.journal import Limits, NotedPrices, PriceJournal, prices_digest
from airflow_provider_closeai.provisioning.reading import read_until, select, still_listed
from airflow_provider_closeai.provisioning.records import Record
from airflow_provider_closeai.provisioning.reprice import (
    Batch,
    Outcome,
    RepricePlan,
    closing_line,
    log_changes,
    plan_repricing,
    unconfirmed,
)
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.deployment_lock import (
    MOST_LOST,
    MustListAgain,
    names_to_lock_with,
    too_busy,
)
from airflow_provider_closeai.provisioning.runner.listings import Sent, read_back
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.price_lock import PriceLock
from airflow_provider_closeai.provisioning.texts import format_ids

log = logging.getLogger(__name__)

_ALIASES = 400  # claimed at a time: nine per name, and all hosts' names must fit into one page
Read = Callable[[], list[SubAccount]]
Decide = Callable[[list[SubAccount]], RepricePlan]


def reprice(
    client: CloseAIClient, request: RepriceRequest, names: NameStore | None = None
) -> list[SubAccount]:
    """
    Set prices that are not right already.

    :param names: the names that all hosts of the deployment share, if there is such a store.
    :returns: all selected accounts as they are afterwards (with ``dry_run``: as they would be).
    :raises MissingAccounts: a selected account is not listed; nothing was changed.
    :raises MaskedKeys: the listing hides the keys of accounts that must change; nothing was changed.
    :raises Declined: the platform said no, and the listing does not show the change.
    :raises NotConfirmed: the listing does not show the change 30 seconds later.
    :raises NotNoted: ``names`` does not work.
    """
    read = functools.partial(select, client, request.accounts, missing="fail")
    decide = functools.partial(plan_repricing, request=request)
    if not request.dry_run:
        with sent_prices(client, read, decide, names) as sent:
            return read_back(client, sent)
    shared = names_to_lock_with(client, names)
    with _pricing(client) as journal:
        lock = None if shared is None else PriceLock(client, shared)
        planned = SentPrices(client, read, decide, journal, lock, Outcome(client.clock.monotonic()))
        planned.decide()
    log_changes(planned.plan, dry_run=True)
    log.info("%s", closing_line(planned.selected, len(planned.plan.changing), dry_run=True))
    return planned.plan.as_planned(planned.selected)


@contextlib.contextmanager
def sent_prices(
    client: CloseAIClient, read: Read, decide: Decide, names: NameStore | None
) -> Iterator[SentPrices]:
    """Send prices. No other task changes prices until a listing must show these."""
    shared = names_to_lock_with(client, names)
    with _pricing(client) as journal:
        lost, outcome = 0, Outcome(client.clock.monotonic())
        while lost < MOST_LOST:
            gone = len(outcome.gone)
            # Each round has its own lock, since what this run sent in the last round may come late, too.
            lock = None if shared is None else PriceLock(client, shared)
            sent = SentPrices(client, read, decide, journal, lock, outcome)
            try:
                sent.send()
                if sent.is_last:
                    yield sent
                    return
                read_back(client, sent)
            except MustListAgain:
                lost += len(outcome.gone) == gone  # not counted if a key is newly gone
                log.info("Others may have changed these accounts meanwhile: reading them again.")
            finally:
                sent.release()
        raise outcome.foremost(with_history(too_busy("update"), outcome.done, outcome.doubt))


@contextlib.contextmanager
def _pricing(client: CloseAIClient) -> Iterator[PriceJournal]:
    """Hold this host's lock for prices."""
    config = client.config
    with alias_lock(client, "pricing") as note:
        limits = Limits(locking.CONFIRM_WITHIN, config.max_late, leave_within=config.deadline)
        yield PriceJournal(FileStore(note), limits, client.clock)


class SentPrices(Sent):
    """
    One round of a repricing: prices that are sent, and that a listing must then show.

    :param decide: decides what to change in the accounts that ``read`` returns.
    :param outcome: the outcome of all rounds.
    """

    def __init__(
        self,
        client: CloseAIClient,
        read: Read,
        decide: Decide,
        journal: PriceJournal,
        lock: PriceLock | None,
        outcome: Outcome,
    ) -> None:
        super().__init__((), 0.0)
        self._client, self._read, self._decide = client, read, decide
        self._journal, self._lock, self._outcome = journal, lock, outcome
        #: All accounts that were read.
        self.selected: list[SubAccount] = []
        #: What is sent for them.
        self.plan = RepricePlan({}, [], [])
        #: Whether this is the last round.
        self.is_last = True
        self._refused: list[tuple[Batch, CloseAIError]] = []
        self._may_come: set[int] = set()  # ids whose prices a late attempt may set again
        self._listed: list[SubAccount] = []
        #: The accounts that have the right prices, as they were listed last.
        self.confirmed: list[SubAccount] = []

    def decide(self) -> None:
        """Read the accounts, and decide what to change."""
        accounts = self._read_current()
        self._outcome.seen |= {each.id: each for each in accounts}
        self.selected = [each for each in accounts if each.id not in self._outcome.left]
        self.plan = self._decide(self.selected)

    def send(self) -> None:
        """Send what differs, for as many aliases as can be claimed at a time."""
        try:
            self.decide()
            self._outcome.settle_doubt(_ids(self.selected), _ids(self.plan.changing))
            failures.require_keys(self.plan.changing)
            if self.plan.changing and self._lock is not None:
                self._claim(self._lock)
            self._client.prove_filter(self.plan.changing)
            log_changes(self.plan, dry_run=False)
            self._send()
        except CloseAIError as error:
            raise self.explain(error) from None
        self.accounts, self.is_shown = self.plan.changing, not self.plan.changing
        if not _ids(self.accounts) <= self._refused_ids:  # a no is checked once
            may_come_late = self._outcome.doubt is not None
            self.seconds = locking.CONFIRM_WITHIN + may_come_late * self._client.config.max_late

    def release(self) -> None:
        """Let other hosts in, even before a listing shows the prices: the records say what was sent."""
        if self._lock is not None:
            self._lock.release()

    def explain(self, error: CloseAIError) -> CloseAIError:
        declined = (each for _, each in self._refused if isinstance(each, Declined))
        self._outcome.problems += self._refusals()
        doubt = self._outcome.doubt or next(declined, None)  # what was declined may be done in part
        return self._outcome.foremost(with_history(error, self._outcome.done, doubt))

    def _refusals(self) -> list[CloseAIError]:
        return [
            about(f"Alias {batch.alias!r}, ids {format_ids(batch.ids)}", error)
            for batch, error in self._refused
        ]

    @property
    def vanished(self) -> set[int]:
        """The ids of accounts that an earlier round read and that no longer exist."""
        return self._outcome.seen.keys() - _ids(self.selected) - self._outcome.left

    @property
    def _refused_ids(self) -> set[int]:
        return {each for batch, _ in self._refused for each in batch.ids}

    def _shows(self, items: Sequence[Item]) -> bool:
        self._listed = [item for item in items if isinstance(item, SubAccount)]
        return self._refused_ids.issuperset(self.plan.missing(self._listed))

    def _conclude(self) -> list[SubAccount]:
        missing = set(self.plan.missing(self._listed))
        listed = {account.id: account for account in self._listed}
        right = (each for each in self.selected if each.id in self.plan.targets and each.id not in missing)
        self.confirmed = [listed.get(each.id, each) for each in right]
        self._note_shown(missing)
        if self.is_last:
            if self._outcome.problems:
                raise self._outcome.foremost()
            log.info("%s", closing_line(self.confirmed, len(self._outcome.accepted), dry_run=False))
        return self.confirmed

    def _claim(self, lock: PriceLock) -> None:
        """Claim the aliases that must change, and decide again: others may have changed them since."""
        aliases = set(sorted(_aliases(self.plan.changing))[:_ALIASES])
        lock.acquire(aliases)
        self.decide()
        self.is_last = _aliases(self.plan.changing) <= aliases
        self.plan = self.plan.within(aliases)

    def _read_current(self) -> list[SubAccount]:
        """Read the accounts until the listing shows what was sent last, by anybody."""
        looked: set[str] = set()

        def read() -> list[SubAccount]:
            self._journal.look()
            if self._lock is not None:
                self._lock.begin_reading()
            return self._read()

        def is_current(accounts: list[SubAccount]) -> bool:
            lasts: list[Mapping[int, NotedPrices | Record]] = [self._journal.last()]
            if self._lock is not None:
                self._lock.look(_aliases(accounts) - looked)
                looked.update(_aliases(accounts))
                lasts.append(self._lock.last())
            sent = [(last[each.id], each) for last in lasts for each in accounts if each.id in last]
            if any(each.prices != prices_digest(account.pricing) for each, account in sent):
                return False  # it may not be listed yet
            unseen = self._outcome.seen.keys() - _ids(accounts)
            were_seen = [self._outcome.seen[each] for each in unseen]
            if self._client.may_be_unlisted(were_seen, self._outcome.began, locking.CONFIRM_WITHIN):
                return False
            to_come = {account.id for each, account in sent if each.may_come}
            return not to_come or to_come.isdisjoint(_ids(self._decide(accounts).changing))

        config = self._client.config
        longest = locking.CONFIRM_WITHIN + config.deadline + config.max_late
        return read_until(self._client, read, is_current, longest)

    def _send(self) -> None:
        """
        Send the changes. Unknown outcomes are left to reading back; a batch that the platform refuses does
        not stop the others.
        """
        for batch in self.plan.batches:
            permit = _Permit(self._journal, batch, self._lock, self._client.clock)
            try:
                if self._client.update(batch.accounts, batch.alias, batch.pricing, permit):
                    self._may_come.update(batch.ids)
                self._outcome.accepted.update(batch.ids)
            except OutcomeUnknown as error:
                log.warning("%s Reading back shows whether it was.", error)
                self._outcome.doubt = error
                self._outcome.doubted.update(batch.ids)
                self._may_come.update(batch.ids)
                if self._lock is not None and not self._lock.is_held:
                    raise MustListAgain from None
            except MustListAgain:
                self._forget(batch)
                raise
            except CloseAIError as error:
                if not isinstance(error, Declined):
                    self._forget(batch)
                    if type(error) is not Rejected:  # the others would fail, too
                        raise
                self._refused.append((batch, error))
        refused = [batch.accounts for batch, error in self._refused if not isinstance(error, Declined)]
        # One deleted key makes its whole call be refused. A key alone in its call is looked for once.
        seconds = locking.CONFIRM_WITHIN if any(len(accounts) > 1 for accounts in refused) else 0.0
        left = still_listed(self._client, refused, seconds)
        if gone := _ids(itertools.chain(*refused)) - _ids(itertools.chain(*left)):
            self._outcome.gone |= gone
            raise MustListAgain

    def _forget(self, batch: Batch) -> None:
        """Note that a batch was not executed."""
        self._journal.forget(batch.ids)
        if self._lock is not None:
            self._lock.not_sent(batch)

    def _note_shown(self, missing: set[int]) -> None:
        """
        Note what a listing has shown.

        :param missing: the ids whose prices it does not show.
        """
        for batch in self.plan.batches:
            if missing.isdisjoint(batch.ids):
                may_come = not self._may_come.isdisjoint(batch.ids)
                self._journal.note(batch.ids, batch.pricing, shown=True, may_come=may_come)
                if self._lock is not None:
                    self._lock.shown(batch, is_final=not may_come)
        self._outcome.accepted |= _ids(self.plan.changing) - missing
        if not missing:
            return
        # After this wait nothing is on its way; if all calls were answered, there was no such wait.
        self._journal.forget(missing if self._outcome.doubt is not None else missing - self._may_come)
        self._refused = [(batch, no) for batch, no in self._refused if not missing.isdisjoint(batch.ids)]
        unseen, problems = sorted(missing - self._refused_ids), self._refusals()
        if unseen and self._outcome.doubt is not None:
            what = f"The listing does not show the new prices for the sub-accounts {format_ids(unseen)}"
            problems.append(about(what, self._outcome.doubt))
        else:
            listed = {each.id: each.pricing for each in self._listed}
            old = {each.id: each.pricing for each in self.plan.changing}
            problems += unconfirmed(unseen, listed, old, locking.CONFIRM_WITHIN)
        self._outcome.problems += problems
        self._outcome.left |= missing
        self._outcome.doubted -= missing


class _Permit:
    """Says whether a batch may be sent; see :class:`~.client.retry.Permit`."""

    def __init__(self, journal: PriceJournal, batch: Batch, lock: PriceLock | None, clock: Clock) -> None:
        self._journal, self._batch, self._lock = journal, batch, lock
        self._has_left = False
        self.wait = clock.sleep if lock is None else lock.wait

    def renew(self) -> Callable[[], bool]:
        may_leave = (lambda: True) if self._lock is None else self._lock.allow(self._batch)
        # From the second attempt on, the first may still be executed, even if this task dies.
        self._journal.note(self._batch.ids, self._batch.pricing, shown=False, may_come=self._has_left)
        self._has_left = True
        return may_leave


def _ids(accounts: Iterable[SubAccount]) -> set[int]:
    return {account.id for account in accounts}


def _aliases(accounts: Iterable[SubAccount]) -> set[str]:
    return {account.alias or "" for account in accounts}
