"""Runs repricings: read, merge, write, read back; where something changes, alone over all hosts."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import Item, SubAccount
from airflow_provider_closeai.local_state.claims import NameStore
from airflow_provider_closeai.local_state.clock import Clock
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import NotConfirmed, about, foremost, told
from airflow_provider_closeai.provisioning.journal import Limits, PriceJournal, prices_digest
from airflow_provider_closeai.provisioning.journal import Sent as Noted
from airflow_provider_closeai.provisioning.reading import read_until, select
from airflow_provider_closeai.provisioning.records import Record
from airflow_provider_closeai.provisioning.reprice import (
    Batch,
    RepricePlan,
    closing_line,
    log_changes,
    plan_repricing,
)
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.deployment_lock import (
    MOST_LOST,
    MustLookAgain,
    names_to_lock_with,
    too_busy,
)
from airflow_provider_closeai.provisioning.runner.listings import Sent, read_back
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.price_lock import PriceLock
from airflow_provider_closeai.provisioning.texts import format_ids

log = logging.getLogger(__name__)

_ALIASES = 400  # that are claimed at a time: nine to a name, and the names of all hosts are one page
Read = Callable[[], list[SubAccount]]
Decide = Callable[[list[SubAccount]], RepricePlan]


def reprice(
    client: CloseAIClient, request: RepriceRequest, names: NameStore | None = None
) -> list[SubAccount]:
    """
    Set prices; what is right already is not sent.

    :param names: that all hosts of the deployment share, where there is such a store.
    :returns: all selected accounts as they are afterwards (with ``dry_run``: as they would be).
    :raises MissingAccounts: a selected account is not listed; nothing was changed.
    :raises MaskedKeys: the listing hides the keys of accounts that must change; nothing was changed.
    :raises Declined: the platform said no, and the listing does not show the change.
    :raises NotConfirmed: the listing does not show the change 30 seconds later.
    :raises NotNoted: ``names`` does not work.
    """
    return reprice_listed(client, lambda: select(client, request.accounts, missing="fail"), request, names)


def reprice_listed(
    client: CloseAIClient, read: Read, request: RepriceRequest, names: NameStore | None
) -> list[SubAccount]:
    """Set the prices of accounts that are read in a way of its own; see :func:`reprice`."""
    decide = functools.partial(plan_repricing, request=request)
    if not request.dry_run:
        with sent_prices(client, read, decide, names) as sent:
            return read_back(client, sent)
    shared = names_to_lock_with(client, names)
    with _pricing(client) as journal:
        lock = None if shared is None else PriceLock(client, shared)
        accounts, plan = _Repricing(client, read, decide, journal, lock, Outcome()).plan()
    log_changes(plan, dry_run=True)
    log.info("%s", closing_line(accounts, len(plan.changing), dry_run=True))
    return plan.as_planned(accounts)


@contextlib.contextmanager
def sent_prices(
    client: CloseAIClient, read: Read, decide: Decide, names: NameStore | None
) -> Iterator[SentPrices]:
    """Send prices. No other task changes any, as long as a listing may not show these yet."""
    shared = names_to_lock_with(client, names)
    with _pricing(client) as journal:
        lost, outcome = 0, Outcome()
        while lost < MOST_LOST:
            # A lock of its own for each round: what this run sent in the last one may come late, too.
            lock = None if shared is None else PriceLock(client, shared)
            repricing = _Repricing(client, read, decide, journal, lock, outcome)
            try:
                sent = repricing.send()
                if sent.is_last:
                    yield sent
                    return
                read_back(client, sent)
            except MustLookAgain:
                lost += 1
                log.info("Another host may have changed prices meanwhile: reading them again.")
            finally:
                repricing.release()
        raise told(too_busy("update"), outcome.done, outcome.doubt)


@contextlib.contextmanager
def _pricing(client: CloseAIClient) -> Iterator[PriceJournal]:
    """Be alone on this host."""
    config = client.config
    with alias_lock(client, "pricing") as note:
        limits = Limits(locking.CONFIRM_WITHIN, config.max_late, leave_within=config.deadline)
        yield PriceJournal(FileStore(note), limits, client.clock)


class Outcome(msgspec.Struct):
    """
    What came of a repricing by now.

    :param accepted: ids whose new prices the platform accepted.
    :param doubt: why it is open whether all were set.
    """

    accepted: list[int] = []
    doubt: OutcomeUnknown | None = None

    @property
    def done(self) -> str:
        """What was accepted, for a person."""
        ids = format_ids(self.accepted)
        return f"the platform accepted new prices for ids {ids}" if self.accepted else ""


class SentPrices(Sent):
    """
    Prices that a listing must show.

    :param round_of: the round in which they were sent.
    :param selected: all accounts that were read.
    :param plan: what was sent of them.
    :param is_last: whether that was all.
    """

    def __init__(
        self, round_of: _Repricing, selected: Sequence[SubAccount], plan: RepricePlan, is_last: bool
    ) -> None:
        outcome = round_of.outcome
        seconds = locking.CONFIRM_WITHIN + (0.0 if outcome.doubt is None else round_of.max_late)
        self._refused = {each for batch, _ in round_of.refused for each in batch.ids}
        is_refused = self._refused.issuperset(each.id for each in plan.changing)  # a no is looked into once
        super().__init__(plan.changing, 0.0 if is_refused else seconds)
        self._round, self._selected, self._plan, self.is_last = round_of, selected, plan, is_last
        self._listed: list[SubAccount] = []
        #: The accounts that have the right prices, as they were listed last.
        self.confirmed: list[SubAccount] = []

    def release(self) -> None:
        """Let other hosts in before a listing shows the prices: the records say what was sent."""
        self._round.release()

    def told(self, error: CloseAIError) -> CloseAIError:
        return self._round.told(error)

    def _shows(self, items: Sequence[Item]) -> bool:
        self._listed = [item for item in items if isinstance(item, SubAccount)]
        return self._refused.issuperset(self._plan.missing(self._listed))

    def _conclude(self) -> list[SubAccount]:
        missing = set(self._plan.missing(self._listed))
        listed = {account.id: account for account in self._listed}
        self.confirmed = [listed.get(each.id, each) for each in self._selected if each.id not in missing]
        self._round.conclude(self._plan, missing)
        if self.is_last:
            changed = len(set(self._round.outcome.accepted))
            log.info("%s", closing_line(self.confirmed, changed, dry_run=False))
        return self.confirmed


class _Repricing:
    """One round of a repricing."""

    def __init__(
        self,
        client: CloseAIClient,
        read: Read,
        decide: Decide,
        journal: PriceJournal,
        lock: PriceLock | None,
        outcome: Outcome,
    ) -> None:
        self._client = client
        self._read = read
        self._decide = decide
        self._journal = journal
        self._lock = lock
        self.outcome = outcome
        self.refused: list[tuple[Batch, CloseAIError]] = []
        self.max_late = client.config.max_late
        self._may_come: set[int] = set()  # whose prices a late attempt may set once more

    def told(self, error: CloseAIError) -> CloseAIError:
        """Return an error with what was accepted before it; what was declined may be done in part."""
        declined = (each for _, each in self.refused if isinstance(each, Declined))
        return told(error, self.outcome.done, self.outcome.doubt or next(declined, None))

    def plan(self) -> tuple[list[SubAccount], RepricePlan]:
        """Read the accounts, and decide what to change."""
        accounts = self._read_current()
        return accounts, self._decide(accounts)

    def send(self) -> SentPrices:
        """Send what is different, as far as it can be claimed at a time."""
        try:
            accounts, plan = self.plan()
            is_last = True
            failures.require_keys(plan.changing)
            if plan.changing and self._lock is not None:
                accounts, plan, is_last = self._claimed(self._lock, plan)
            self._client.prove_filter(plan.changing)
            self.outcome.doubt = None  # of an earlier round: the listing has answered it
            log_changes(plan, dry_run=False)
            self._send(plan)
        except CloseAIError as error:
            raise self.told(error) from None
        return SentPrices(self, accounts, plan, is_last)

    def release(self) -> None:
        """Let other hosts in."""
        if self._lock is not None:
            self._lock.release()

    def _claimed(self, lock: PriceLock, plan: RepricePlan) -> tuple[list[SubAccount], RepricePlan, bool]:
        """Claim what must change, and look again: others may have changed it since."""
        aliases = set(sorted(_aliases(plan.changing))[:_ALIASES])
        lock.acquire(aliases)
        accounts = self._read_current()
        plan = self._decide(accounts)
        return accounts, plan.within(aliases), _aliases(plan.changing) <= aliases

    def _read_current(self) -> list[SubAccount]:
        """Read the accounts, until the listing shows what was sent last, by whomever."""
        looked: set[str] = set()

        def read() -> list[SubAccount]:
            self._journal.look()
            if self._lock is not None:
                self._lock.begin_reading()
            return self._read()

        def is_current(accounts: list[SubAccount]) -> bool:
            lasts: list[Mapping[int, Noted | Record]] = [self._journal.last()]
            if self._lock is not None:
                self._lock.look(_aliases(accounts) - looked)
                looked.update(_aliases(accounts))
                lasts.append(self._lock.last())
            sent = [(last[each.id], each) for last in lasts for each in accounts if each.id in last]
            if any(each.prices != prices_digest(account.pricing) for each, account in sent):
                return False  # it may not be listed yet
            to_come = {account.id for each, account in sent if each.may_come}
            return not to_come or to_come.isdisjoint(each.id for each in self._decide(accounts).changing)

        config = self._client.config
        longest = locking.CONFIRM_WITHIN + config.deadline + config.max_late
        return read_until(self._client, read, is_current, longest)[0]

    def _send(self, plan: RepricePlan) -> None:
        """
        Send the changes. An outcome that stays unknown is left to the reading back; what the platform refuses
        of one batch does not stop the others.
        """
        for batch in plan.batches:
            permit = _Permit(self._journal, batch, self._lock, self._client.clock)
            try:
                may_come = self._client.update(batch.accounts, batch.alias, batch.pricing, permit)
                self.outcome.accepted += batch.ids
            except OutcomeUnknown as error:
                log.warning("%s Reading back shows whether it was.", error)
                self.outcome.doubt, may_come = error, True
                if self._lock is not None and not self._lock.is_held:
                    raise MustLookAgain from None
            except CloseAIError as error:
                if not isinstance(error, Declined):  # it was not executed
                    self._journal.forget(batch.ids)
                    if self._lock is not None:
                        self._lock.not_sent(batch)
                    if type(error) is not Rejected:  # it would go wrong for the others, too
                        raise
                self.refused.append((batch, error))
                continue
            if may_come:
                self._may_come.update(batch.ids)

    def conclude(self, plan: RepricePlan, missing: set[int]) -> None:
        """
        Note what a listing has shown.

        :param missing: whose prices it does not show.
        :raises CloseAIError: what went wrong, first what a retry may mend; the rest is logged.
        """
        for batch in plan.batches:
            if missing.isdisjoint(batch.ids):
                may_come = not self._may_come.isdisjoint(batch.ids)
                self._journal.note(batch.ids, batch.pricing, shown=True, may_come=may_come)
                if self._lock is not None:
                    self._lock.shown(batch, is_final=not may_come)
        known = {*self.outcome.accepted, *missing}
        self.outcome.accepted += [each.id for each in plan.changing if each.id not in known]
        if not missing:
            return
        # What was not seen for so long is not on its way; where all was answered it was not waited for.
        self._journal.forget(missing if self.outcome.doubt is not None else missing - self._may_come)
        refused = [(batch, error) for batch, error in self.refused if not missing.isdisjoint(batch.ids)]
        unseen = sorted(missing.difference(*(batch.ids for batch, _ in refused)))
        problems = [
            told(about(f"Alias {batch.alias!r}, ids {format_ids(batch.ids)}", error), self.outcome.done)
            for batch, error in refused
        ]
        if unseen and self.outcome.doubt is not None:
            what = f"The listing does not show the new prices for the sub-accounts {format_ids(unseen)}"
            problems.append(about(what, self.outcome.doubt))
        elif unseen:
            problems.append(
                NotConfirmed(
                    f"The platform accepted the new prices, and {locking.CONFIRM_WITHIN:g} s later the "
                    f"listing does not show them for the sub-accounts {format_ids(unseen)}. Does it know "
                    "these models? A retry sends only what is still different.",
                    call="update",
                )
            )
        raise foremost(problems)


class _Permit:
    """Says whether a batch may be sent; see :class:`~.client.retry.Permit`."""

    def __init__(self, journal: PriceJournal, batch: Batch, lock: PriceLock | None, clock: Clock) -> None:
        self._journal = journal
        self._batch = batch
        self._lock = lock
        self._has_left = False
        self.wait = clock.sleep if lock is None else lock.wait

    def renew(self) -> Callable[[], bool]:
        may_leave = (lambda: True) if self._lock is None else self._lock.allow(self._batch)
        # From the second attempt on the first may still come, whatever becomes of this task.
        self._journal.note(self._batch.ids, self._batch.pricing, shown=False, may_come=self._has_left)
        self._has_left = True
        return may_leave


def _aliases(accounts: list[SubAccount]) -> set[str]:
    return {account.alias or "" for account in accounts}
