"""Reads accounts for decisions: selected ones, and the same ones again."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.models import Item, SubAccount, UnreadableItem
from airflow_provider_closeai.provisioning.errors import MissingAccounts
from airflow_provider_closeai.provisioning.inputs import refuse_none
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.provisioning.steps import Listing
from airflow_provider_closeai.provisioning.texts import format_ids

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def select(client: CloseAIClient, selection: Selection, missing: str) -> list[SubAccount]:
    """Find the selected accounts; if ``missing`` is ``fail``, one that is not listed is an error."""
    if selection.alias is not None:
        found, unreadable = read_aliases(client, [selection.alias]).of(selection.alias)
        if not found and not unreadable and client.believes_absent(selection.alias):
            found, unreadable = read_aliases(client, [], is_whole=True).of(selection.alias)
        if unreadable:
            raise failures.unreadable(unreadable)
        absent = "" if found else f"No sub-account has exactly the alias {selection.alias!r}."
        if absent:
            refuse_none(selection.alias)
    else:
        found, absent = _select_each(client, selection)
    if absent and missing == "fail":
        raise MissingAccounts(
            f"{absent} Nothing more was done. If they were created moments ago, a retry finds them.",
            call="list",
        )
    return found


def _select_each(client: CloseAIClient, selection: Selection) -> tuple[list[SubAccount], str]:
    """Find accounts by ids or keys, first under the aliases in records, and say which are absent."""
    ids, tokens = set(selection.ids), set(selection.tokens)
    found, masked, broken = [], [], []
    listings = [client.iter_aliases(selection.aliases)] if selection.aliases else []
    for item in (item for listing in [*listings, client.iter_listing()] for item in listing):
        if isinstance(item, UnreadableItem):
            broken.append(item)
        elif item.id in ids or item.token in tokens:
            found.append(item)
            ids.discard(item.id)
            tokens.discard(item.token)
        elif item.token.is_masked:
            masked.append(item)
        if not ids and not tokens:
            break
    failures.require_keys(masked if tokens else ())
    may_be_meant = [item for item in broken if item.id in ids or tokens or (ids and item.id is None)]
    if may_be_meant:
        raise failures.unreadable(may_be_meant)
    absent = [str(absent_id) for absent_id in selection.ids if absent_id in ids]
    absent += [token.hint for token in selection.tokens if token in tokens]
    if selection.aliases:
        found.sort(key=lambda account: account.id)
    is_or_are = "is" if len(absent) == 1 else "are"
    what = f"{len(absent)} of the selected sub-accounts {is_or_are} not listed: {format_ids(absent)}."
    return found, what if absent else ""


def read_aliases(client: CloseAIClient, aliases: Collection[str], *, is_whole: bool = False) -> Listing:
    """
    Return the accounts with exactly these aliases, and perhaps others.

    :param is_whole: read all accounts, without the platform's filter, which may miss some.
    """
    began = client.clock.monotonic()
    found = list(client.iter_listing() if is_whole else client.iter_aliases(aliases))
    listing = Listing(found, began, client.clock.monotonic(), is_whole=is_whole)
    for item in listing.of(None)[1]:
        log.warning("A sub-account is left out: it cannot be read (%s).", item)
    return listing


def listed_again(client: CloseAIClient, accounts: Sequence[SubAccount]) -> list[SubAccount]:
    """Return the accounts that are still listed and can be read, as they are now."""
    client.prove_filter(accounts)
    return [item for item in entries_of(client, accounts) if isinstance(item, SubAccount)]


def entries_of(client: CloseAIClient, accounts: Sequence[SubAccount]) -> Iterator[Item]:
    """Stream the accounts as listed now; an entry that cannot be read may come twice."""
    ids = {account.id for account in accounts}
    return (item for item in client.iter_aliases({each.alias or "" for each in accounts}) if item.id in ids)


def still_listed(
    client: CloseAIClient, batches: Sequence[Sequence[SubAccount]], seconds: float
) -> list[Sequence[SubAccount]]:
    """
    Return which accounts of each batch are still listed, once each batch is smaller or time is over.

    How a platform answers for deleted keys is not known: if it refuses a call, the listing decides.
    """
    if not batches:
        return []

    def listed() -> list[Sequence[SubAccount]]:
        ids = {item.id for item in entries_of(client, list(itertools.chain(*batches)))}
        return [[account for account in batch if account.id in ids] for batch in batches]

    def are_smaller(left: list[Sequence[SubAccount]]) -> bool:
        return all(len(there) < len(batch) for there, batch in zip(left, batches, strict=True))

    return read_until(client, listed, are_smaller, seconds)


def read_until(
    client: CloseAIClient, read: Callable[[], _T], is_right: Callable[[_T], bool], seconds: float
) -> _T:
    """Read until the result is right or time is over; return the last result."""
    clock = client.clock
    end = clock.monotonic() + seconds
    pause = 0.2
    while True:
        began = clock.monotonic()  # however long a reading takes, it shows no later state
        seen = read()
        if is_right(seen) or began >= end:
            return seen
        clock.sleep(min(pause, max(end - clock.monotonic(), 0.0)))
        pause = min(pause * 2, 5.0)
