"""One running create: takes the steps that its decision says, and keeps its journals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    CloseAIError,
    Declined,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
)
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state.stores import Store
from airflow_provider_closeai.provisioning.create import CreateDecision
from airflow_provider_closeai.provisioning.errors import MissingAccounts, supervisor_gone, with_history
from airflow_provider_closeai.provisioning.journal import CreateJournal, Limits
from airflow_provider_closeai.provisioning.reading import listed_again, read_until
from airflow_provider_closeai.provisioning.reprice import RepricePlan, plan_targets
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.runner.create_lock import CreateLock
from airflow_provider_closeai.provisioning.runner.deployment_lock import MustListAgain
from airflow_provider_closeai.provisioning.runner.listings import read_back
from airflow_provider_closeai.provisioning.runner.repricing import sent_prices
from airflow_provider_closeai.provisioning.runner.tries import Try
from airflow_provider_closeai.provisioning.steps import Done, Fail, List, Listing, Post, Wait
from airflow_provider_closeai.provisioning.texts import count_of, format_ids, ids_of, prices_of, pricing_text

log = logging.getLogger(__name__)


class Acquire(msgspec.Struct, frozen=True):
    """Acquire the lock across hosts, then ask again."""


class Creation:
    """
    One running create.

    :param note: this host's journal of the alias, whose lock is held.
    :param lock: the lock across hosts, if there is one: it is held before anything is sent or waited for.
    :param since: when the first listing that it gets began; ``None``: not before now.
    """

    def __init__(
        self,
        client: CloseAIClient,
        request: CreateRequest,
        note: Store,
        this_try: Try,
        lock: CreateLock | None,
        *,
        needs_keys: bool = False,
        since: float | None = None,
    ) -> None:
        self._client = client
        self._now = client.clock.monotonic
        self.request = request
        # Connecting through a proxy and the TLS handshake count as two connects.
        self._limits = Limits(request.settle, client.config.max_late, 2 * client.config.connect_timeout)
        self._is_supervised = this_try.is_supervised
        self._names = this_try.names
        self._lock = lock
        self._journal = CreateJournal(
            note,
            None if this_try.own_journal is None else this_try.own_journal(request.alias),
            task=this_try.task,
            is_retry=this_try.is_retry,
            limits=self._limits,
            clock=client.clock,
            since=since,
        )
        self.decision = CreateDecision(
            request,
            max_late=client.config.max_late,
            earlier=self._journal.earlier,
            needs_keys=needs_keys,
        )
        self._accounts: tuple[SubAccount, ...] = ()
        self._error: CloseAIError | None = None
        self.hopeless: CloseAIError | None = None  # an error that every alias would meet
        #: Called to wait between two attempts of a post.
        self.wait = client.clock.sleep if lock is None else lock.wait

    @property
    def is_over(self) -> bool:
        """Whether there is a result."""
        return bool(self._accounts) or self._error is not None

    def claimed(self) -> None:
        """Tell the decision what others posted; this run now holds the alias."""
        if self._lock is not None and not self.is_over:
            earlier = self._lock.earlier(self.request.alias, self._limits)
            self.decision.others_posted(earlier, self._now())

    def advance(self) -> List | Wait | Acquire | None:
        """Advance until a listing, time or the lock is needed; return ``None`` once it is over."""
        while not self.is_over:
            step = self.decision.next_step(self._now())
            needs_lock = isinstance(step, Post) or (
                isinstance(step, Wait) and not self.decision.is_confirming
            )
            if needs_lock and self._lock is not None and not self._lock.is_held:
                return Acquire()
            if isinstance(step, Post):
                self._post(step.count)
            elif isinstance(step, Done | Fail):
                self._end(step)
            else:
                return step
        return None

    def not_confirmed(self) -> None:
        """End although no listing can confirm the new accounts now."""
        self._end(self.decision.unconfirmed())

    def _end(self, step: Done | Fail) -> None:
        if isinstance(step, Fail):
            self.give_up(step.error)
            return
        self._accounts = step.accounts
        if self.decision.is_settled and not self.decision.doubts_filter:
            self._journal.settled(self.decision.before)
            if self._lock is not None:
                self._lock.settled(self.request.alias)

    def give_up(self, error: CloseAIError) -> None:
        """End with an error, unless it is over."""
        if not self.is_over:
            self._error = with_history(error, self._done, self.decision.doubt)

    @property
    def _done(self) -> str:
        """What was created, for people."""
        made = sorted(self.decision.created)
        return f"ids {format_ids(made)} of alias {self.request.alias!r} were created" if made else ""

    def result(self) -> list[SubAccount] | CloseAIError:
        """Return the accounts, repriced if requested, or the error."""
        if self._error is not None:
            return self._error
        accounts = {account.id: account for account in self._accounts}
        repriced = len(self.request.differing(self._accounts))
        try:
            if self.request.if_exists == "update":
                accounts |= {each.id: each for each in self._update(self.decision.kept(self._accounts))}
        except CloseAIError as error:
            return with_history(error, self._done)
        done = [accounts[key] for key in sorted(accounts)]
        self._log_result(done, repriced)
        return done

    def _log_result(self, accounts: Sequence[SubAccount], repriced: int) -> None:
        """Log the result; ``besides`` are other ids of the alias."""
        request, decision = self.request, self.decision
        if differing := request.differing(accounts):
            log.info(
                "Other prices than asked for (%s) are left as they are, since if_exists is %r: %s.",
                pricing_text(request.pricing),
                request.if_exists,
                prices_of(differing),
            )
        besides = {*request.besides, *(decision.shown or ())} - {account.id for account in accounts}
        log.info(
            "Alias %r has %s%s (%d created%s now): ids %s.",
            request.alias,
            count_of(accounts),
            f" besides {format_ids(sorted(besides))}" if besides else "",
            len(decision.created),
            f", {repriced} repriced" if request.if_exists == "update" else "",
            ids_of(accounts),
        )

    def listed(self, listing: Listing) -> None:
        """Pass a listing to the decision."""
        alias, before = self.request.alias, self.decision.shown
        self.decision.listed(listing)
        if not listing.is_whole or before is None:
            return
        new = (self.decision.shown or frozenset()) - before
        missed = [each for each in listing.of(alias)[0] if each.id in new]
        if missed:
            try:
                self._client.check_filter(alias, missed, self.request.settle)
            except CloseAIError as error:
                log.warning("Whether the platform's alias filter finds all accounts is not known: %s", error)
                self.decision.doubts_filter = True

    def renew(self) -> Callable[[], bool]:
        """Note that a post may be sent now, and check that it may; see :class:`~.client.retry.Permit`."""
        if self._is_supervised is not None and not self._is_supervised():
            raise supervisor_gone()
        until = self._now() + self._limits.leave_within
        self._journal.begin_post(self.decision.before)
        if self._lock is not None:
            until = min(until, self._lock.allow(self.request.alias))
        return lambda: self._now() < until

    def _not_posted(self) -> None:
        if self.decision.posted_nothing:
            self._journal.not_posted(self.decision.before)
            if self._lock is not None:
                self._lock.not_posted(self.request.alias)

    def _post(self, count: int) -> None:
        request, decision = self.request, self.decision
        try:
            answer = self._client.create(request.alias, request.pricing, request.balance, count, self)
        except MustListAgain:
            self._not_posted()
            decision.look_again()
        except OutcomeUnknown as error:
            log.warning("%s Waiting until the listing can be believed.", error)
            decision.unknown(error, self._now())
        except Declined as error:
            decision.declined(error, self._now())
        except CloseAIError as error:  # certainly not executed
            self._not_posted()
            decision.not_executed(error)
            is_about_the_key = isinstance(error, AuthenticationFailed | PermissionDenied)
            if is_about_the_key or not isinstance(error, Rejected):
                self.hopeless = error
        else:
            decision.answered(answer, count, self._now())
            log.info("Created %s of alias %r: ids %s.", count_of(answer), request.alias, ids_of(answer))

    def _update(self, kept: Sequence[SubAccount]) -> list[SubAccount]:
        """Set the requested prices of existing accounts; return the accounts as listed afterwards."""
        request = self.request
        if not kept:
            return []

        def listed() -> list[SubAccount]:
            return listed_again(self._client, kept)

        def read() -> list[SubAccount]:
            seen = read_until(self._client, listed, lambda seen: len(seen) == len(kept), request.settle)
            gone = sorted({each.id for each in kept} - {account.id for account in seen})
            if gone:
                raise MissingAccounts(
                    f"Sub-accounts {format_ids(gone)} of alias {request.alias!r} are not listed any more, "
                    "and their prices were not updated. Does another task delete them? A retry looks again.",
                    call="update",
                )
            return seen

        def decide(seen: Sequence[SubAccount]) -> RepricePlan:
            return plan_targets(seen, {each.id: request.pricing for each in seen}, request.batch_size)

        with sent_prices(self._client, read, decide, self._names) as sent:
            return read_back(self._client, sent)
