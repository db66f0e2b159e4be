"""Decides what to change, from a roster, a full listing, the sink's keys, the month's costs and the time.

No I/O and no clock here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.client.models import SubAccount, UnreadableItem, amount_text, same_pricing
from airflow_provider_closeai.provisioning.rotate import Held, RotatePlan
from airflow_provider_closeai.provisioning.rotate import decide as decide_rotation
from airflow_provider_closeai.provisioning.texts import count_of, ids_of
from airflow_provider_closeai.roster import plan as plans
from airflow_provider_closeai.roster.changes import FEW, Changes
from airflow_provider_closeai.roster.checks import main_account_of
from airflow_provider_closeai.roster.models import Entry, Pricing, Roster, owner_pattern
from airflow_provider_closeai.roster.plan import CREATE, DELETE, REPRICE, Action, Plan
from airflow_provider_closeai.roster.rotation_limit import Turns, share

_ZERO = Decimal(0)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a plan is made from.

    :param accounts: a full listing.
    :param unreadable: its entries that cannot be read.
    :param held: which keys the sink holds, and since when; ``None``: there is no sink.
    :param silence: why the sink could not tell what it holds: then ``held`` is ``None``, and nothing rotates.
    :param replaced: ids of accounts whose keys newer ones have replaced in the sink.
    :param spent: month-to-date cost by alias; ``None``: there is no ledger.
    """

    accounts: tuple[SubAccount, ...]
    unreadable: tuple[UnreadableItem, ...] = ()
    held: Held | None = None
    silence: str = ""
    replaced: frozenset[int] = frozenset()
    spent: Mapping[str, Decimal] | None = None
    now: datetime


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """
    How a roster is planned and applied.

    :param prune: delete accounts of owned aliases that are not in the roster.
    :param max_create: the most accounts to create; see :func:`~.checks.refusal`.
    :param max_delete: the most accounts to delete, or a percentage of the owned ones.
    :param settle: see CreateSubAccountsOperator.
    :param batch_size: accounts per call.
    """

    prune: bool = False
    max_create: int | None = None
    max_delete: int | str | None = None
    settle: float = 30.0
    batch_size: int = 100


def make_plan(roster: Roster, seen: Seen, options: Options) -> Plan:
    """Decide what to change."""
    by_alias: dict[str, list[SubAccount]] = {}
    for account in sorted(seen.accounts, key=lambda account: account.id):
        if not account.is_other:
            by_alias.setdefault(account.alias or "", []).append(account)
    broken: dict[str, list[UnreadableItem]] = {}
    for item in seen.unreadable:
        broken.setdefault(item.alias or "", []).append(item)
    is_owned = owner_pattern(roster.owns).match
    owned = sum(len(group) for alias, group in by_alias.items() if alias and is_owned(alias))
    changes = Changes()
    omitted = {
        alias: group
        for alias, group in by_alias.items()
        if alias and alias not in roster.entries and is_owned(alias)
    }
    if options.prune:
        for alias, group in omitted.items():
            changes.delete(alias, group, plans.PRUNED)
    elif omitted:
        count = sum(map(len, omitted.values()))
        changes.note(
            "",
            f"{count} sub-accounts of {len(omitted)} owned aliases are not in the roster, and are left "
            "alone: prune=True deletes them.",
        )
    aliases = [
        _Alias(entry, by_alias.get(entry.alias, []), seen, changes) for entry in roster.entries.values()
    ]
    wanted = [each for each in aliases if each.begin(broken.get(each.entry.alias, []))]
    _keep_within_bounds(wanted, changes, owned, options)
    for each in wanted:
        each.decide()
    changes.note_poorer()
    if seen.silence:
        changes.note(
            "", f"{seen.silence} Until then nothing is created, deleted or rotated; prices are changed."
        )
    nameless = [item for alias, items in broken.items() if alias not in roster.entries for item in items]
    if nameless:
        shown = "; ".join(map(str, nameless[:FEW]))
        changes.note("", f"{len(nameless)} listed entries cannot be read, and are left alone: {shown}.")
    return Plan(
        roster=roster.name.removeprefix("roster "),
        made_at=seen.now,
        main_account=main_account_of(seen.accounts, roster.main_account),
        owns=roster.owns,
        entries=tuple(roster.entries[alias] for alias in sorted(roster.entries)),
        prune=options.prune,
        max_create=options.max_create,
        max_delete=options.max_delete,
        listed=len(seen.accounts),
        owned=owned,
        actions=tuple(sorted(changes.actions, key=lambda action: action.order)),
        deliver=tuple(sorted(changes.undelivered)),
        notes=tuple(sorted(changes.notes, key=lambda note: (note.alias, note.text))),
    )


def _keep_within_bounds(aliases: Sequence[_Alias], changes: Changes, owned: int, options: Options) -> None:
    """
    Limit rotation to what the bounds leave after the roster's own changes; the rest waits for later runs.

    Deletions make room for successors. If a sink cannot say since when it holds keys, a run that creates an
    alias's successors deletes none of its keys: so deletions are shared out again once successors are known.
    """
    max_create, max_delete = options.max_create, options.max_delete
    rotating = [each for each in aliases if each.rotation and not each.rotation.is_idle]
    room = plans.most_deletions(max_delete, owned) - sum(each.kind == DELETE for each in changes.actions)
    _share_deletions(rotating, room)
    asked = sum(each.missing for each in aliases if each.may_create)
    creating = [each for each in rotating if each.may_create]
    succeeds = {each.entry.alias: each.rotation.succeeds for each in creating if each.rotation}
    turns = share(succeeds, math.inf if max_create is None else max_create - asked)
    for each in creating:
        each.bound(most_succeeded=turns.taken[each.entry.alias])
    if turns.waiting:
        changes.note(
            "",
            f"{turns.waiting} old keys get their successors in the next runs, oldest first: max_create is "
            f"{max_create}. Raise it if they shall have them sooner.",
        )
    turns = _share_deletions(rotating, room)
    if turns.waiting:
        changes.note(
            "",
            f"{turns.waiting} keys that were replaced go in the next runs, oldest first: max_delete is "
            f"{max_delete}, and counts them, too. Raise it if they shall go sooner.",
        )


def _share_deletions(rotating: Sequence[_Alias], room: float) -> Turns:
    for each in rotating:
        each.bound(most_deleted=None)
    turns = share({each.entry.alias: each.rotation.delete for each in rotating if each.rotation}, room)
    for each in rotating:
        each.bound(most_deleted=turns.taken[each.entry.alias])
    return turns


class _Alias:
    """Decides for one alias."""

    def __init__(self, entry: Entry, accounts: list[SubAccount], seen: Seen, changes: Changes) -> None:
        self.entry = entry
        self._accounts = accounts
        self._seen = seen
        self._changes = changes
        self._spent = (seen.spent or {}).get(entry.alias, _ZERO)
        self._is_over = entry.is_over(self._spent)
        self._most: dict[str, int | None] = {}
        self.rotation: RotatePlan | None = None

    @property
    def _pricing(self) -> Pricing:
        """The prices wanted now."""
        other = self.entry.over_budget
        return other if self._is_over and other is not None else self.entry.pricing

    @property
    def _spending(self) -> str:
        return f"{amount_text(self._spent)} of {amount_text(self.entry.budget)} spent"

    @property
    def may_create(self) -> bool:
        """Whether accounts may be created now: not if they would have no model."""
        return bool(self._pricing)

    @property
    def missing(self) -> int:
        """How many accounts the roster wants beyond the existing ones, old keys included."""
        return self.rotation.missing if self.rotation else max(self.entry.count - len(self._accounts), 0)

    def begin(self, unreadable: Sequence[UnreadableItem]) -> bool:
        """
        Delete expired accounts, leave an alias with unreadable entries alone, else plan the rotation.

        :returns: whether there is more to decide.
        """
        if unreadable:
            shown = "; ".join(map(str, unreadable[:FEW]))
            self._changes.note(self.entry.alias, f"left alone, since entries of it cannot be read: {shown}.")
            return False
        if self.entry.is_expired(self._seen.now):
            self._changes.delete(self.entry.alias, self._accounts, plans.EXPIRED)
            return False
        self.bound()
        return True

    def bound(self, **most: int | None) -> None:
        """
        Plan what rotation does in this run.

        :param most: bounds of :func:`~airflow_provider_closeai.provisioning.rotate.decide`.
        """
        request = self.entry.rotation(self._pricing)
        if request is None or self._seen.silence:
            return
        self._most |= most
        seen = self._seen
        self.rotation = decide_rotation(
            request, self._accounts, seen.held or {}, seen.now, seen.replaced, **self._most
        )

    def decide(self) -> None:
        """Decide the alias's changes, once its rotation is planned."""
        rotation = self.rotation
        going = list(rotation.delete) if rotation else []
        self._changes.delete(self.entry.alias, going, plans.ROTATED_OUT)
        gone = {account.id for account in going}
        kept = [account for account in self._accounts if account.id not in gone]
        self._reprice(kept)
        self._create(rotation.create if rotation else self.missing, bool(rotation and rotation.old))
        self._note_differences(kept, rotation)
        if self._seen.held is not None:
            held, replaced = self._seen.held, self._seen.replaced
            self._changes.undelivered += [
                each.id for each in kept if each.id not in held and each.id not in replaced
            ]

    def _reprice(self, kept: Sequence[SubAccount]) -> None:
        entry, wanted = self.entry, self._pricing
        for account in kept:
            if same_pricing(account.pricing, wanted):
                continue
            reason, detail = plans.DRIFT, ""
            if self._is_over:
                reason = plans.OVER_BUDGET
                detail = self._spending
            elif entry.over_budget is not None and same_pricing(account.pricing, entry.over_budget):
                reason = plans.RESTORED
                detail = self._spending
            self._changes.actions.append(
                Action(
                    kind=REPRICE,
                    alias=entry.alias,
                    id=account.id,
                    before=account.pricing,
                    after=wanted,
                    reason=reason,
                    detail=detail,
                )
            )

    def _create(self, number: int, has_old: bool) -> None:
        if not number:
            return
        if not self._pricing:
            self._changes.note(
                self.entry.alias,
                f"{number} to create wait until the budget is there again (over_budget: {{}}).",
            )
            return
        self._changes.actions.append(
            Action(
                kind=CREATE,
                alias=self.entry.alias,
                number=number,
                after=self._pricing,
                balance=self.entry.balance,
                there=tuple(account.id for account in self._accounts),
                reason=plans.ROTATION if has_old else plans.MISSING,
            )
        )

    def _note_differences(self, kept: Sequence[SubAccount], rotation: RotatePlan | None) -> None:
        entry = self.entry

        def note(text: str) -> None:
            self._changes.note(entry.alias, text)

        young = len(kept) if rotation is None else rotation.counted
        if young > entry.count and not (entry.rotate and self._seen.silence):
            left = "None is deleted: nobody knows which are in use. Raise count, or delete some by id."
            if rotation:
                left = "Rotation deletes what is too much as it becomes old."
            note(f"has {count_of(kept)}, and {entry.count} are wanted: ids {ids_of(kept)}. {left}")
        richer = [each for each in kept if each.balance is not None and each.balance > entry.balance]
        if richer:
            shown = ", ".join(sorted({str(amount_text(each.balance)) for each in richer})[:FEW])
            note(
                f"balance is {shown}, and {amount_text(entry.balance)} is wanted: ids {ids_of(richer)}. The "
                "API cannot change it."
            )
        self._changes.poorer += [
            each
            for each in kept
            if each.balance is not None and each.balance + (each.monthly_cost or _ZERO) < entry.balance
        ]
        disabled = [each for each in kept if each.enabled is False]
        if disabled:
            note(f"ids {ids_of(disabled)} are disabled. The API cannot change it: look in the console.")
        if rotation and rotation.untouched:
            note(f"ids {ids_of(rotation.untouched)} are not rotated: nobody can tell how old they are.")
        if self._is_over and not self._pricing and kept:
            note(
                f"{self._spending}: no model is allowed. The listing shows the empty list; whether the "
                "platform refuses such a key is not known (refusal unproven)."
            )
        if entry.over_budget is not None and same_pricing(entry.pricing, entry.over_budget):
            note(
                "over_budget has the same prices as model_pricing, so the budget holds nothing. Give it "
                "fewer models or other prices; {} allows no model."
            )
        if entry.budget is not None and entry.over_budget is None and self._spent >= entry.budget:
            note(f"{self._spending}, and the roster has no over_budget for it.")
