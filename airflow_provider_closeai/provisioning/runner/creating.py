"""Runs creates: each does what its decision says, and all share their listings and waits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    CloseAIError,
    Declined,
    OutcomeUnknown,
    PermissionDenied,
    Rejected,
)
from airflow_provider_closeai.client.models import SubAccount, same_pricing
from airflow_provider_closeai.local_state.stores import FileStore, Store
from airflow_provider_closeai.provisioning.create import (
    CreateDecision,
    Done,
    Fail,
    List,
    Post,
    Wait,
    closing_lines,
)
from airflow_provider_closeai.provisioning.errors import (
    AliasBusy,
    MissingAccounts,
    NotNoted,
    SupervisorGone,
    supervisor_gone,
    with_doubt,
)
from airflow_provider_closeai.provisioning.inputs import bad
from airflow_provider_closeai.provisioning.journal import CreateJournal, Limits
from airflow_provider_closeai.provisioning.reading import read_aliases, read_until
from airflow_provider_closeai.provisioning.requests import CreateRequest, RepriceRequest
from airflow_provider_closeai.provisioning.runner.create_lock import CreateLock
from airflow_provider_closeai.provisioning.runner.deployment_lock import MustLookAgain, names_to_lock_with
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.repricing import reprice_listed
from airflow_provider_closeai.provisioning.runner.tries import FIRST_TRY, Try
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.provisioning.texts import count_of, format_ids, ids_of

log = logging.getLogger(__name__)

_LOCKS = 400  # aliases that are locked at the same time: each takes a file descriptor


def create(
    client: CloseAIClient, request: CreateRequest, this_try: Try = FIRST_TRY, *, needs_keys: bool = False
) -> list[SubAccount]:
    """
    Make it so that exactly ``count`` sub-accounts of the alias exist.

    :param client: the API.
    :param request: what is asked for.
    :param this_try: which try of which task this is.
    :param needs_keys: the accounts' keys will be used: refuse accounts whose keys the listing hides.
    :returns: the accounts, oldest id first.
    :raises TooManyAccounts: more than ``count`` exist; none is changed or deleted.
    :raises PricingDiffers: ``if_exists="match"``, and some exist with other prices.
    :raises AliasExists: ``if_exists="fail"``, and some existed before.
    :raises MaskedKeys: keys are needed, and the listing hides them; nothing was sent.
    :raises UnreadableAccount: an entry of the alias cannot be read: it may be one that is wanted.
    :raises UnexpectedAnswer: the platform created under another alias or with other prices.
    :raises NotConfirmed: another task deleted some meanwhile.
    :raises Declined: the platform said no, and not all that is wanted is there.
    :raises OutcomeUnknown: three creates in a row ended unknown, and nothing appeared.
    """
    [result] = create_all(client, [request], this_try, needs_keys=needs_keys)
    if isinstance(result, CloseAIError):
        raise result
    return result


def create_all(
    client: CloseAIClient,
    requests: Sequence[CreateRequest],
    this_try: Try = FIRST_TRY,
    *,
    needs_keys: bool = False,
) -> list[list[SubAccount] | CloseAIError]:
    """
    Do what :func:`create` does for many aliases, with shared listings and one wait for all that is in doubt.

    :param client: the API.
    :param requests: what is asked for, each of another alias.
    :param this_try: which try of which task this is.
    :param needs_keys: as there.
    :returns: for each request its accounts, or why they could not be made.
    """
    if len({request.alias for request in requests}) < len(requests):
        raise bad("alias", "is asked for twice", "give each alias once")
    results: dict[str, list[SubAccount] | CloseAIError] = {}
    names = names_to_lock_with(client, this_try.names)
    in_order = sorted(requests, key=lambda request: request.alias)  # or two tasks would lock each other out
    for start in range(0, len(in_order), _LOCKS):
        with contextlib.ExitStack() as locks:
            creations = []
            for request in in_order[start : start + _LOCKS]:
                note = locks.enter_context(alias_lock(client, f"alias:{request.alias}"))
                creations.append(_Creation(client, request, FileStore(note), this_try, needs_keys))
            _run(client, creations, None if names is None else CreateLock(client, names))
            results |= {each.request.alias: each.result() for each in creations}
    return [results[request.alias] for request in requests]


def _run(client: CloseAIClient, creations: Sequence[_Creation], lock: CreateLock | None) -> None:
    """Advance creates side by side: they share listings and waits, and one claim."""
    try:
        while _advance(client, creations, lock):
            pass
    except (AliasBusy, NotNoted, SupervisorGone) as error:  # of the claim
        for each in creations:
            each.give_up(error)
    finally:
        if lock is not None:
            lock.release()


def _advance(client: CloseAIClient, creations: Sequence[_Creation], lock: CreateLock | None) -> bool:
    """Go on until all have listed or waited once more; returns whether any of them is not over."""
    listing, waits, unclaimed = [], [], []
    if lock is not None:
        lock.keep()
    for each in creations:
        step = each.advance(lock)
        if isinstance(step, List):
            listing.append(each)
        elif isinstance(step, Wait):
            waits.append(step.seconds)
        elif isinstance(step, Post):
            unclaimed.append(each)
        elif each.error is not None and each.is_hopeless:
            for other in creations:
                other.give_up(each.error)
    if listing:
        _list(client, listing)
    elif lock is not None and unclaimed:
        lock.acquire([each.request.alias for each in creations if not each.is_over])
        for each in creations:
            each.claimed(lock)
    elif waits:
        client.clock.sleep(min(waits))
    return any(not each.is_over for each in creations)


def _list(client: CloseAIClient, creations: Sequence[_Creation]) -> None:
    began = client.clock.monotonic()
    try:
        read = read_aliases(client, [each.request.alias for each in creations])
    except CloseAIError as error:
        for each in creations:
            each.give_up(error)
        return
    ended = client.clock.monotonic()
    for each in creations:
        each.decision.listed(*read[each.request.alias], began, ended)


class _Creation:
    """One create under way: carries out what its decision says."""

    def __init__(
        self, client: CloseAIClient, request: CreateRequest, note: Store, this_try: Try, needs_keys: bool
    ) -> None:
        self._client = client
        self._now = client.clock.monotonic
        self.request = request
        # To connect through a proxy, and to shake hands, is to connect twice.
        self._limits = Limits(request.settle, client.config.max_late, 2 * client.config.connect_timeout)
        self._is_supervised = this_try.is_supervised
        self._names = this_try.names
        self._journal = CreateJournal(
            note,
            None if this_try.own_journal is None else this_try.own_journal(request.alias),
            task=this_try.task,
            is_retry=this_try.is_retry,
            limits=self._limits,
            clock=client.clock,
        )
        doubt = self._journal.doubt
        self.decision = CreateDecision(
            request,
            max_late=client.config.max_late,
            believe_from=None if doubt is None else self._now() + doubt,
            before=self._journal.before,
            needs_keys=needs_keys,
        )
        self._lock: CreateLock | None = None
        self._accounts: tuple[SubAccount, ...] | None = None
        self.error: CloseAIError | None = None
        self.is_hopeless = False  # what went wrong here would go wrong for every alias

    @property
    def is_over(self) -> bool:
        """Whether there is a result."""
        return self._accounts is not None or self.error is not None

    def claimed(self, lock: CreateLock) -> None:
        """
        Begin anew with looking: the alias is this run's own from now on, and who posted before is known.

        :param lock: that is held.
        """
        if not self.is_over:
            doubt = lock.doubt(self.request.alias, self._limits)
            self.decision.look_again(None if doubt is None else self._now() + doubt)

    def advance(self, lock: CreateLock | None) -> List | Wait | Post | None:
        """
        Go on until a listing, time or a claim is needed; ``None``: it is over.

        :param lock: over all hosts, where there is one: without it nothing is sent or waited for.
        """
        while not self.is_over:
            step = self.decision.next_step(self._now())
            if isinstance(step, Post | Wait) and lock is not None and not lock.is_held:
                return Post(0)
            if isinstance(step, Post):
                self._post(step.count, lock)
            elif isinstance(step, Done):
                self._accounts = step.accounts
                if self.decision.is_settled:
                    self._journal.settled(self._before)
                    if lock is not None:
                        lock.settled(self.request.alias)
            elif isinstance(step, Fail):
                self.give_up(step.error)
            else:
                return step
        return None

    def give_up(self, error: CloseAIError) -> None:
        """End with an error, unless it is over."""
        if not self.is_over:
            self.error = with_doubt(error, self.decision.doubt)

    def result(self) -> list[SubAccount] | CloseAIError:
        """Return the accounts, repriced where that is asked for, or what went wrong."""
        if self._accounts is None or self.error is not None:
            return self.error or CloseAIError("The create was not begun.", call="create")
        accounts = {account.id: account for account in self._accounts}
        differing = [each for each in self._accounts if not same_pricing(each.pricing, self.request.pricing)]
        try:
            if self.request.if_exists == "update":
                accounts |= {each.id: each for each in self._update(self.decision.kept(self._accounts))}
        except CloseAIError as error:
            return error
        done = [accounts[key] for key in sorted(accounts)]
        for line in closing_lines(self.request, done, self.decision.created, len(differing)):
            log.info("%s", line)
        return done

    @property
    def _before(self) -> frozenset[int]:
        return self.decision.before or frozenset()

    def renew(self) -> Callable[[], bool]:
        """Note that a post may leave now, and see that it may. See :class:`~.client.client.Permit`."""
        if self._is_supervised is not None and not self._is_supervised():
            raise supervisor_gone()
        until = self._now() + self._limits.leave_within
        self._journal.begin_post(self._before)
        if self._lock is not None:
            until = min(until, self._lock.allow(self.request.alias))
        return lambda: self._now() < until

    def wait(self, seconds: float) -> None:
        """Wait between two attempts of a post."""
        if self._lock is None:
            self._client.clock.sleep(seconds)
        else:
            self._lock.wait(seconds)

    def _not_posted(self) -> None:
        if self.decision.posted_nothing:
            self._journal.not_posted(self._before)
            if self._lock is not None:
                self._lock.not_posted(self.request.alias)

    def _post(self, count: int, lock: CreateLock | None) -> None:
        request, decision = self.request, self.decision
        self._lock = lock
        try:
            answer = self._client.create(request.alias, request.pricing, request.balance, count, self)
        except MustLookAgain:
            self._not_posted()
            decision.look_again()
        except OutcomeUnknown as error:
            log.warning("%s Waiting until the listing can be believed.", error)
            decision.unknown(error, self._now())
        except Declined as error:
            decision.declined(error, self._now())
        except CloseAIError as error:  # proven not executed
            self._not_posted()
            decision.not_executed(error)
            is_about_the_key = isinstance(error, AuthenticationFailed | PermissionDenied)
            self.is_hopeless = is_about_the_key or not isinstance(error, Rejected)
        else:
            decision.answered(answer, count, self._now())
            log.info("Created %s of alias %r: ids %s.", count_of(answer), request.alias, ids_of(answer))

    def _update(self, kept: Sequence[SubAccount]) -> list[SubAccount]:
        """Give accounts that were there the prices asked for; returns them as they are listed then."""
        request = self.request
        if not kept:
            return []
        ids = {account.id for account in kept}

        def listed() -> list[SubAccount]:
            return [each for each in self._client.iter_sub_accounts(alias=request.alias) if each.id in ids]

        def read() -> list[SubAccount]:
            seen, is_whole = read_until(
                self._client, listed, lambda seen: len(seen) == len(ids), request.settle
            )
            if not is_whole:
                gone = sorted(ids - {account.id for account in seen})
                raise MissingAccounts(
                    f"Sub-accounts {format_ids(gone)} of alias {request.alias!r} are not listed any more, "
                    "and their prices were not updated. Does another task delete them? A retry looks again.",
                    call="update",
                )
            return seen

        wanted = RepriceRequest(
            accounts=Selection(alias=request.alias),
            pricing=request.pricing,
            mode="replace",
            batch_size=request.batch_size,
            dry_run=False,
        )
        return reprice_listed(self._client, read, wanted, self._names)
