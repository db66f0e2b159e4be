"""The geometry of the page's charts, as percentages of their width so that text keeps its size on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO, percent, total
from airflow_provider_closeai.costs.accounting.report_model import BudgetUse, OwnerCosts, Report
from airflow_provider_closeai.costs.render.outputs import forecast_percent

_MAX_OWNERS = 12
_PLOT = 180
_STEPS = (1, 2, 5, 10)


class OwnerBar(msgspec.Struct, frozen=True):
    """One team's bar: ``width`` as percentages of the chart, the largest is 100."""

    label: str
    amount: Decimal
    percent: Decimal | None
    width: Decimal


class DayBar(msgspec.Struct, frozen=True):
    """One day's column. ``amount`` is ``None`` where there is no figure; ``top`` and ``height`` in pixels."""

    day: date
    amount: Decimal | None
    is_missed: bool
    left: Decimal
    width: Decimal
    top: int
    height: int


class Tick(msgspec.Struct, frozen=True):
    """A line across the day chart."""

    amount: Decimal
    top: int


class DayChart(msgspec.Struct, frozen=True):
    """The columns of a month, and the lines behind them."""

    bars: list[DayBar]
    ticks: list[Tick]
    zero: int
    gutter: int
    height: int = _PLOT


class BudgetBar(msgspec.Struct, frozen=True):
    """A team's budget: all lengths as percentages of one scale, whose 100 is the longest of this team."""

    line: BudgetUse
    used: Decimal
    forecast_used: Decimal | None
    actual: Decimal
    forecast: Decimal | None
    budget: Decimal
    verdict: str
    level: str


def owner_bars(owners: Sequence[OwnerCosts], month_to_date: Decimal) -> list[OwnerBar]:
    """
    Lay out the cost by owner; the smallest of many share one bar.

    :param owners: the largest first.
    :param month_to_date: the month's total.
    """
    amounts: dict[str, Decimal] = {}
    for line in owners:
        amounts[line.owner.team] = total([amounts.get(line.owner.team, ZERO), line.month_to_date])
    shown = sorted(amounts.items(), key=lambda item: -item[1])
    if len(shown) > _MAX_OWNERS:
        rest = shown[_MAX_OWNERS - 1 :]
        shown = [*shown[: _MAX_OWNERS - 1], (f"{len(rest)} others", total(amount for _, amount in rest))]
    largest = max((amount for _, amount in shown), default=ZERO)
    return [
        OwnerBar(label, amount, percent(amount, month_to_date), _width(amount, largest))
        for label, amount in shown
    ]


def day_chart(daily: Mapping[date, Decimal], report: Report) -> DayChart:
    """
    Lay out the cost by day.

    :param daily: by day of the month.
    :param report: the month.
    """
    highest = max([*daily.values(), ZERO])
    lowest = min([*daily.values(), ZERO])
    step = _step(highest - lowest)
    scale = (highest - lowest) or Decimal(1)

    def pixels(amount: Decimal) -> int:
        return round((highest - amount) * _PLOT / scale)

    days = report.month.days
    width = Decimal(100) / len(days)
    bars = []
    for number, day in enumerate(days):
        amount = daily.get(day)
        top, bottom = sorted((pixels(amount or ZERO), pixels(ZERO)))
        left = (width * number + width * Decimal("0.12")).quantize(Decimal("0.001"))
        bar = (width * Decimal("0.76")).quantize(Decimal("0.001"))
        is_missed = day in report.missed_days
        height = bottom - top if not amount else max(bottom - top, 1)
        bars.append(DayBar(day, amount, is_missed, left, bar, top, height))
    first = (lowest / step).to_integral_value()
    count = int((highest - lowest) / step) + 1
    marks = [step * (first + number) for number in range(count)]
    ticks = [Tick(mark, pixels(mark)) for mark in marks if lowest <= mark <= highest]
    longest = max(len(f"{tick.amount:,.2f}") for tick in ticks)
    return DayChart(bars, ticks, pixels(ZERO), gutter=8 * longest + 8)


def budget_bars(budgets: Sequence[BudgetUse]) -> list[BudgetBar]:
    """
    Lay out what was spent against the budgets.

    :param budgets: in the order given.
    """
    bars = []
    for line in budgets:
        longest = max(line.budget, line.actual, line.forecast or ZERO)
        used = percent(line.actual, line.budget) or ZERO
        forecast_used = forecast_percent(line)
        verdict, level = _verdict(used, forecast_used)
        bars.append(
            BudgetBar(
                line=line,
                used=used,
                forecast_used=forecast_used,
                actual=_width(line.actual, longest),
                forecast=None if line.forecast is None else _width(line.forecast, longest),
                budget=_width(line.budget, longest),
                verdict=verdict,
                level=level,
            )
        )
    return bars


def _verdict(used: Decimal, forecast_used: Decimal | None) -> tuple[str, str]:
    if used > 100:
        return "over budget", "bad"
    if forecast_used is not None and forecast_used > 100:
        return "forecast over budget", "warn"
    if used >= 80:
        return "80 % or more used", "warn"
    return "within budget", "good"


def _width(amount: Decimal, longest: Decimal) -> Decimal:
    return max(percent(amount, longest) or ZERO, ZERO)


def _step(span: Decimal) -> Decimal:
    """Choose a tick step that gives about four grid lines."""
    if span <= 0:
        return Decimal(1)
    rough = span / 4
    power = Decimal(1).scaleb(rough.adjusted())
    return next(power * step for step in _STEPS if power * step >= rough)
