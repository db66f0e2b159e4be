"""Runs rotations: delivers keys, then makes a guarded delete and an exact create."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from airflow_provider_closeai.client import failures
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import CloseAIError, Declined, OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.errors import NotConfirmed, foremost, with_history
from airflow_provider_closeai.provisioning.reading import read_aliases
from airflow_provider_closeai.provisioning.requests import RotateRequest
from airflow_provider_closeai.provisioning.rotate import (
    Held,
    RotatePlan,
    check_clock,
    closing_line,
    decide,
    next_due,
)
from airflow_provider_closeai.provisioning.runner.creating import create
from airflow_provider_closeai.provisioning.runner.deleting import Record, delete
from airflow_provider_closeai.provisioning.runner.locking import alias_lock
from airflow_provider_closeai.provisioning.runner.tries import FIRST_TRY, Try
from airflow_provider_closeai.provisioning.texts import ids_of

log = logging.getLogger(__name__)


class Keys(Protocol):
    """Where the keys go."""

    name: str
    #: Ids whose own secrets did not take their keys in the last delivery; others were delivered.
    refused: frozenset[int]

    def held(self, accounts: Sequence[SubAccount]) -> Held | None:
        """Return which keys it holds, and since when; ``None`` if it cannot tell."""

    def replaced(self, accounts: Sequence[SubAccount]) -> frozenset[int]:
        """Return the accounts whose keys it does not hold because newer ones replace them."""

    def deliver(self, accounts: Sequence[SubAccount]) -> dict[int, str]:
        """Take the keys of all remaining accounts; return the references of those it holds, by id."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """
    The result of a rotation.

    :param request: the request.
    :param accounts: the current accounts, oldest id first.
    :param references: their keys' references in the sink, by id; without keys that newer ones replaced.
    :param created: new ids.
    :param delivered: ids whose keys the sink did not hold before.
    :param deleted: deleted accounts, as they were just before.
    :param untouched: ids that were left alone, since their age is unknown.
    :param due: when something is due next; ``None``: nothing is.
    :param next_steps: what will be due then, for people.
    """

    request: RotateRequest
    accounts: tuple[SubAccount, ...]
    references: dict[int, str]
    created: tuple[int, ...]
    delivered: tuple[int, ...]
    deleted: tuple[SubAccount, ...]
    untouched: tuple[int, ...]
    due: datetime | None
    next_steps: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the result as plain JSON, without keys."""
        wanted = self.request.wanted
        return {
            "alias": wanted.alias,
            "sub_accounts": [
                wanted.record(each) | {"delivered_to": self.references.get(each.id)} for each in self.accounts
            ],
            "created": list(self.created),
            "delivered": list(self.delivered),
            "deleted": [account.record() for account in self.deleted],
            "untouched": list(self.untouched),
            "next_due": None if self.due is None else self.due.isoformat(),
            "next_steps": list(self.next_steps),
        }


def rotate(
    client: CloseAIClient,
    request: RotateRequest,
    keys: Keys,
    this_try: Try = FIRST_TRY,
    record: Record | None = None,
) -> Rotation:
    """
    Do what is due in a rotation. Run it as often as you like.

    :param record: called just before a deletion, with the accounts and when their listing began; if it
        raises, nothing is deleted.
    :raises ClockDisagrees: the keys' ages are unknown. Nothing was changed.
    :raises MaskedKeys: the listing hides the keys. Nothing was changed.
    :raises UnreadableAccount: an entry of the alias cannot be read. Nothing was changed.
    :raises CloseAIError: whatever the delivery, :func:`delete` and :func:`create` raise.
    """
    alias, clock = request.wanted.alias, client.clock
    what = f"rotate:{alias}"
    with alias_lock(client, what):
        listed, unreadable = read_aliases(client, [alias]).of(alias)
        accounts = [account for account in listed if not account.is_other]
        if unreadable:
            raise failures.unreadable(unreadable)
        now = clock.utc_now()
        check_clock(accounts, client.platform_time, now)
        failures.require_keys(accounts)
        journal = DeliveryJournal(client, what, keys.name)
        said = keys.held(accounts)
        held = journal.held if said is None else said
        plan = decide(request, accounts, held, now, keys.replaced(accounts))
        _tell(plan)
        going = {account.id for account in plan.delete}
        kept = [account for account in accounts if account.id not in going]
        references = keys.deliver(kept) if kept else {}
        journal.note((each.id for each in accounts if each in kept or each.id in held), clock.utc_now())
        deleted: list[SubAccount] = []
        refusal: CloseAIError | None = None
        if plan.delete:
            try:
                deleted = delete(client, plan.deletion(request), record)
            except (
                Rejected,
                Declined,
                NotConfirmed,
                OutcomeUnknown,
            ) as error:  # must not keep other keys from a successor
                refusal = error
                listed, _ = read_aliases(client, [alias]).of(alias)
                kept = accounts = [account for account in listed if not account.is_other]
                plan = decide(request, accounts, held, now, keys.replaced(accounts), most_deleted=0)
        try:
            new = _create(client, request, plan, accounts, this_try)
        except CloseAIError as error:
            done = f"ids {ids_of(deleted)} were deleted" if deleted else ""
            raise foremost([*([refusal] if refusal else []), with_history(error, done)]) from None
        there = sorted([*kept, *new], key=lambda account: account.id)
        references = keys.deliver(there) if new else references
        journal.note((each.id for each in there), clock.utc_now())
        if refusal is not None:
            raise refusal
        fresh = [*plan.deliver, *(account.id for account in new)]
        ends = clock.utc_now()
        is_dateless = bool(held) and all(since is None for since in held.values())
        held_now = {**held, **dict.fromkeys(fresh, None if is_dateless else ends)}
        replaced = keys.replaced(there)
        held_now = {key: since for key, since in held_now.items() if key not in replaced}
        due = next_due(request, there, held_now, ends, replaced)
        log.info("%s", closing_line(request, there, (len(new), len(fresh), len(deleted)), due, ends))
        return Rotation(
            request=request,
            accounts=tuple(there),
            references=references,
            created=tuple(account.id for account in new),
            delivered=tuple(fresh),
            deleted=tuple(deleted),
            untouched=tuple(account.id for account in plan.untouched),
            due=None if due is None else due[0],
            next_steps=() if due is None else due[1].reasons,
        )


def _create(
    client: CloseAIClient,
    request: RotateRequest,
    plan: RotatePlan,
    accounts: Sequence[SubAccount],
    this_try: Try,
) -> list[SubAccount]:
    """Create what is missing; return the accounts that were not listed before."""
    if not plan.create:
        return []
    known = {account.id for account in accounts}
    made = create(client, plan.creation(request), this_try, needs_keys=True)
    return [account for account in made if account.id not in known]


def _tell(plan: RotatePlan) -> None:
    for reason in plan.reasons:
        log.info("%s", reason)
    if plan.untouched:
        log.warning(
            "The sub-accounts %s are left alone: nobody can tell how old they are (created_at), or whether "
            "they are sub-accounts. They count as keys that need no replacement; look at them in the "
            "platform's console.",
            ids_of(plan.untouched),
        )


class DeliveryJournal:
    """
    When this host delivered each key, for sinks that cannot tell what they hold.

    Each sink has its own note, and reading it also writes it back: the host's cleaning removes files not
    written for days, so only unused sinks are forgotten.

    :param what: whose keys they are: ``roster``, or ``rotate:`` and an alias.
    :param sink: the sink's name; another sink holds nothing yet.
    """

    def __init__(self, client: CloseAIClient, what: str, sink: str) -> None:
        self._lock = functools.partial(alias_lock, client, f"{what}, delivered to {sink}")
        #: When each key was first delivered, by account id.
        self.held: dict[int, datetime] = {}
        with self._lock() as note, contextlib.suppress(Exception):  # an unreadable note proves nothing
            text = FileStore(note).read() or ""
            since = msgspec.json.decode(text, type=dict[int, int])
            self.held = {key: datetime.fromtimestamp(at, UTC) for key, at in since.items()}
            FileStore(note).write(text)

    def note(self, ids: Iterable[int], now: datetime) -> None:
        """Note that the sink now has these keys, and no others that matter."""
        self.held = {key: self.held.get(key, now) for key in ids}
        since = {key: int(at.timestamp()) for key, at in self.held.items()}
        try:
            with self._lock() as note:
                FileStore(note).write(msgspec.json.encode(since).decode())
        except OSError as error:
            log.warning(
                "It could not be noted which keys were delivered (%s): the next run delivers them again, and "
                "takes them for new. Look at the disk and the temporary folder of this host.",
                error,
            )
