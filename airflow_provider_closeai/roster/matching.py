"""Decides which part of an approved plan to do now. No I/O and no clock here."""

from __future__ import annotations

from datetime import datetime

import msgspec

from airflow_provider_closeai.client.models import UnreadableItem, same_pricing
from airflow_provider_closeai.provisioning.rotate import CLOCKS_AGREE, time_text
from airflow_provider_closeai.roster.decide import Seen
from airflow_provider_closeai.roster.errors import PlanRefused
from airflow_provider_closeai.roster.plan import (
    CREATE,
    DELETE,
    ROTATED_OUT,
    ROTATION,
    VALID_FOR,
    Action,
    Plan,
)


class Skipped(msgspec.Struct, frozen=True):
    """
    An approved change that is not made.

    :param because: ``done already``, ``not wanted any more``, or why it cannot be told.
    """

    action: Action
    because: str


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """
    An approved plan compared with what is wanted now.

    :param todo: approved and still wanted.
    :param skipped: approved, but no longer to be done.
    :param unapproved: wanted now, but not approved.
    """

    todo: tuple[Action, ...]
    skipped: tuple[Skipped, ...] = ()
    unapproved: tuple[Action, ...] = ()

    def without(self, action: Action, because: str) -> Matched:
        """Return a copy in which one approved change is skipped."""
        todo = tuple(each for each in self.todo if each != action)
        return msgspec.structs.replace(self, todo=todo, skipped=(*self.skipped, Skipped(action, because)))


def check_age(approved: Plan, now: datetime) -> None:
    """
    Refuse a plan that is too old.

    :raises PlanRefused: it is, or its time is in the future.
    """
    age = now - approved.made_at
    if age > VALID_FOR or age < -CLOCKS_AGREE:
        raise PlanRefused(
            f"The plan {approved.digest} was made at {time_text(approved.made_at)}, and now it is "
            f"{time_text(now)}: a plan is valid for 24 h. Nothing was changed. Start a new DAG run: it "
            "plans anew."
        )


def match(approved: Plan, wanted: Plan, seen: Seen) -> Matched:
    """
    Select what is approved *and* still wanted; for a creation, the smaller number.

    Accounts made since the plan that still exist count against it: applied again, it makes no more than was
    approved.

    :param wanted: the plan of what is wanted now.
    :param seen: the observations that ``wanted`` was made from.
    """
    may = {action.key: action for action in approved.actions}
    now = _Now(approved, seen)
    todo, unapproved = [], []
    for action in wanted.actions:
        allowed = may.get(action.key)
        if allowed is None:
            unapproved.append(action)
            continue
        number = min(action.number, max(allowed.number - now.made_since(allowed), 0))
        if number or action.kind != CREATE:
            todo.append(msgspec.structs.replace(action, number=number))
            del may[action.key]
        if number < action.number:
            unapproved.append(msgspec.structs.replace(action, number=action.number - number))
    skipped = tuple(Skipped(action, now.because(action)) for action in may.values())
    return Matched(todo=tuple(todo), skipped=skipped, unapproved=tuple(unapproved))


class _Now:
    """The current accounts, compared with an approved plan."""

    def __init__(self, approved: Plan, seen: Seen) -> None:
        self._seen = seen
        self._counts = {entry.alias: entry.count for entry in approved.entries}
        self._accounts = {account.id: account for account in seen.accounts}
        self._ids: dict[str | None, set[int]] = {}
        for account in seen.accounts:
            if not account.is_other:
                self._ids.setdefault(account.alias, set()).add(account.id)

    def made_since(self, action: Action) -> int:
        """Return how many accounts a creation's alias has that it did not have when planned."""
        if action.kind != CREATE:
            return 0
        return len(self._ids.get(action.alias, set()).difference(action.there))

    def because(self, action: Action) -> str:
        """Return why an approved change is not made."""
        account, seen = self._accounts.get(action.id or 0), self._seen
        if account is None and any(_may_be(item, action) for item in seen.unreadable):
            return "it cannot be read now"
        if action.kind == CREATE:
            is_done = self._is_created(action)
        elif action.kind == DELETE:
            is_done = account is None
        else:
            is_done = account is not None and same_pricing(account.pricing, action.after or {})
        if not is_done and seen.silence and action.reason in (ROTATION, ROTATED_OUT):
            return "it waits for the sink"
        return "done already" if is_done else "not wanted any more"

    def _is_created(self, action: Action) -> bool:
        """Return whether enough accounts were made since or, except for successors, exist."""
        if self.made_since(action) >= action.number:
            return True
        there = len(self._ids.get(action.alias, ()))
        return action.reason != ROTATION and there >= self._counts[action.alias]


def _may_be(item: UnreadableItem, action: Action) -> bool:
    """Return whether an unreadable entry may be the account to change, or one of those to create."""
    if action.kind == CREATE or item.id is None:
        return item.alias == action.alias or (action.kind != CREATE and item.alias is None)
    return item.id == action.id
