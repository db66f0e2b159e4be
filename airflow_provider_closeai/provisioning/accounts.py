"""Reading accounts so that a decision can rest on it: selecting, waiting until a listing tells the truth."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from airflow_provider_closeai.client.cache import lock
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.errors import AliasBusy, MissingAccounts
from airflow_provider_closeai.provisioning.inputs import Selection

#: Seconds for which the listing may lag behind a change before that counts as not confirmed.
CONFIRM_WITHIN = 30.0
_LOCK_WAIT = 15 * 60.0
_FEW = 3
_T = TypeVar("_T")


def select(client: CloseAIClient, wanted: Selection, missing: str) -> list[SubAccount]:
    """
    Find the accounts that are meant, in the order of the listing.

    :param client: the API.
    :param wanted: which.
    :param missing: ``fail``: an account that is not listed is an error. ``ignore``: it is left out.
    :raises MissingAccounts: naming ids or the keys' last characters.
    """
    if wanted.alias is not None:
        found = list(client.iter_sub_accounts(alias=wanted.alias))
        if not found and missing == "fail":
            raise MissingAccounts(
                f"No sub-account has exactly the alias {wanted.alias!r}. Nothing was changed.", call="list"
            )
        return found
    ids, tokens = set(wanted.ids), set(wanted.tokens)
    found = []
    for account in client.iter_sub_accounts():
        if account.id in ids or account.token in tokens:
            found.append(account)
            ids.discard(account.id)
            tokens.discard(account.token)
            if not ids and not tokens:
                break
    absent = [str(absent_id) for absent_id in wanted.ids if absent_id in ids]
    absent += [token.hint for token in wanted.tokens if token in tokens]
    if absent and missing == "fail":
        raise MissingAccounts(
            f"{len(absent)} of the selected sub-accounts are not listed: {', '.join(absent[:20])}. Nothing "
            "was changed. If they were created moments ago, a retry finds them.",
            call="list",
        )
    return found


def listed_again(client: CloseAIClient, accounts: Sequence[SubAccount]) -> list[SubAccount]:
    """
    Return those of the accounts that are listed now, as they are now.

    :param client: the API.
    :param accounts: which; their aliases narrow the listing where they are few.
    """
    ids = {account.id for account in accounts}
    aliases: set[str | None] = {account.alias for account in accounts}
    if len(aliases) > _FEW:
        aliases = {None}
    listed = (item for alias in aliases for item in client.iter_sub_accounts(alias=alias))
    return [account for account in listed if account.id in ids]


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
