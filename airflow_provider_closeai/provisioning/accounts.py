"""Reading accounts so that a decision can rest on it: selecting, waiting until a listing tells the truth."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from airflow_provider_closeai.client.cache import lock
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import MaskedKeys, UnreadableAccount
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.errors import AliasBusy, MissingAccounts
from airflow_provider_closeai.provisioning.selection import Selection

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
        found = list(read_alias(client, wanted.alias))
        if not found and missing == "fail":
            raise MissingAccounts(
                f"No sub-account has exactly the alias {wanted.alias!r}. Nothing was changed. If it was "
                "created moments ago, a retry finds it.",
                call="list",
            )
        return found
    ids, tokens = set(wanted.ids), set(wanted.tokens)
    found, masked, unreadable = [], [], []
    for item in client.iter_listing():
        if isinstance(item, UnreadableItem):
            if item.id in ids:
                raise unreadable_account(item)
            unreadable.append(item)
        elif item.id in ids or item.token in tokens:
            found.append(item)
            ids.discard(item.id)
            tokens.discard(item.token)
        elif tokens and item.token.is_masked:
            masked.append(item)
        if not ids and not tokens:
            break
    if tokens and masked:
        raise masked_keys(masked, "selecting by sks")
    doubtful = [item for item in unreadable if tokens or item.id is None]
    if (ids or tokens) and doubtful:
        raise unreadable_account(doubtful[0])
    absent = [str(absent_id) for absent_id in wanted.ids if absent_id in ids]
    absent += [token.hint for token in wanted.tokens if token in tokens]
    if absent and missing == "fail":
        raise MissingAccounts(
            f"{len(absent)} of the selected sub-accounts are not listed: {format_ids(absent)}. Nothing "
            "was changed. If they were created moments ago, a retry finds them.",
            call="list",
        )
    return found


def read_alias(client: CloseAIClient, alias: str) -> Iterator[SubAccount]:
    """
    Stream the accounts with exactly this alias.

    :param client: the API.
    :param alias: which.
    :raises UnreadableAccount: an entry that cannot be read has this alias.
    """
    for item in client.iter_listing(alias):
        if isinstance(item, UnreadableItem):
            if item.alias == alias:
                raise unreadable_account(item)
        else:
            yield item


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


def require_keys(accounts: Iterable[SubAccount], purpose: str) -> None:
    """
    Refuse accounts whose keys the listing hides.

    :param accounts: whose keys are needed.
    :param purpose: what for, for the error.
    :raises MaskedKeys: naming the ids.
    """
    masked = [account for account in accounts if account.token.is_masked]
    if masked:
        raise masked_keys(masked, purpose)


def masked_keys(accounts: Sequence[SubAccount], purpose: str) -> MaskedKeys:
    """
    Make the error about keys that the listing hides.

    :param accounts: whose.
    :param purpose: what they are needed for.
    """
    return MaskedKeys(
        f"The listing hides keys: characters of the keys of sub-accounts "
        f"{format_ids([account.id for account in accounts])} are replaced for show, and {purpose} needs the "
        "keys themselves. Nothing was changed. Let the platform list whole keys to this main account, or do "
        "this in the platform's console.",
        call="list",
    )


def unreadable_account(item: UnreadableItem) -> UnreadableAccount:
    """
    Make the error about an entry that is meant, or may be, and cannot be read.

    :param item: the entry.
    """
    which = "An entry without an id that can be read" if item.id is None else f"Sub-account {item.id}"
    return UnreadableAccount(
        f"{which} is listed in a form that cannot be read ({item.problem}), and is, or may be, one of those "
        "meant. Nothing more was sent. Correct it in the platform's console, or tell the platform; what "
        "does not select it goes on.",
        call="list",
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
