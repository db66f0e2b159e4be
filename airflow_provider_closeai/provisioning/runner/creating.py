"""Runs creates side by side: they share listings, waits and one claim."""

from __future__ import annotations

import contextlib
import logging
import resource
from collections.abc import Callable, Collection, Sequence

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import AliasBusy, NotNoted, SupervisorGone
from airflow_provider_closeai.provisioning.inputs import bad
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.create_lock import CreateLock
from airflow_provider_closeai.provisioning.runner.creation import Acquire, Creation
from airflow_provider_closeai.provisioning.runner.deployment_lock import names_to_lock_with
from airflow_provider_closeai.provisioning.runner.listings import Listings
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.tries import FIRST_TRY, Try
from airflow_provider_closeai.provisioning.steps import List, Wait

log = logging.getLogger(__name__)

_MOST_LOCKS = 500  # nine per name of a claim, and all hosts' names must fit into one page


def create(
    client: CloseAIClient, request: CreateRequest, this_try: Try = FIRST_TRY, *, needs_keys: bool = False
) -> list[SubAccount]:
    """
    Ensure that exactly ``count`` sub-accounts of the alias exist.

    :param needs_keys: the accounts' keys will be used: refuse accounts whose keys the listing hides.
    :returns: the accounts, oldest id first.
    :raises TooManyAccounts: more than ``count`` exist; none is changed or deleted.
    :raises PricingDiffers: some exist with other prices, and ``if_exists="match"``.
    :raises AliasExists: some existed before, and ``if_exists="fail"``.
    :raises MaskedKeys: the listing hides keys that are needed; nothing was sent.
    :raises UnreadableAccount: an entry of the alias cannot be read; it may be a wanted one.
    :raises UnexpectedAnswer: the platform created under another alias or with other prices.
    :raises NotConfirmed: another task deleted some meanwhile.
    :raises Declined: the platform said no, and accounts are missing.
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
    listings: Listings | None = None,
    made: Callable[[Collection[int]], None] | None = None,
) -> list[list[SubAccount] | CloseAIError]:
    """
    Do what :func:`create` does for many aliases, with shared listings and one wait for all doubts.

    :param requests: the creates, each with another alias.
    :param listings: listings to share with other writes.
    :param made: called with the ids of the accounts that this task made itself.
    :returns: for each request its accounts, or why they could not be made.
    """
    if len({request.alias for request in requests}) < len(requests):
        raise bad("alias", "is asked for twice", "give each alias once")
    seen = Listings(client) if listings is None else listings
    names = names_to_lock_with(client, this_try.names)
    results: dict[str, list[SubAccount] | CloseAIError] = {}
    in_order = sorted(requests, key=lambda request: request.alias)  # else two tasks could deadlock
    most = _most_locks()
    for start in range(0, len(in_order), most):
        with contextlib.ExitStack() as locks:
            creations = []
            lock = None if names is None else CreateLock(client, names)
            end = client.clock.monotonic() + locking.LOCK_WAIT  # for all: waiting holds the others
            for request in in_order[start : start + most]:
                try:
                    what, left = f"alias:{request.alias}", end - client.clock.monotonic()
                    note = locks.enter_context(alias_lock(client, what, max(left, 0.0)))
                except AliasBusy as error:
                    results[request.alias] = error
                    continue
                store, since = FileStore(note), seen.since
                creations.append(
                    Creation(client, request, store, this_try, lock, needs_keys=needs_keys, since=since)
                )
            run(client, creations, seen, lock)
        # Not while aliases are locked: the task that may set prices now may be waiting for one.
        results |= {each.request.alias: each.result() for each in creations}
        if made is not None:
            made([key for each in creations for key in each.decision.created])
    return [results[request.alias] for request in requests]


def _most_locks() -> int:
    """Return how many aliases to lock at a time: each lock takes a file descriptor."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_LOCKS if limit < 0 else max(min(limit // 2, _MOST_LOCKS), 1)


def run(
    client: CloseAIClient, creations: Sequence[Creation], listings: Listings, lock: CreateLock | None
) -> None:
    """Advance creates side by side until all are over."""
    try:
        while _advance(client, creations, listings, lock):
            pass
    except (AliasBusy, NotNoted) as error:  # from the claim
        for each in creations:
            _give_up(each, error)
    except SupervisorGone as error:
        for each in creations:
            each.give_up(error)
    finally:
        if lock is not None:
            lock.release()


def _advance(
    client: CloseAIClient, creations: Sequence[Creation], listings: Listings, lock: CreateLock | None
) -> bool:
    """Go on until all have listed or waited once more; return whether any is unfinished."""
    lists: list[Creation] = []
    whole: list[Creation] = []
    waits, needs_lock = [], False
    doubts = [each.decision.believe_from for each in creations if not each.is_over]
    until = max((each for each in doubts if each is not None), default=0.0)
    if lock is not None:
        lock.keep()
    for each in creations:
        each.decision.doubt_until(until)
        step = each.advance()
        if isinstance(step, List):
            (whole if step.is_whole else lists).append(each)
        elif isinstance(step, Wait):
            waits.append(step.seconds)
        elif isinstance(step, Acquire):
            needs_lock = True
        elif each.hopeless is not None:
            for other in creations:
                if not other.decision.is_confirming:  # keys already made may be in no listing
                    other.give_up(each.hopeless)
    if lists or whole:
        # List for all: else each would list while the others wait, and none would sleep.
        _list(listings, [each for each in creations if not each.is_over], whole)
    elif lock is not None and needs_lock:
        lock.acquire([each.request.alias for each in creations if not each.is_over])
        for each in creations:
            each.claimed()
    elif waits:
        client.clock.sleep(min(waits))
    return any(not each.is_over for each in creations)


def _list(listings: Listings, creations: Sequence[Creation], whole: Collection[Creation]) -> None:
    """List the aliases of creates, or all accounts if some creates need that."""
    try:
        listing = listings.read([each.request.alias for each in creations], is_whole=bool(whole))
    except CloseAIError as error:
        if whole:
            log.warning("Whether the platform's alias filter finds all accounts is not known: %s", error)
        for each in creations:
            if not whole or each in whole:
                _give_up(each, error)
        return
    for each in creations:
        each.listed(listing)


def _give_up(creation: Creation, error: CloseAIError) -> None:
    """End a create; without an error if all accounts were made: a listing only helps the next task."""
    if creation.decision.is_confirming and not creation.is_over:
        log.warning("Whether a listing shows the new accounts is not known: %s", error)
        creation.not_confirmed()
    else:
        creation.give_up(error)
