"""What a roster tells the cost report: who pays for which alias, and the teams' budgets."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.roster.models import Roster


def is_roster(tree: object) -> bool:
    """Return whether a tree of values is meant as a roster."""
    return isinstance(tree, Mapping) and {"version", "accounts"} <= tree.keys()


def owners_of(roster: Roster) -> list[dict[str, Any]]:
    """Return the cost report's ``owners``: a rule for each alias that has a team."""
    return [
        {"alias": glob.escape(entry.alias), "team": entry.team, "cost_center": entry.cost_center}
        for entry in roster.entries.values()
        if entry.team
    ]


def budgets_of(roster: Roster) -> dict[str, Decimal]:
    """
    Return the cost report's ``budgets``: each team's sum of its aliases' budgets, if all have one.
    """
    budgets: dict[str, list[Decimal | None]] = {}
    for entry in roster.entries.values():
        if entry.team:
            budgets.setdefault(entry.team, []).append(entry.budget)
    return {
        team: sum((each for each in amounts if each is not None), Decimal(0))
        for team, amounts in budgets.items()
        if None not in amounts
    }
