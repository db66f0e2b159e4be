"""A plan: the changes to make, each with its reason, and notes on what cannot be changed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import amount_text, factor_json
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.roster.models import Entry, Moment, Roster

#: How long a plan is valid.
VALID_FOR = timedelta(hours=24)
CREATE, REPRICE, DELETE = "create", "reprice", "delete"
KINDS = (REPRICE, DELETE, CREATE)  # in the order in which they are applied
#: Reasons of actions.
MISSING, ROTATION = "missing", "successor of an old key"
DRIFT, OVER_BUDGET, RESTORED = "drift", "over budget", "restored"
PRUNED, EXPIRED, ROTATED_OUT = "pruned", "expired", "rotated out"
_DIGITS = 16


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One change.

    :param kind: ``create``, ``reprice`` or ``delete``.
    :param id: the account's id; ``None`` for a creation.
    :param number: how many accounts to create.
    :param before: the account's prices.
    :param after: its new prices.
    :param balance: the balance of new accounts.
    :param there: the alias's ids before the creation: accounts with other ids were made since.
    :param reason: why, in a word or two.
    :param detail: more about it, for people; may differ between plans.
    """

    kind: str
    alias: str
    id: int | None = None
    number: int = 0
    before: dict[str, Decimal | None] | None = None
    after: dict[str, Decimal] | None = None
    balance: Decimal | None = None
    there: tuple[int, ...] = ()
    reason: str
    detail: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the same change in two plans, whatever a creation's ``number`` and ``there``."""
        return (
            self.kind,
            self.alias,
            self.id,
            _canonical(self.before),
            _canonical(self.after),
            amount_text(self.balance),
            self.reason,
        )

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key of actions."""
        return (self.alias, KINDS.index(self.kind), self.id or 0, self.reason)

    @property
    def accounts(self) -> int:
        """How many accounts it changes."""
        return self.number if self.kind == CREATE else 1

    def record(self) -> dict[str, Any]:
        """Return the action as plain JSON."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, not tuples
        for name, pricing in (("before", self.before), ("after", self.after)):
            if pricing is not None:
                plain[name] = {model: factor_json(factor) for model, factor in pricing.items()}
        return plain


class Note(msgspec.Struct, frozen=True):
    """
    Something to know that nothing is done about.

    :param alias: the alias that it concerns; empty: none in particular.
    """

    alias: str
    text: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """
    Planned changes.

    :param roster: the file's name.
    :param made_at: when it was made.
    :param main_account: the listing's ``user_id``.
    :param listed: number of listed sub-accounts.
    :param owned: number of those that the roster owns.
    :param actions: the changes, sorted.
    :param deliver: ids of accounts whose keys the sink does not hold.
    """

    roster: str
    made_at: Moment
    main_account: int | None
    owns: tuple[str, ...]
    entries: tuple[Entry, ...]
    prune: bool = False
    max_create: int | None = None
    max_delete: int | str | None = None
    listed: int = 0
    owned: int = 0
    actions: tuple[Action, ...] = ()
    deliver: tuple[int, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the changes: two plans with the same digest change the same."""
        actions = [(*action.key, action.number, action.there) for action in self.actions]
        entries = [msgspec.structs.replace(entry, line=0) for entry in self.entries]
        what = (self.main_account, self.owns, entries, self.prune, self.max_create, self.max_delete, actions)
        return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[:_DIGITS]

    @property
    def title(self) -> str:
        """Its roster, for people; a mapping has no name."""
        return "the roster" if self.roster == "roster" else f"the roster {self.roster}"

    @property
    def counts(self) -> dict[str, int]:
        """How many accounts are created, repriced and deleted."""
        return {
            kind: sum(action.accounts for action in self.actions if action.kind == kind)
            for kind in (CREATE, REPRICE, DELETE)
        }

    def as_roster(self) -> Roster:
        """Return the roster that it was made from."""
        return Roster(
            name=f"roster {self.roster}",
            owns=self.owns,
            entries={entry.alias: entry for entry in self.entries},
            main_account=self.main_account,
        )

    def record(self) -> dict[str, Any]:
        """Return the plan as plain JSON, without keys, for :meth:`parse`."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # lists, not tuples
        return {
            "digest": self.digest,
            "counts": self.counts,
            **plain,
            "valid_for": VALID_FOR.total_seconds(),
            "actions": [action.record() for action in self.actions],
        }

    @classmethod
    def parse(cls, value: object) -> Plan:
        """
        Read what :meth:`record` returned.

        :param value: the record, or its JSON text.
        :raises InvalidParameter: it is not a plan, or was changed.
        """
        if isinstance(value, Plan):
            return value
        cure = (
            "Give what PlanSubAccountsOperator returned: plan=plan_task.output. If that task was skipped or "
            "marked success by hand, clear it. Nothing was sent."
        )
        found = inputs.from_json("plan", value)
        if not isinstance(found, Mapping) or "digest" not in found:
            raise InvalidParameter(f"plan: it is of type {type(value).__name__}, and no plan. {cure}")
        try:
            plan = msgspec.convert(found, cls)
            msgspec.json.encode(plan)  # no plan contains what cannot be written, such as half a character
        except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
            raise InvalidParameter(f"plan: it is not a plan of this version ({error}). {cure}") from None
        if plan.digest != found["digest"]:
            raise InvalidParameter(
                f"plan: it does not belong to its digest {inputs.shown(found['digest'])}. It was changed, "
                f"or another version of this package made it: then start a new DAG run. {cure}"
            )
        return plan


def parse_max_delete(value: object, *, prune: bool) -> int | str | None:
    """
    Read ``max_delete``.

    :param value: an integer, a percentage of the owned accounts such as ``5%``, or ``None``.
    :param prune: whether aliases that are not in the roster are deleted: then a value is required.
    :raises InvalidParameter: it is invalid or missing.
    """
    cure = "give a whole number, or a percentage of the owned accounts such as '5%'"
    if value is None:
        if prune:
            raise inputs.bad("max_delete", "is not given, and prune=True needs it", cure)
        return None
    percent = inputs.percentage(value)
    if percent is not None:
        return f"{percent.normalize():f}%"
    number = inputs.integer(value)
    if number is None or number < 0:
        raise inputs.bad("max_delete", f"is {inputs.shown(value)}", cure)
    return number


def most_deletions(limit: int | str | None, owned: int) -> float:
    """
    Return how many accounts may be deleted.

    :param limit: from :func:`parse_max_delete`; ``None``: any number.
    """
    if limit is None:
        return math.inf
    return limit if isinstance(limit, int) else math.ceil(owned * Decimal(limit.rstrip("%")) / 100)


def _canonical(pricing: Mapping[str, Decimal | None] | None) -> object:
    if pricing is None:
        return None
    return tuple(sorted((model, None if each is None else float(each)) for model, each in pricing.items()))
