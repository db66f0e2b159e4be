"""Decides what a repricing sends, and holds its outcome: no account is renamed, no model is lost."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import cast

import msgspec

from airflow_provider_closeai.client.errors import CloseAIError, OutcomeUnknown
from airflow_provider_closeai.client.models import (
    ModelPricing,
    SubAccount,
    factor_json,
    same_factor,
    same_pricing,
)
from airflow_provider_closeai.provisioning.errors import (
    NotConfirmed,
    UnconvertedPricing,
    foremost,
    with_history,
)
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.provisioning.texts import count_of, format_ids, ids_of

log = logging.getLogger(__name__)

Pricing = dict[str, Decimal]
Prices = Mapping[str, Decimal | None]  # as listed; dead prices have no factor


class Batch(msgspec.Struct, frozen=True):
    """One post: accounts of one alias that get the same price list."""

    alias: str | None
    pricing: Pricing
    accounts: list[SubAccount]

    @property
    def ids(self) -> tuple[int, ...]:
        """The accounts' ids."""
        return tuple(each.id for each in self.accounts)


class RepricePlan(msgspec.Struct, frozen=True):
    """
    What a repricing sends.

    :param targets: the wanted price list of each selected account, by id.
    :param changing: the accounts whose prices differ from it.
    """

    targets: dict[int, Pricing]
    changing: list[SubAccount]
    batches: list[Batch]

    def within(self, aliases: Collection[str]) -> RepricePlan:
        """Return the part for accounts of these aliases."""
        changing = [each for each in self.changing if (each.alias or "") in aliases]
        return RepricePlan(
            self.targets, changing, [each for each in self.batches if (each.alias or "") in aliases]
        )

    def missing(self, listed: Sequence[SubAccount]) -> list[int]:
        """Return the ids of changing accounts without the right prices in a listing."""
        right = {each.id for each in listed if same_pricing(each.pricing, self.targets[each.id])}
        return [each.id for each in self.changing if each.id not in right]

    def as_planned(self, accounts: Sequence[SubAccount]) -> list[SubAccount]:
        """Return accounts with the wanted prices."""
        return [
            msgspec.structs.replace(
                each, model_pricing=tuple(ModelPricing(*entry) for entry in self.targets[each.id].items())
            )
            for each in accounts
        ]


class Outcome(msgspec.Struct):
    """
    The outcome of a repricing so far.

    :param began: when the first round began, by the clock's counter.
    :param seen: all accounts that were read, by id.
    :param gone: ids whose calls were refused because accounts are not listed any more.
    :param accepted: ids whose new prices the platform accepted.
    :param doubted: ids of calls whose outcome is unknown.
    :param doubt: why it is unknown whether all were set.
    :param left: ids whose prices were not set, for the ``problems``; later rounds skip them.
    """

    began: float
    seen: dict[int, SubAccount] = {}
    gone: set[int] = set()
    accepted: set[int] = set()
    doubted: set[int] = set()
    doubt: OutcomeUnknown | None = None
    left: set[int] = set()
    problems: list[CloseAIError] = []

    def settle_doubt(self, listed: set[int], changing: set[int]) -> None:
        """Settle an earlier round's unknown outcomes by a listing: prices that need no change were set."""
        self.accepted |= (self.doubted & listed) - changing
        self.doubt, self.doubted = None, set()

    def foremost(self, *last: CloseAIError) -> CloseAIError:
        """Return which problem of all rounds to raise, with what was done; log the others."""
        return foremost([*(with_history(each, self.done) for each in self.problems), *last])

    @property
    def done(self) -> str:
        """What was accepted, for people."""
        ids = format_ids(sorted(self.accepted))
        return f"the platform accepted new prices for ids {ids}" if self.accepted else ""


def plan_repricing(accounts: Sequence[SubAccount], request: RepriceRequest) -> RepricePlan:
    """Decide what to send."""
    targets = {account.id: target_pricing(account, request.pricing, request.mode) for account in accounts}
    return plan_targets(accounts, targets, request.batch_size)


def plan_targets(
    accounts: Sequence[SubAccount], targets: Mapping[int, Pricing], batch_size: int
) -> RepricePlan:
    """Decide what to send, given each account's wanted prices."""
    changing = [account for account in accounts if not same_pricing(account.pricing, targets[account.id])]
    groups: dict[tuple[str | None, frozenset[tuple[str, Decimal]]], list[SubAccount]] = {}
    for account in changing:
        groups.setdefault((account.alias, frozenset(targets[account.id].items())), []).append(account)
    batches = [
        Batch(alias, targets[members[0].id], members[start : start + batch_size])
        for (alias, _), members in groups.items()
        for start in range(0, len(members), batch_size)
    ]
    return RepricePlan(dict(targets), changing, batches)


def target_pricing(account: SubAccount, pricing: Mapping[str, Decimal], mode: str) -> Pricing:
    """Decide an account's entire price list; obsolete prices cannot be kept."""
    if mode == "replace":
        return dict(pricing)
    merged: dict[str, Decimal | None] = {**account.pricing, **pricing}
    dead = [model for model, factor in merged.items() if factor is None]
    if dead:
        raise UnconvertedPricing(
            f"Sub-account {account.id} ({account.alias!r}) still has dead prices, and no pricing_factor, for "
            f"{', '.join(dead)}. Merging cannot keep what cannot be sent: name these models in "
            "model_pricing, or use mode='replace'. Nothing was changed.",
            call="update",
        )
    return cast("Pricing", merged)


def log_changes(planned: RepricePlan, dry_run: bool) -> None:
    """Log each account's changes; a lost permission is a warning."""
    for account in planned.changing:
        target, there = planned.targets[account.id], account.pricing
        changed = [
            f"{model} {_factor_text(there, model)} -> {factor_json(factor)}"
            for model, factor in target.items()
            if model not in there or not same_factor(there[model], factor)
        ]
        changes, loses = ("would change", "would lose") if dry_run else ("changes", "loses")
        text = ", ".join(changed) or "-"
        log.info("Sub-account %s (%r) %s: %s.", account.id, account.alias, changes, text)
        lost = ", ".join(model for model in there if model not in target)
        if lost:
            log.warning("Sub-account %s (%r) %s permission for: %s.", account.id, account.alias, loses, lost)


def unconfirmed(
    ids: Sequence[int], listed: Mapping[int, Prices], old: Mapping[int, Prices], seconds: float
) -> list[NotConfirmed]:
    """
    Return the errors for new prices that the platform accepted and no listing shows.

    :param listed: each listed account's prices.
    :param old: each account's prices before.
    :param seconds: how long listings were read.
    """
    gone = [each for each in ids if each not in listed]
    same = [each for each in ids if each in listed and same_pricing(listed[each], old[each])]
    changed = [each for each in ids if each in listed and each not in same]
    shows = (
        (same, "does not show them for the sub-accounts {ids}. Does it know these models?"),
        (gone, "does not show the sub-accounts {ids} any more. Does another task delete them?"),
        (changed, "shows neither these nor the old ones for the sub-accounts {ids}. Who else sets prices?"),
    )
    return [
        NotConfirmed(
            f"The platform accepted the new prices, and {seconds:g} s later the listing "
            f"{what.format(ids=format_ids(some))} A retry sends only what is still different.",
            call="update",
        )
        for some, what in shows
        if some
    ]


def closing_line(accounts: Sequence[SubAccount], changed: int, dry_run: bool) -> str:
    """Return the result in one line, for the log."""
    what = f"{count_of(accounts)} selected, "
    if dry_run:
        what += f"{changed} would change (dry run, nothing was changed)"
    else:
        what += f"all have the prices asked for ({changed} changed now)"
    return f"{what}: ids {ids_of(accounts)}."


def _factor_text(pricing: Mapping[str, Decimal | None], model: str) -> object:
    if model not in pricing:
        return "new"
    factor = factor_json(pricing[model])
    return "without a factor" if factor is None else factor
