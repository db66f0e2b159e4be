"""The report as an HTML page, and a page for each team: no scripts, and Jinja escapes all texts."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import jinja2
import msgspec

from airflow_provider_closeai.costs.accounting.earlier import Earlier
from airflow_provider_closeai.costs.accounting.history import FALL
from airflow_provider_closeai.costs.accounting.money import ZERO, format_amount, percent, places_of, total
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, OwnerCosts, Report
from airflow_provider_closeai.costs.render import charts, numbers
from airflow_provider_closeai.costs.render.summary import headline, month_name, pace_of
from airflow_provider_closeai.costs.render.teams import Team, sums_of, teams_of
from airflow_provider_closeai.costs.texts import shown, visible

_TEAMS = 12  # with more, only those needing attention and the largest are unfolded, to fit a screen
_TEAMS_FIRST = (6, 10)
_ACCOUNTS = 20  # unfolded; the others are folded
_PAGE, _STATEMENT = (200, 50), (2000, 200)  # the most accounts and events
_WARNINGS = 3


class Event(msgspec.Struct, frozen=True):
    """Something that happened to an account."""

    at: datetime
    account: AccountCosts
    message: str


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

    :param earlier: the months before; ``None``: not known.
    :param statements: the folder of the teams' pages, relative to this one; empty: there are none.
    """
    earlier = earlier or Earlier()
    teams = teams_of(report, earlier)
    first, folded = _folded(teams)
    pace = pace_of(report, teams)
    per_day = pace.per_day if pace else None
    return _template("page").render(
        **_shared(report, earlier, account, report.totals, report.accounts, _PAGE, per_day),
        headline=headline(report, earlier),
        year_to_date=total([earlier.year_before(), report.totals.month_to_date]),
        year_since=(earlier.of_year[0].month if earlier.of_year else report.month).days[0],
        teams=teams,
        first_teams=first,
        folded_teams=folded,
        sums=sums_of(teams),
        rest=sums_of(folded) if folded else None,
        largest=max([team.costs.month_to_date for team in teams], default=ZERO),
        pace=pace,
        alerts=alerts,
        statements=statements,
        counts=_counts(report),
        warnings_shown=_WARNINGS,
    )


def render_statements(
    report: Report, earlier: Earlier, *, account: str, back: str
) -> Iterator[tuple[Team, str]]:
    """
    Yield each team with its page: what it spent, on which accounts, and what happened to them.

    :param back: the report's page, relative to these; empty: there is none.
    """
    accounts: defaultdict[str, list[AccountCosts]] = defaultdict(list)
    for line in report.accounts:
        for part in line.parts or [line]:  # of a shared account a team sees only its part
            accounts[part.owner.team].append(part)
    for team in teams_of(report, earlier):
        own = sorted(accounts[team.name], key=lambda part: (-part.month_to_date, part.sub_account_id))
        per_day = None if team.budget is None else team.budget / len(report.month.days)
        shared = _shared(report, earlier, account, team.costs, own, _STATEMENT, per_day)
        yield team, _template("statement").render(**shared, team=team, back=back)


def _shared(
    report: Report,
    earlier: Earlier,
    account: str,
    totals: OwnerCosts,
    accounts: Sequence[AccountCosts],
    at_most: tuple[int, int],
    per_day: Decimal | None,
) -> dict[str, Any]:
    """
    Return what the report's page and a team's page have in common.

    :param at_most: the most accounts and events on the page.
    :param per_day: the budget per day.
    """
    money = numbers.money_for(report.totals.month_to_date)
    found = [event for account in accounts for event in _events_of(report, account, money)]
    events, (more, most) = sorted(found, key=lambda event: (event.at, event.account.sub_account_id)), at_most
    return {
        "account": account,
        "report": report,
        "earlier": earlier,
        "month_name": month_name(report.month),
        "status": _status(report),
        "money": money,
        "local": functools.partial(_local, report),
        "share": lambda amount: percent(amount, totals.month_to_date),
        "totals": totals,
        "daily": totals.daily,
        "day_chart": charts.day_chart(totals.daily, report.month, report.missed_days, money, per_day),
        "accounts": (accounts[:_ACCOUNTS], accounts[_ACCOUNTS:more], accounts[more:]),
        "events": events[:most],
        "more_events": max(len(events) - most, 0),
    }


def _events_of(report: Report, line: AccountCosts, money: numbers.Money) -> Iterator[Event]:
    """Yield what happened to an account."""
    if line.created_at is not None and line.created_at >= report.month.start:
        yield Event(line.created_at, line, "created")
    if (seen := line.history) is not None:
        if line.state == "deleted":
            value = money(seen.cost)
            yield Event(seen.last_seen, line, f"deleted; its last value of {value} was recorded just before")
        if line.state == "vanished":
            gap = f"up to {numbers.count_text(line.gap_minutes)} minutes of its spending are missing"
            yield Event(seen.last_seen, line, f"not listed any more; {gap}")
        for rename in seen.renames:
            yield Event(rename.at, line, f"renamed from {shown(rename.old)} to {shown(rename.new)}")
        for span, amount, kind in seen.movements() if line.falls else ():
            if kind == FALL:
                yield Event(span.end, line, f"corrected by {money(amount)}")
    for item in line.appended:
        yield Event(item.recorded_at, line, f"{money(item.amount)} appended ({item.source}): {item.reason}")


@functools.cache
def _template(name: str) -> jinja2.Template:
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
    """Escape invisible characters in texts from others: a team's name, a cost center, the account."""
    return visible(value) if type(value) is str and not value.isprintable() else value


def _folded(teams: Sequence[Team]) -> tuple[Sequence[Team], Sequence[Team]]:
    """Return the unfolded teams, and the folded ones."""
    if len(teams) <= _TEAMS:
        return teams, []
    urgent = sum(team.needs_attention for team in teams)
    least, most = _TEAMS_FIRST
    number = min(max(urgent, least), most)
    return teams[:number], teams[number:]


def _status(report: Report) -> tuple[str, str, str]:
    """Return the status badge's level and word, and a sentence."""
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
