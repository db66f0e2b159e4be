"""The report as one HTML page: no script, nothing from elsewhere, every text escaped by Jinja."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from importlib import resources
from typing import IO

import jinja2
import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO, format_amount, percent, total
from airflow_provider_closeai.costs.accounting.months import minutes, zone_of
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.render import charts

_MINUS = "\N{MINUS SIGN}"
_SHOWN = 200
_CHANGES = 50
_FINE_BELOW = 100  # a month that costs less than this is shown with four decimals


class Money:
    """
    Shows amounts rounded half up, and keeps them exact underneath.

    :param places: decimals that are shown.
    """

    def __init__(self, places: int) -> None:
        self.places = places

    def rounded(self, amount: Decimal) -> Decimal:
        """Round an amount as it is shown."""
        with localcontext(Context(prec=200)):
            return amount.quantize(Decimal(1).scaleb(-self.places), ROUND_HALF_UP)

    def __call__(self, amount: Decimal | None) -> str:
        return "–" if amount is None else f"{self.rounded(amount):,f}".replace("-", _MINUS)

    def residue(self, amounts: Iterable[Decimal], exact: Decimal) -> Decimal:
        """Return by how much the exact total is more than the rounded lines together."""
        return total([exact, *(-self.rounded(amount) for amount in amounts)])


class Change(msgspec.Struct, frozen=True):
    """Something that happened to an account."""

    at: datetime
    account: AccountCosts
    message: str


def write_page(file: IO[bytes], report: Report, *, account: str) -> None:
    """
    Write a month's page.

    :param file: where to.
    :param report: the month.
    :param account: the main account's name.
    """
    file.write(render(report, account=account).encode())


def render(report: Report, *, account: str) -> str:
    """
    Return a month's page.

    :param report: the month.
    :param account: the main account's name.
    """
    month_to_date = report.totals.month_to_date
    money = Money(2 if abs(month_to_date) >= _FINE_BELOW else 4)
    zone = zone_of(report.month.zone)
    changes = _changes(report, money)
    budget, budgeted = (
        total(getattr(line, name) for line in report.budgets) for name in ("budget", "actual")
    )
    return _template().render(
        account=account,
        report=report,
        month_name=f"{report.month.days[0]:%B %Y}",
        status=_status(report),
        money=money,
        exact=format_amount,
        percent=lambda value: "–" if value is None else f"{value:.1f} %",
        share=lambda amount: percent(amount, month_to_date),
        local=lambda moment: f"{moment.astimezone(zone):%d %b %Y, %H:%M}",
        owner_bars=charts.owner_bars(report.owners, month_to_date),
        day_chart=charts.day_chart(report.daily, report),
        budget_bars=charts.budget_bars(report.budgets),
        budget=budget,
        budgeted=budgeted,
        budget_used=percent(budgeted, budget),
        appended_total=total(item.amount for item in report.appended),
        residue=money.residue((line.month_to_date for line in report.owners), month_to_date),
        accounts=report.accounts[:_SHOWN],
        others=report.accounts[_SHOWN:],
        others_total=total(line.month_to_date for line in report.accounts[_SHOWN:]),
        counts=_counts(report),
        changes=changes[:_CHANGES],
        more_changes=max(len(changes) - _CHANGES, 0),
        average=_average(report),
        day_name=_day_name,
    )


@functools.cache
def _template() -> jinja2.Template:
    source = resources.files(__package__ or "").joinpath("page.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _status(report: Report) -> tuple[str, str, str]:
    """Return the badge's level and word, and a sentence."""
    zone = zone_of(report.month.zone)
    last = f"{report.history.last_snapshot.astimezone(zone):%d %b %Y, %H:%M}"
    if report.status == "open":
        return "open", "Open", f"The month goes on. As of {last}."
    if report.status == "final":
        return (
            "good",
            "Final",
            f"The last snapshot is of {last}, {report.gap_minutes} minutes before the end.",
        )
    return (
        "warn",
        "Estimated",
        f"The last snapshot is of {last}: what was spent in the last {report.gap_minutes} minutes of the "
        "month is not included.",
    )


def _counts(report: Report) -> dict[str, int]:
    start = report.month.start
    return {
        "live": sum(line.state == "live" for line in report.accounts),
        "created": sum(line.created_at is not None and line.created_at >= start for line in report.accounts),
        "gone": sum(line.state in ("deleted", "vanished") for line in report.accounts),
    }


def _average(report: Report) -> tuple[Decimal, int] | None:
    """Return the cost per day, and over how many days: a figure may cover several."""
    dated = (
        span.start for line in report.accounts if line.history for span in line.history.spans[:2] if span.day
    )
    begin = min(dated, default=report.history.last_snapshot)
    days = minutes(report.history.last_snapshot - begin) / Decimal(24 * 60)
    return (total(report.daily.values()) / days, math.ceil(days)) if days >= 1 else None


def _changes(report: Report, money: Money) -> list[Change]:
    found = []
    for line in report.accounts:
        if line.created_at is not None and line.created_at >= report.month.start:
            found.append(Change(line.created_at, line, "created"))
        if line.state == "deleted" and line.last_seen is not None:
            value = money(line.history.cost if line.history else None)
            message = f"deleted; its last value of {value} was recorded just before"
            found.append(Change(line.last_seen, line, message))
        if line.state == "vanished" and line.last_seen is not None:
            message = f"not listed any more; up to {line.gap_minutes} minutes of its spending are missing"
            found.append(Change(line.last_seen, line, message))
        if line.history is None:
            continue
        for rename in line.history.renames:
            message = f"renamed from {rename.old!r} to {rename.new!r}"
            found.append(Change(rename.at, line, message))
        for span, amount in line.history.movements() if line.falls else ():
            if amount < ZERO and span.day is not None:
                found.append(Change(span.end, line, f"corrected by {money(amount)}"))
    by_id = {line.sub_account_id: line for line in report.accounts}
    for item in report.appended:
        message = f"{money(item.amount)} appended ({item.source}): {item.reason}"
        found.append(Change(item.recorded_at, by_id[item.sub_account_id], message))
    return sorted(found, key=lambda change: (change.at, change.account.sub_account_id))


def _day_name(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"
