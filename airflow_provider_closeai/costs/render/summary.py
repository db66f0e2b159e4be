"""A report in a sentence, and in a few lines for notifiers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

import msgspec

from airflow_provider_closeai.costs.accounting.earlier import Earlier, EarlierMonth
from airflow_provider_closeai.costs.accounting.money import ESTIMATE
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.report_model import ESTIMATED, OPEN, Report
from airflow_provider_closeai.costs.render.numbers import change_text, count_text, money_for, percent_text
from airflow_provider_closeai.costs.render.teams import Team, TeamSums, sums_of, teams_of
from airflow_provider_closeai.costs.texts import shown

_LISTED = 10
_WARNINGS = 3


class Pace(msgspec.Struct, frozen=True):
    """
    A month's progress against its budgets.

    :param sums: the sums of all teams with a budget.
    :param elapsed: how much of the month had passed at the last snapshot, in percent.
    :param per_day: the budget divided by the month's days.
    :param covers_all: whether every team with costs has a budget.
    """

    sums: TeamSums
    elapsed: Decimal
    per_day: Decimal
    covers_all: bool

    @property
    def used(self) -> Decimal:
        """What these teams spent, as a percentage of their budgets."""
        return self.sums.used or Decimal(0)

    @property
    def text(self) -> str:
        """The pace in a sentence."""
        whose = "the budget" if self.covers_all else "the budget of the teams that have one"
        used = f"{percent_text(self.used)}{_uncertain(self.sums.costs.uncertain)}"
        if self.elapsed >= 100:
            return f"{used} of {whose} was spent."
        ahead = self.used - self.elapsed
        where = "at an even pace" if abs(ahead) < 1 else f"{'above' if ahead > 0 else 'below'} an even pace"
        return f"{used} of {whose} is spent after {percent_text(self.elapsed)} of the month: {where}."


def pace_of(report: Report, teams: Sequence[Team]) -> Pace | None:
    """Return a month's pace; ``None`` without budgets."""
    month, sums = report.month, sums_of([team for team in teams if team.budget is not None])
    if not sums.budget:
        return None
    passed = month.end if report.status != OPEN else report.history.last_snapshot
    with localcontext(ESTIMATE):
        elapsed = Decimal((passed - month.start) * 1000 // (month.end - month.start)) / 10
        per_day = sums.budget / len(month.days)
    covers_all = all(team.budget is not None for team in teams if team.costs.month_to_date)
    return Pace(sums, elapsed, per_day, covers_all)


def _uncertain(is_uncertain: object) -> str:
    return " (uncertain)" if is_uncertain else ""


def month_name(month: Month) -> str:
    """Write a month in words."""
    return f"{month.days[0]:%B %Y}"


def headline(report: Report, earlier: Earlier) -> str:
    """Return a few sentences on a month's cost, compared with the month before and its budgets."""
    money, spent = money_for(report.totals.month_to_date), report.totals.month_to_date
    name, last = month_name(report.month), earlier.whole_month
    if report.status == OPEN:
        at = f"{report.month.local(report.history.last_snapshot):%d %b, %H:%M}"
        certain = f", of which {money(report.lower_bound)} is certain" if report.uncertain else ""
        parts = [f"{name} cost {money(spent)} {report.currency} up to {at}{certain}."]
        if report.forecast is not None:
            parts.append(
                f"At this rate it will be {money(report.forecast)}{_uncertain(report.uncertain)}"
                f"{_compared(report.forecast, last)}."
            )
        elif last is not None:
            uncertain = _uncertain(last.is_uncertain())
            parts.append(f"{month_name(last.month)} cost {money(last.amount)}{uncertain}.")
    else:
        parts = [f"{name} cost {_at_least(report)}{_compared(spent, last)}."]
    return " ".join(parts + _budgets(report, teams_of(report, earlier)))


def digest(report: Report, earlier: Earlier, alerts: Sequence[str], url: str | None) -> str:
    """Return the lines for notifiers, as plain text. ``alerts``: those about accounts."""
    teams = [team for team in teams_of(report, earlier) if team.needs_attention]
    lines = [f"CloseAI costs, {month_name(report.month)} ({report.status})", headline(report, earlier)]
    lines += [f"- {_line(team, report)}" for team in teams[:_LISTED]]
    if len(teams) > _LISTED:
        lines.append(f"- and {count_text(len(teams) - _LISTED)} more")
    lines += [f"- {text}" for text in alerts[:_LISTED]]
    if len(alerts) > _LISTED:
        lines.append(f"- and {count_text(len(alerts) - _LISTED)} more accounts")
    lines += [f"Warning: {text}" for text in report.warnings[:_WARNINGS]]
    if len(report.warnings) > _WARNINGS:
        lines.append(f"Warnings, more: {count_text(len(report.warnings) - _WARNINGS)}")
    return "\n".join([*lines, *([url] if url else [])])


def _line(team: Team, report: Report) -> str:
    money = money_for(report.totals.month_to_date)
    said = f"{shown(team.name)}: {team.verdict}, {money(team.costs.month_to_date)}"
    if team.budget is None:
        said += f" {report.currency}"
    else:
        said += f" of {money(team.budget)} {report.currency} ({percent_text(team.used)})"
    if not team.costs.uncertain:
        return said
    return f"{said}, uncertain: {money(team.costs.lower_bound)} or more"


def _at_least(report: Report) -> str:
    money, counted = money_for(report.totals.month_to_date), report.totals.month_to_date
    if report.status != ESTIMATED:
        return f"{money(counted)} {report.currency}"
    more = f" ({money(counted)} was counted)" if report.lower_bound != counted else ""
    return f"at least {money(report.lower_bound)} {report.currency}{more}"


def _compared(amount: Decimal, last: EarlierMonth | None) -> str:
    change = change_text(amount, last.amount) if last is not None else ""
    if last is None or not change:
        return ""
    return f", {change} {month_name(last.month)}{_uncertain(last.is_uncertain())}"


def _budgets(report: Report, teams: Sequence[Team]) -> list[str]:
    budgeted = [team for team in teams if team.budget is not None]
    over = sum(team.level == "bad" for team in budgeted)
    heading = sum(team.verdict == "forecast over budget" for team in budgeted)
    if not budgeted:
        return []
    if not over and not heading:
        so_far = ", as far as is certain" if any(team.costs.uncertain for team in budgeted) else ""
        return [f"{'No team is' if report.status == OPEN else 'No team went'} over budget{so_far}."]
    said = []
    if over:
        verb = ("is" if over == 1 else "are") if report.status == OPEN else "went"
        who = f"{over} of {len(budgeted)} teams" if len(budgeted) > 1 else "The one team"
        said.append(f"{who} with a budget {verb} over it")
    if heading:
        verb = "is" if heading == 1 else "are"
        said.append(
            f"{heading} {verb} forecast to be"
            if over
            else f"{heading} team{'s' * (heading != 1)} {verb} forecast to go over budget"
        )
    return [f"{', '.join(said)}."]
