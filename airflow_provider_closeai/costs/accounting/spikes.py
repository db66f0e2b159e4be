"""Days that cost far more than an account's usual ones, and balances that will not last the month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal, localcontext

import msgspec

from airflow_provider_closeai.costs.accounting.money import ESTIMATE, total
from airflow_provider_closeai.costs.accounting.months import zone_of
from airflow_provider_closeai.costs.accounting.report_model import OPEN, AccountCosts, Report

_WEEKS = timedelta(weeks=4)
_LEAST_DAYS = 7  # of fewer nobody can say what is usual
_ROUNDED = Decimal("1e-8")


class Spike(msgspec.Struct, frozen=True):
    """
    A day that cost far more than usual.

    :param usual: what a day cost on average in the four weeks before, or since the account is known.
    """

    account: AccountCosts
    day: date
    amount: Decimal
    usual: Decimal


def spikes(report: Report, previous: Report | None, percent: Decimal, floor: Decimal) -> Iterator[Spike]:
    """
    Yield the accounts of which the newest day with any cost is a spike, each against its own last four weeks.

    :param previous: the month before; ``None``: it is not known.
    :param percent: of the usual day, above which a day is a spike.
    :param floor: a day that cost less is none.
    """
    day = max(report.daily, default=None)
    if day is None:
        return
    before = {line.sub_account_id: line for line in previous.accounts} if previous else {}
    for account in report.accounts:
        own = account.daily()
        amount = own.get(day)
        if amount is None or amount < floor:
            continue
        earlier = before.get(account.sub_account_id)
        days = {**(earlier.daily() if earlier else {}), **own}
        first = max(_first_day(account, earlier, report), day - _WEEKS)
        if (day - first).days < _LEAST_DAYS:
            continue
        with localcontext(ESTIMATE):
            spent = total(cost for when, cost in days.items() if first <= when < day)
            usual = (spent / (day - first).days).quantize(_ROUNDED)
            is_spike = amount * 100 > usual * percent
        if is_spike:
            yield Spike(account, day, amount, usual)


def short_balances(report: Report) -> Iterator[tuple[AccountCosts, Decimal, Decimal]]:
    """
    Yield the accounts whose balance is below what they are forecast to spend until the month's end.

    :param report: the month. Only of an open one there is a forecast.
    :returns: the account, what it needs, and what it has.
    """
    if report.status != OPEN:
        return
    for account in report.accounts:
        if account.forecast is None or account.state != "live" or account.history is None:
            continue
        needed, balance = total([account.forecast], less=[account.month_to_date]), account.history.balance
        if balance is not None and needed > balance:
            yield account, needed, balance


def _first_day(account: AccountCosts, earlier: AccountCosts | None, report: Report) -> date:
    """Return the first day of which the cost of an account that was seen is known."""
    known = [line.history for line in (account, earlier) if line and line.history]
    first = max(min(one.created_at or one.first for one in known), min(one.first for one in known))
    return first.astimezone(zone_of(report.month.zone)).date()
