"""Alerts: which thresholds a month's costs have reached, by team and by account."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import (
    ESTIMATE,
    EXACT,
    format_amount,
    parse_amount,
    percent,
    total,
)
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.inputs import short_repr
from airflow_provider_closeai.costs.texts import shown

_BUDGET = re.compile(r"(forecast\s+)?(\d+(?:\.\d+)?)\s*%")
_SPIKE = re.compile(r"spike\s+(\d+(?:\.\d+)?)\s*%\s+over\s+(\d+(?:\.\d+)?)")
_WEEKS = timedelta(weeks=4)
_ONE_DAY = timedelta(hours=36)
_LEAST_DAYS = 7  # fewer do not show what is usual
_ROUNDED = Decimal("1e-8")

BUDGET, FORECAST, SPIKE, BALANCE = "budget", "forecast", "spike", "balance"


class Threshold(msgspec.Struct, frozen=True):
    """
    A threshold of alerts.

    :param percent: percentage of the budget: reached by a cost of at least that, or by a forecast above it.
        For a spike: percentage of the account's usual day.
    :param kind: ``budget``, ``forecast``, ``spike`` or ``balance``.
    :param floor: a day that cost less is not a spike.
    """

    percent: Decimal = Decimal(0)
    kind: str = BUDGET
    floor: Decimal = Decimal(0)

    @property
    def name(self) -> str:
        """Its canonical spelling, under which it is recorded."""
        share = f"{format_amount(self.percent.normalize())}%"
        floor = format_amount(self.floor.normalize())
        names = {BUDGET: share, FORECAST: f"{FORECAST} {share}", SPIKE: f"{SPIKE} {share} over {floor}"}
        return names.get(self.kind, self.kind)


class Alert(msgspec.Struct, frozen=True):
    """
    A threshold that was reached by a team's cost or forecast, or by an account.

    :param team: the team; for a shared account, all teams that pay for it.
    :param amount: what was spent, or is forecast.
    :param budget: what that is compared with: the team's budget, the account's usual day, or its balance.
    :param sub_account_id: the account of a spike or balance; ``None``: it is about a team.
    :param alias: the account's alias.
    :param day: the day of a spike.
    :param is_lower_bound: a turn of the month is in doubt: more may have been spent.
    :param certain: what was certainly spent; ``None``: it is ``amount``, or a forecast.
    """

    billing_month: str
    team: str
    threshold: str
    amount: Decimal
    budget: Decimal
    currency: str
    sub_account_id: int | None = None
    alias: str = ""
    day: str = ""
    is_lower_bound: bool = False
    certain: Decimal | None = None

    @property
    def key(self) -> str:
        """Together with the team, identifies it among reported alerts."""
        about = "" if self.sub_account_id is None else f" of account {self.sub_account_id}"
        return f"{self.threshold}{about}{f' on {self.day}' if self.day else ''}"

    @property
    def text(self) -> str:
        """The alert in one sentence."""
        amount, limit = (f"{_cents(value)} {self.currency}" for value in (self.amount, self.budget))
        if self.certain is not None:
            amount += f", of which {_cents(self.certain)} is certain,"
        elif self.is_lower_bound:
            amount += " or more"
        account = f"Account {self.sub_account_id} ({shown(self.alias)}, {shown(self.team)})"
        if self.threshold.startswith(SPIKE):
            return (
                f"{account} spent {amount} on {self.day}, and {limit} a day in the four weeks before "
                f"(threshold {self.threshold})."
            )
        if self.threshold == BALANCE:
            return (
                f"{account} is forecast to spend another {amount} in {self.billing_month}, and its "
                f"balance is {limit}: it will not last the month."
            )
        used = percent(self.amount, self.budget) or Decimal(0)
        what = "is forecast to spend" if self.threshold.startswith(FORECAST) else "has spent"
        return (
            f"{shown(self.team)} {what} {amount} in {self.billing_month}: {used:.1f} % of its budget "
            f"of {limit} (threshold {self.threshold})."
        )

    def record(self) -> dict[str, Any]:
        """Return the alert as plain JSON."""
        plain = {
            name: format_amount(value) if isinstance(value, Decimal) else value
            for name, value in msgspec.structs.asdict(self).items()
        }
        return {**plain, "text": self.text}


def _cents(amount: Decimal) -> str:
    with localcontext(rounding=ROUND_HALF_UP):  # as on the pages
        return f"{amount:,.2f}"


def parse_thresholds(source: object) -> list[Threshold]:
    """
    Read thresholds.

    :param source: ``80%``, ``forecast 100%``, ``spike 300% over 10``, ``balance`` ..., as a list or one text.
        An empty list disables alerts.
    :raises InvalidParameter: one is wrong; names it.
    """
    if isinstance(source, str):
        source = [text for text in source.split(",") if text.strip()]
    elif source is None:
        source = ()
    found = [_threshold(text) for text in (source if isinstance(source, Iterable) else [source])]
    return list(dict.fromkeys(found))


def _threshold(value: object) -> Threshold:
    text = value.strip() if isinstance(value, str) else ""
    if text == BALANCE:
        return Threshold(kind=BALANCE)
    if match := _SPIKE.fullmatch(text):
        share, floor = (parse_amount("thresholds", part) for part in match.groups())
        return Threshold(share, SPIKE, floor)
    if match := _BUDGET.fullmatch(text):
        return Threshold(parse_amount("thresholds", match[2]), FORECAST if match[1] else BUDGET)
    raise InvalidParameter(
        f"thresholds: {short_repr(value)} is none. Write '80%' of the budget, 'forecast 100%' for what the "
        "whole month is forecast to cost, 'spike 300% over 10' for a day of an account, or 'balance' for one "
        "that will not last the month."
    )


def reached_alerts(
    report: Report, thresholds: Iterable[Threshold], previous: Report | None = None
) -> list[Alert]:
    """
    Return the alerts of all thresholds that were reached, whether already reported or not.

    :param previous: the month before, to compare days with; ``None``: not known.
    """
    chosen = list(thresholds)
    budgets = [threshold for threshold in chosen if threshold.kind in (BUDGET, FORECAST)]
    with localcontext(EXACT):
        found = list(_of_budgets(report, budgets))
    for threshold in chosen:
        if threshold.kind == SPIKE:
            found += _spikes(report, previous, threshold)
        elif threshold.kind == BALANCE:
            found += _short_balances(report)
    return found


def _of_budgets(report: Report, thresholds: Sequence[Threshold]) -> Iterator[Alert]:
    for line in report.budgets:
        for threshold in thresholds:
            is_forecast = threshold.kind == FORECAST
            amount = line.forecast if is_forecast else line.month_to_date
            if amount is None:
                continue
            bound, scaled = threshold.percent * line.budget, amount * 100
            if scaled > bound or (scaled == bound and not is_forecast):
                yield Alert(
                    report.month.name,
                    line.owner.team,
                    threshold.name,
                    amount,
                    line.budget,
                    report.currency,
                    is_lower_bound=line.certainty == "uncertain",
                    certain=line.lower_bound if line.doubtful and not is_forecast else None,
                )


def _spikes(report: Report, previous: Report | None, threshold: Threshold) -> Iterator[Alert]:
    """Yield accounts whose cost on the report's newest day is far above their last four weeks."""
    day = max(report.daily, default=None)
    if day is None:
        return
    before = {line.sub_account_id: line for line in previous.accounts} if previous else {}
    for account in report.accounts:
        own = account.daily
        amount = own.get(day)
        if amount is None or amount < threshold.floor or not _is_seen_as_one(account, day):
            continue
        earlier = before.get(account.sub_account_id)
        days = {**(earlier.daily if earlier else {}), **own}
        first = max(_first_day(account, earlier, report), day - _WEEKS)
        if (day - first).days < _LEAST_DAYS:
            continue
        with localcontext(ESTIMATE):
            spent = total(cost for when, cost in days.items() if first <= when < day)
            usual = (spent / (day - first).days).quantize(_ROUNDED)
            is_spike = amount * 100 > usual * threshold.percent
        if is_spike:
            yield _of_account(report, account, threshold.name, amount, usual, day.isoformat())


def _is_seen_as_one(account: AccountCosts, day: date) -> bool:
    """Return whether a day's cost was seen within a day and a half; else it may be several days'."""
    return all(
        move.end - move.start <= _ONE_DAY
        for move in account.counter_movements()
        if move.day == day and move.start is not None and move.end is not None
    )


def _first_day(account: AccountCosts, earlier: AccountCosts | None, report: Report) -> date:
    """Return the first day for which a seen account's cost is known."""
    known = [line.history for line in (account, earlier) if line and line.history]
    first = max(min(one.created_at or one.first for one in known), min(one.first for one in known))
    return report.month.local(first).date()


def _short_balances(report: Report) -> Iterator[Alert]:
    """Yield accounts whose balance is below their forecast spending until the month's end."""
    for account in report.accounts:
        if account.forecast is None or account.state != "live" or account.history is None:
            continue  # only an open month has a forecast
        needed, balance = total([account.forecast], less=[account.month_to_date]), account.history.balance
        if balance is not None and needed > balance:
            yield _of_account(report, account, BALANCE, needed, balance)


def _of_account(
    report: Report, account: AccountCosts, threshold: str, amount: Decimal, limit: Decimal, day: str = ""
) -> Alert:
    return Alert(
        report.month.name,
        account.owner.team,
        threshold,
        amount,
        limit,
        report.currency,
        account.sub_account_id,
        account.alias,
        day,
        is_lower_bound=not account.is_certain,
    )
