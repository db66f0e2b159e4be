"""Reading accounts so that a decision can rest on it: selecting, waiting until a listing tells the truth."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.cache import lock
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    CloseAIError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    RequestTimedOut,
)
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.errors import AliasBusy, MissingAccounts
from airflow_provider_closeai.provisioning.selection import Selection

log = logging.getLogger(__name__)

#: Seconds for which the listing may lag behind a change before that counts as not confirmed.
CONFIRM_WITHIN = 30.0
_LOCK_WAIT = 15 * 60.0
_FEW = 3
_SHOWN = 20
_T = TypeVar("_T")


def format_ids(ids: Collection[object]) -> str:
    """
    Write ids for a log or an error: all of a few, the first of many.

    :param ids: in the order to show.
    """
    shown = ", ".join(str(each) for each in list(ids)[:_SHOWN])
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"[{shown}]{more}"


def count_of(accounts: Collection[object]) -> str:
    """
    Write how many sub-accounts there are.

    :param accounts: they, or their ids.
    """
    return f"{len(accounts)} sub-account{'s' * (len(accounts) != 1)}"


def select(client: CloseAIClient, wanted: Selection, missing: str) -> list[SubAccount]:
    """
    Find the accounts that are meant, in the order of the listing.

    :param client: the API.
    :param wanted: which.
    :param missing: ``fail``: an account that is not listed is an error. ``ignore``: it is left out.
    :raises MissingAccounts: naming ids or the keys' last characters.
    :raises MaskedKeys: keys are given, and the listing hides those it would be compared with.
    :raises UnreadableAccount: one of them is listed and cannot be read, or may be one that cannot.
    """
    if wanted.alias is not None:
        found, unreadable = read_alias(client, wanted.alias)
        if unreadable:
            raise failures.unreadable(unreadable)
        if not found and missing == "fail":
            raise MissingAccounts(
                f"No sub-account has exactly the alias {wanted.alias!r}. Nothing was changed. If it was "
                "created moments ago, a retry finds it.",
                call="list",
            )
        return found
    ids, tokens = set(wanted.ids), set(wanted.tokens)
    found, masked, broken = [], [], []
    for item in client.iter_listing():
        if isinstance(item, UnreadableItem):
            broken.append(item)
        elif item.id in ids or item.token in tokens:
            found.append(item)
            ids.discard(item.id)
            tokens.discard(item.token)
        elif tokens and item.token.is_masked:
            masked.append(item)
        if not ids and not tokens:
            break
    if tokens and masked:
        raise failures.masked_keys(masked)
    may_be_meant = [item for item in broken if item.id in ids or tokens or (ids and item.id is None)]
    if may_be_meant:
        raise failures.unreadable(may_be_meant)
    absent = [str(absent_id) for absent_id in wanted.ids if absent_id in ids]
    absent += [token.hint for token in wanted.tokens if token in tokens]
    if absent and missing == "fail":
        raise MissingAccounts(
            f"{len(absent)} of the selected sub-accounts are not listed: {format_ids(absent)}. Nothing "
            "was changed. If they were created moments ago, a retry finds them.",
            call="list",
        )
    return found


def read_alias(client: CloseAIClient, alias: str) -> tuple[list[SubAccount], list[UnreadableItem]]:
    """
    Read the accounts with exactly this alias, and the entries of this alias that cannot be read.

    :param client: the API.
    :param alias: which.
    """
    accounts, named = [], []
    for item in client.iter_listing(alias):
        if isinstance(item, SubAccount):
            accounts.append(item)
        elif item.alias == alias:
            named.append(item)
        else:
            log.warning("Sub-account %s is left out: it cannot be read (%s).", item.id, item.problem)
    return accounts, named


def listed_again(client: CloseAIClient, accounts: Sequence[SubAccount]) -> list[SubAccount]:
    """
    Return those of the accounts that are listed now and can be read, as they are now.

    :param client: the API.
    :param accounts: which; their aliases narrow the listing where they are few.
    """
    return [item for item in _entries_of(client, accounts) if isinstance(item, SubAccount)]


def still_listed(client: CloseAIClient, accounts: Sequence[SubAccount]) -> list[SubAccount]:
    """
    Return those of the accounts that are listed now, as they were given.

    :param client: the API.
    :param accounts: which.
    """
    listed = {item.id for item in _entries_of(client, accounts)}
    return [account for account in accounts if account.id in listed]


def _entries_of(
    client: CloseAIClient, accounts: Sequence[SubAccount]
) -> Iterator[SubAccount | UnreadableItem]:
    ids = {account.id for account in accounts}
    aliases: set[str | None] = {account.alias for account in accounts}
    if len(aliases) > _FEW:
        aliases = {None}
    listed = (item for alias in aliases for item in client.iter_listing(alias))
    return (item for item in listed if item.id in ids)


def require_keys(accounts: Iterable[SubAccount]) -> None:
    """
    Refuse accounts whose keys the listing hides.

    :param accounts: whose keys are needed.
    :raises MaskedKeys: naming the ids.
    """
    masked = [account for account in accounts if account.token.is_masked]
    if masked:
        raise failures.masked_keys(masked)


def with_doubt(error: CloseAIError, doubt: OutcomeUnknown | None) -> CloseAIError:
    """
    Return the error of a try whose earlier call is still in doubt: that nothing was changed is then not true.

    :param error: of a later call.
    :param doubt: the earlier call's, where there is one.
    """
    says_unchanged = isinstance(error, NotSent | RateLimited | RequestTimedOut | OutcomeUnknown)
    if doubt is None or error is doubt or not says_unchanged:
        return error
    log.warning("%s", error)
    return OutcomeUnknown(
        f"{doubt} Then {error.call!r} failed, too ({type(error).__name__}). A retry looks first, and does "
        "only what is missing.",
        call=doubt.call,
        base=doubt.base,
        status=doubt.status,
        retry_after=error.retry_after,
    )


def read_until(
    client: CloseAIClient, read: Callable[[], _T], is_right: Callable[[_T], bool], seconds: float
) -> tuple[_T, bool]:
    """
    Read again until what is read is right, or the time is over.

    :param client: whose ``sleep`` waits.
    :param read: reads.
    :param is_right: judges.
    :param seconds: how long at most.
    :returns: what was read last, and whether it is right.
    """
    end = time.monotonic() + seconds
    pause = 0.2
    while True:
        seen = read()
        left = end - time.monotonic()
        if is_right(seen) or left <= 0:
            return seen, is_right(seen)
        client.sleep(min(pause, left))
        pause = min(pause * 2, 5.0)


@contextlib.contextmanager
def sole_writer(client: CloseAIClient, what: str) -> Iterator[str]:
    """
    Let one task of this host at a time change something of this main account; yields the lock's name.

    :param client: the API.
    :param what: ``pricing``, or an alias behind ``alias:``.
    :raises AliasBusy: after 15 minutes.
    """
    name = hashlib.sha256(f"{client.cache.name} {what}".encode()).hexdigest()[:24]
    with lock(name, wait=_LOCK_WAIT, sleep=client.sleep) as held:
        if not held:
            raise AliasBusy(
                f"Another task on this host has been changing {what} for {_LOCK_WAIT / 60:.0f} minutes. "
                "Nothing was changed. Look for a task that hangs; an Airflow pool of one slot keeps tasks "
                "from waiting here."
            )
        yield name
