"""Owners and budgets out of a roster: one file for the platform and for finance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter


def is_roster(tree: object) -> bool:
    """
    Return whether a tree is a roster, and no mapping of owners or budgets.

    :param tree: of a file, or a mapping that was passed.
    """
    return isinstance(tree, Mapping) and "version" in tree and isinstance(tree.get("accounts"), list)


def rules_of(name: str, tree: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """
    Return what a roster says of owners, or of budgets.

    A team's budget is the sum of its aliases' budgets, where all of them have one.

    :param name: ``owners`` or ``budgets``.
    :param tree: the roster.
    :raises InvalidParameter: an entry cannot be read.
    """
    entries = list(_entries(name, tree))
    if name == "owners":
        return [
            {"alias": _exactly(alias), "team": team, "cost_center": entry.get("cost_center")}
            for alias, team, entry in entries
            if team
        ]
    budgets: dict[str, list[Any]] = {}
    for _, team, entry in entries:
        if team:
            budgets.setdefault(team, []).append(entry.get("budget"))
    sums = {team: _sum(team, amounts) for team, amounts in budgets.items() if None not in amounts}
    return [{"team": team, "budget": total} for team, total in sums.items() if total]


def _entries(name: str, tree: Mapping[Any, Any]) -> Iterator[tuple[str, str, Mapping[Any, Any]]]:
    defaults = tree.get("defaults") or {}
    for number, entry in enumerate(tree["accounts"]):
        found = {**defaults, **entry} if isinstance(entry, Mapping) and isinstance(defaults, Mapping) else {}
        alias, team = found.get("alias"), found.get("team") or ""
        if not isinstance(alias, str) or not alias or not isinstance(team, str):
            raise InvalidParameter(
                f"{name}: accounts[{number}] of the roster has no alias and team that are text. Read it with "
                "PlanSubAccountsOperator, which names line and cure."
            )
        yield alias, team, found


def _exactly(alias: str) -> str:
    """Return the pattern that this alias alone matches."""
    return re.sub(r"([*?[])", r"[\1]", alias)


def _sum(team: str, amounts: list[Any]) -> Decimal:
    try:
        return sum((Decimal(str(amount)) for amount in amounts), Decimal(0))
    except InvalidOperation:
        raise InvalidParameter(f"budgets: a budget of {team!r} in the roster is no number.") from None
