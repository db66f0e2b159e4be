"""A report's teams as shown on its pages: those that need attention first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, localcontext
from hashlib import sha256

import msgspec

from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.money import EXACT, ZERO, percent, total, total_known
from airflow_provider_closeai.costs.accounting.owners import UNALLOCATED
from airflow_provider_closeai.costs.accounting.report_model import OwnerCosts, Report, together
from airflow_provider_closeai.costs.accounting.shares import Owner

_NEARLY = 80
_DIGEST = 6
_SLUG = 48


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """
    A team's month.

    :param cost_centers: its cost centres.
    :param used: its cost as a percentage of its budget; ``None``: no budget. The same for ``forecast_used``.
    :param verdict: its state against the budget, or ``no owner``; may be empty.
    :param level: ``bad``, ``warn``, ``good``, or empty.
    """

    name: str
    costs: OwnerCosts
    cost_centers: list[str]
    forecast: Decimal | None
    budget: Decimal | None
    used: Decimal | None
    forecast_used: Decimal | None
    last_month: Decimal | None
    is_last_uncertain: bool
    year_to_date: Decimal
    verdict: str
    level: str

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look at it."""
        return self.level in ("bad", "warn")

    @property
    def page(self) -> str:
        """A unique file name, in characters that every store and browser accepts."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower())[:_SLUG].strip("-")
        return f"{slug or 'team'}-{sha256(self.name.encode()).hexdigest()[:_DIGEST]}"


class TeamSums(msgspec.Struct, frozen=True):
    """
    Sums over some teams.

    :param used: percentage of the budgets used, of teams with a budget.
    :param urgent: how many need attention.
    """

    costs: OwnerCosts
    budget: Decimal
    used: Decimal | None
    forecast: Decimal
    last_month: Decimal
    is_last_uncertain: bool
    urgent: int


def sums_of(teams: Sequence[Team]) -> TeamSums:
    """
    Return the sums over teams, perhaps none; the sum of unknown amounts is 0, and its column is not shown.
    """
    budgeted = [team for team in teams if team.budget is not None]
    budget = total_known(team.budget for team in budgeted) or ZERO
    return TeamSums(
        together(Owner(""), (team.costs for team in teams)),
        budget,
        percent(total(team.costs.month_to_date for team in budgeted), budget),
        total_known(team.forecast for team in teams) or ZERO,
        total_known(team.last_month for team in teams) or ZERO,
        any(team.is_last_uncertain for team in teams),
        sum(team.needs_attention for team in teams),
    )


def teams_of(report: Report, earlier: Earlier) -> list[Team]:
    """
    Return the teams: those that need attention first, then the largest; also those without costs this month.
    """
    last = {} if earlier.last is None else earlier.last.by_team
    names = dict.fromkeys([*report.teams, *(team for team, amount in last.items() if amount)])
    return sorted((_team(name, report, earlier) for name in names), key=_severity)


def _team(name: str, report: Report, earlier: Earlier) -> Team:
    costs, last = report.teams.get(name) or together(Owner(name), ()), earlier.last
    amount, budget = costs.month_to_date, costs.budget or None
    forecast = None if report.forecast is None else costs.forecast or ZERO
    owners = [line.owner for line in report.owners]
    verdict, level = ("", "") if budget is None else _verdict(amount, forecast, budget)
    if name == UNALLOCATED and amount and len(owners) > 1 and level in ("", "good"):
        verdict, level = "no owner", "warn"
    return Team(
        name=name,
        costs=costs,
        cost_centers=[own.cost_center for own in owners if own.team == name and own.cost_center],
        forecast=forecast,
        budget=budget,
        used=percent(amount, budget),
        forecast_used=percent(forecast, budget),
        last_month=None if last is None else last.by_team.get(name, ZERO),
        is_last_uncertain=last is not None and last.is_uncertain(name),
        year_to_date=total([earlier.year_before(name), amount]),
        verdict=verdict,
        level=level,
    )


def _verdict(amount: Decimal, forecast: Decimal | None, budget: Decimal) -> tuple[str, str]:
    """Compare exact amounts, since percentages are rounded."""
    if amount > budget:
        return "over budget", "bad"
    if forecast is not None and forecast > budget:
        return "forecast over budget", "warn"
    with localcontext(EXACT):
        is_nearly = amount * 100 >= budget * _NEARLY
    return (f"{_NEARLY} % or more used", "warn") if is_nearly else ("within budget", "good")


def _severity(team: Team) -> tuple[int, int, Decimal, str]:
    """Sort key: how far over budget, forecast over it, nearly used, without an owner, then the amount."""
    levels = {"over budget": 0, "forecast over budget": 1, "no owner": 3}
    rank = levels.get(team.verdict, 2) if team.needs_attention else 4
    over = {
        0: team.costs.month_to_date - (team.budget or ZERO),
        1: (team.forecast or ZERO) - (team.budget or ZERO),
    }
    return rank, int(team.name == UNALLOCATED), -over.get(rank, team.costs.month_to_date), team.name
