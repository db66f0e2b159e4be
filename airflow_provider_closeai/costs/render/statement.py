"""A team's own page: what it spent, on which accounts, and what happened to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.money import percent
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.render import charts
from airflow_provider_closeai.costs.render.events import events_of
from airflow_provider_closeai.costs.render.page import account_parts, common, template
from airflow_provider_closeai.costs.render.teams import Team, teams_of

_ACCOUNTS_AT_MOST = 2000
_EVENTS = 200


class Statement(msgspec.Struct, frozen=True):
    """A team, and its accounts."""

    team: Team
    accounts: list[AccountCosts]


def statements_of(report: Report, earlier: Earlier) -> Iterator[Statement]:
    """Yield a statement for every team."""
    accounts: defaultdict[str, list[AccountCosts]] = defaultdict(list)
    for account in report.accounts:
        for part in account.parts or [account]:  # of a shared account a team sees its own part
            accounts[part.owner.team].append(part)
    for found in accounts.values():
        found.sort(key=lambda part: (-part.month_to_date, part.sub_account_id))
    for team in teams_of(report, earlier):
        yield Statement(team, accounts[team.name])


def render(report: Report, earlier: Earlier, statement: Statement, *, account: str, back: str) -> str:
    """
    Return a team's page.

    :param back: the report's page, as seen from this one; empty: there is none.
    """
    team, totals = statement.team, statement.team.costs
    shared = common(report, account)
    events = events_of(report, statement.accounts, shared["money"])
    per_day = None if team.budget is None else team.budget / len(report.month.days)
    return template("statement").render(
        **shared | {"share": lambda amount: percent(amount, team.amount)},
        team=team,
        totals=totals,
        daily=totals.daily,
        day_chart=charts.day_chart(totals.daily, report.month, report.missed_days, shared["money"], per_day),
        earlier=earlier,
        accounts=account_parts(statement.accounts, _ACCOUNTS_AT_MOST),
        events=events[:_EVENTS],
        more_events=max(len(events) - _EVENTS, 0),
        back=back,
    )
