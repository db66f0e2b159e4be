"""Runs repricings: read, merge, write, read back; where something changes, alone over all hosts."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state.claims import NameStore
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import NotConfirmed, after, with_doubt
from airflow_provider_closeai.provisioning.journal import Limits, PriceJournal
from airflow_provider_closeai.provisioning.reading import read_until, select
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
from airflow_provider_closeai.provisioning.runner.listings import Item, Sent, read_back
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
        accounts, plan = _Repricing(client, read, decide, journal, lock).plan()
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
        changed = lost = 0
        while lost < MOST_LOST:
            # A lock of its own for each round: what this run sent in the last one may come late, too.
            lock = None if shared is None else PriceLock(client, shared)
            repricing = _Repricing(client, read, decide, journal, lock)
            try:
                sent = repricing.send(changed)
                if sent.is_last:
                    yield sent
                    return
                read_back(client, sent)
                changed = sent.changed
            except MustLookAgain:
                lost += 1
                log.info("Another host may have changed prices meanwhile: reading them again.")
            finally:
                repricing.release()
        raise too_busy("update")


@contextlib.contextmanager
def _pricing(client: CloseAIClient) -> Iterator[PriceJournal]:
    """Be alone on this host."""
    config = client.config
    with alias_lock(client, "pricing") as note:
        limits = Limits(locking.CONFIRM_WITHIN, config.max_late, leave_within=config.deadline)
        yield PriceJournal(FileStore(note), limits, client.clock)


class SentPrices(Sent):
    """
    Prices that a listing must show.

    :param round_of: the round in which they were sent.
    :param selected: all accounts that were read.
    :param plan: what was sent of them.
    :param changed: how many accounts were changed by now.
    :param is_last: whether that was all.
    """

    def __init__(
        self,
        round_of: _Repricing,
        selected: Sequence[SubAccount],
        plan: RepricePlan,
        changed: int,
        is_last: bool,
    ) -> None:
        why = round_of.why
        doubt = why if isinstance(why, OutcomeUnknown) else None
        seconds = locking.CONFIRM_WITHIN + (0.0 if doubt is None else round_of.max_late)
        is_no = isinstance(why, Declined)  # a no is looked into once
        super().__init__(plan.changing, 0.0 if is_no else seconds, doubt)
        self._round, self._selected, self._plan = round_of, selected, plan
        self.changed, self.is_last = changed, is_last
        self._listed: list[SubAccount] = []

    def release(self) -> None:
        """Let other hosts in before a listing shows the prices: the records say what was sent."""
        self._round.release()

    def _shows(self, items: Sequence[Item]) -> bool:
        self._round.keep()
        self._listed = [item for item in items if isinstance(item, SubAccount)]
        return not self._plan.missing(self._listed)

    def _conclude(self) -> list[SubAccount]:
        self._round.keep()
        if not self.is_shown:
            raise self._round.not_shown(self._plan.missing(self._listed))
        self._round.note_shown(self._plan)
        listed = {account.id: account for account in self._listed}
        accounts = [listed.get(account.id, account) for account in self._selected]
        if self.is_last:
            log.info("%s", closing_line(accounts, self.changed, dry_run=False))
        return accounts


class _Repricing:
    """One round of a repricing."""

    def __init__(
        self, client: CloseAIClient, read: Read, decide: Decide, journal: PriceJournal, lock: PriceLock | None
    ) -> None:
        self._client = client
        self._read = read
        self._decide = decide
        self._journal = journal
        self._lock = lock
        self.why: OutcomeUnknown | Declined | None = None  # it is open whether all were set
        self.max_late = client.config.max_late
        self._may_come: set[int] = set()  # whose prices a late attempt may set once more

    def plan(self) -> tuple[list[SubAccount], RepricePlan]:
        """Read the accounts, and decide what to change."""
        accounts = self._read_current()
        return accounts, self._decide(accounts)

    def send(self, changed: int) -> SentPrices:
        """
        Send what is different, as far as it can be claimed at a time.

        :param changed: how many accounts earlier rounds changed.
        """
        accounts, plan = self.plan()
        is_last = True
        failures.require_keys(plan.changing)
        if plan.changing and self._lock is not None:
            accounts, plan, is_last = self._claimed(self._lock, plan)
        self._client.prove_filter(plan.changing)
        log_changes(plan, dry_run=False)
        self._send(plan)
        return SentPrices(self, accounts, plan, changed + len(plan.changing), is_last)

    def keep(self) -> None:
        """Say that this run lives."""
        if self._lock is not None:
            self._lock.keep()

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
            self.keep()
            return self._read()

        def is_current(accounts: list[SubAccount]) -> bool:
            behind, to_come = self._journal.behind(accounts), self._journal.to_come()
            if self._lock is not None:
                self._lock.look(_aliases(accounts) - looked)
                looked.update(_aliases(accounts))
                behind, to_come = [*behind, *self._lock.behind(accounts)], to_come | self._lock.to_come()
            if behind or not to_come:
                return not behind
            return to_come.isdisjoint(each.id for each in self._decide(accounts).changing)

        config = self._client.config
        longest = locking.CONFIRM_WITHIN + config.deadline + config.max_late
        return read_until(self._client, read, is_current, longest)[0]

    def _send(self, plan: RepricePlan) -> None:
        """Send the changes. An outcome that stays unknown is left to the reading back; a no ends it."""
        done: list[int] = []
        for batch in plan.batches:
            self._journal.note(batch.ids, batch.pricing, shown=False)
            permit = None if self._lock is None else _Permit(self._lock, batch)
            try:
                may_come = self._client.update(batch.accounts, batch.alias, batch.pricing, permit)
            except OutcomeUnknown as error:
                log.warning("%s Reading back shows whether it was.", error)
                self.why, may_come = error, True
            except Declined as error:
                self.why = error
                return
            except CloseAIError as error:  # it was not executed
                self._journal.forget(batch.ids)
                if self._lock is not None:
                    self._lock.not_sent(batch)
                doubt = self.why if isinstance(self.why, OutcomeUnknown) else None
                told = f"ids {format_ids(done)} got new prices" if done else ""
                raise after(told, with_doubt(error, doubt)) from None
            done += batch.ids
            if may_come:
                self._may_come.update(batch.ids)

    def not_shown(self, missing: Sequence[int]) -> CloseAIError:
        """Return the error of prices that no listing has shown."""
        self._journal.forget(missing)  # what was not seen for so long is not on its way
        return self.why or NotConfirmed(
            f"The platform accepted the new prices, and {locking.CONFIRM_WITHIN:g} s later the listing does "
            f"not show them for the sub-accounts {format_ids(missing)}. Does it know these models? A retry "
            "sends only what is still different.",
            call="update",
        )

    def note_shown(self, plan: RepricePlan) -> None:
        """Note that a listing has shown what was sent."""
        for batch in plan.batches:
            may_come = not self._may_come.isdisjoint(batch.ids)
            self._journal.note(batch.ids, batch.pricing, shown=True, may_come=may_come)
            if self._lock is not None:
                self._lock.shown(batch, is_final=not may_come)


class _Permit:
    """Says whether a batch may be sent; see :class:`~.client.retry.Permit`."""

    def __init__(self, lock: PriceLock, batch: Batch) -> None:
        self._lock = lock
        self._batch = batch
        self.wait = lock.wait

    def renew(self) -> Callable[[], bool]:
        return self._lock.allow(self._batch)


def _aliases(accounts: list[SubAccount]) -> set[str]:
    return {account.alias or "" for account in accounts}
