"""The report as one HTML page: no script, nothing from elsewhere, every text escaped by Jinja."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import jinja2

from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.money import ZERO, format_amount, percent, places_of, total
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.render import charts, numbers
from airflow_provider_closeai.costs.render.events import events_of
from airflow_provider_closeai.costs.render.summary import headline, month_name, pace_of
from airflow_provider_closeai.costs.render.teams import Team, sums_of, teams_of
from airflow_provider_closeai.costs.texts import shown, visible

_TEAMS = 12  # of more only what needs attention is shown at once, and the largest, so that all fits a screen
_TEAMS_FIRST = (6, 10)
_ACCOUNTS = 20
_ACCOUNTS_AT_MOST = 200
_EVENTS = 50
_WARNINGS = 3


def render(
    report: Report,
    earlier: Earlier | None = None,
    *,
    account: str,
    alerts: Sequence[str] = (),
    statements: str = "",
) -> str:
    """
    Return a month's page.

    :param earlier: the months before; ``None``: they are not known.
    :param statements: the folder of the teams' pages, as seen from this one; empty: there are none.
    """
    earlier = earlier or Earlier()
    teams, money = teams_of(report, earlier), numbers.money_for(report.totals.month_to_date)
    first, folded = _folded(teams)
    events = events_of(report, report.accounts, money)
    pace = pace_of(report, teams)
    return template("page").render(
        **common(report, account),
        headline=headline(report, earlier),
        earlier=earlier,
        year_to_date=total([earlier.year_before(), report.totals.month_to_date]),
        year_since=(earlier.of_year[0].month if earlier.of_year else report.month).days[0],
        teams=teams,
        first_teams=first,
        folded_teams=folded,
        sums=sums_of(teams),
        rest=sums_of(folded) if folded else None,
        largest=max([team.amount for team in teams], default=ZERO),
        pace=pace,
        day_chart=charts.day_chart(
            report.daily, report.month, report.missed_days, money, pace.per_day if pace else None
        ),
        daily=report.daily,
        totals=report.totals,
        alerts=alerts,
        statements=statements,
        accounts=account_parts(report.accounts, _ACCOUNTS_AT_MOST),
        counts=_counts(report),
        events=events[:_EVENTS],
        more_events=max(len(events) - _EVENTS, 0),
        warnings_shown=_WARNINGS,
    )


def common(report: Report, account: str) -> dict[str, Any]:
    """Return what every page of a report needs."""
    return {
        "account": account,
        "report": report,
        "month_name": month_name(report.month),
        "status": _status(report),
        "money": numbers.money_for(report.totals.month_to_date),
        "local": functools.partial(_local, report),
        "share": lambda amount: percent(amount, report.totals.month_to_date),
    }


def account_parts(
    accounts: Sequence[AccountCosts], at_most: int
) -> tuple[Sequence[AccountCosts], Sequence[AccountCosts], Sequence[AccountCosts]]:
    """
    Split accounts, the largest first, into those shown at once, those that are folded, and those left out.

    :param at_most: how many are on the page.
    """
    return accounts[:_ACCOUNTS], accounts[_ACCOUNTS:at_most], accounts[at_most:]


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return a template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "exact": numbers.exact_text,
        "exact_places": places_of,
        "machine": format_amount,
        "percent": numbers.percent_text,
        "count": numbers.count_text,
        "change": numbers.change_text,
        "team_bar": charts.team_bar,
        "month_name_of": month_name,
        "shown": shown,
        "total": total,
        "day_name": _day_name,
    }
    return environment.get_template(f"{name}.html.jinja")


def _visible(value: Any) -> Any:
    """Escape what cannot be seen in a text of somebody else's: a team's name, a cost center, the account."""
    return visible(value) if type(value) is str and not value.isprintable() else value


def _folded(teams: Sequence[Team]) -> tuple[Sequence[Team], Sequence[Team]]:
    """Return the teams that are shown at once, and the others."""
    if len(teams) <= _TEAMS:
        return teams, []
    urgent = sum(team.needs_attention for team in teams)
    least, most = _TEAMS_FIRST
    number = min(max(urgent, least), most)
    return teams[:number], teams[number:]


def _status(report: Report) -> tuple[str, str, str]:
    """Return the badge's level and word, and a sentence."""
    last = _local(report, report.history.last_snapshot)
    if report.status == "open":
        return "open", "Open", f"The month goes on. As of {last}."
    gap = numbers.count_text(report.gap_minutes or 0)
    if report.status == "final":
        return "good", "Final", f"The last snapshot is of {last}, {gap} minutes before the end."
    missing = f"what was spent in the last {gap} minutes of the month is not included"
    return "warn", "Estimated", f"The last snapshot is of {last}: {missing}."


def _counts(report: Report) -> dict[str, int]:
    start = report.month.start
    return {
        "live": sum(line.state == "live" for line in report.accounts),
        "created": sum(line.created_at is not None and line.created_at >= start for line in report.accounts),
        "gone": sum(line.state in ("deleted", "vanished") for line in report.accounts),
    }


def _local(report: Report, moment: datetime) -> str:
    return f"{report.month.local(moment):%d %b %Y, %H:%M}"


def _day_name(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"
