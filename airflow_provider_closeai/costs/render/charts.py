"""Geometry of the page's charts, in percent of their width, so that text keeps its size on a phone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO, percent
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.render.numbers import Money
from airflow_provider_closeai.costs.render.teams import Team

_PLOT = 180
_STEPS = (1, 2, 5, 10)
_PACE_AT_MOST = 3  # times the highest day; a line far above the columns would make these tiny


class DayBar(msgspec.Struct, frozen=True):
    """A day's column. ``amount`` is ``None`` if there is no figure; ``top`` and ``height`` are in pixels."""

    day: date
    amount: Decimal | None
    is_missed: bool
    left: Decimal
    width: Decimal
    top: int
    height: int


class Tick(msgspec.Struct, frozen=True):
    """A grid line of the day chart."""

    amount: Decimal
    top: int


class DayChart(msgspec.Struct, frozen=True):
    """The columns of a month, the grid lines behind them, and the budget per day."""

    bars: list[DayBar]
    ticks: list[Tick]
    zero: int
    gutter: int
    pace: Tick | None
    height: int = _PLOT


class TeamBar(msgspec.Struct, frozen=True):
    """
    A team's bar, in percent of its width.

    The full width is the largest of budget, cost and forecast; without a budget, the largest team's cost.
    """

    actual: Decimal
    forecast: Decimal | None
    budget: Decimal | None


def team_bar(team: Team, largest: Decimal) -> TeamBar:
    """Lay out a team's cost against its budget, or beside the largest team."""
    if team.budget is None:
        return TeamBar(_width(team.costs.month_to_date, largest), None, None)
    longest = max(team.budget, team.costs.month_to_date, team.forecast or ZERO)
    forecast = None if team.forecast is None else _width(team.forecast, longest)
    return TeamBar(_width(team.costs.month_to_date, longest), forecast, _width(team.budget, longest))


def day_chart(
    daily: Mapping[date, Decimal],
    month: Month,
    missed: Collection[date],
    money: Money,
    per_day: Decimal | None = None,
) -> DayChart:
    """Lay out the cost by day."""
    highest = max([*daily.values(), ZERO])
    if per_day is not None and per_day > highest * _PACE_AT_MOST:
        per_day = None
    highest = max(highest, per_day or ZERO)
    lowest = min([*daily.values(), ZERO])
    step = _step(highest - lowest)
    scale = (highest - lowest) or Decimal(1)

    def pixels(amount: Decimal) -> int:
        return round((highest - amount) * _PLOT / scale)

    days = month.days
    width = Decimal(100) / len(days)
    bars = []
    for number, day in enumerate(days):
        amount = daily.get(day)
        top, bottom = sorted((pixels(amount or ZERO), pixels(ZERO)))
        left = (width * number + width * Decimal("0.12")).quantize(Decimal("0.001"))
        bar = (width * Decimal("0.76")).quantize(Decimal("0.001"))
        height = bottom - top if not amount else max(bottom - top, 1)
        bars.append(DayBar(day, amount, day in missed, left, bar, top, height))
    first = (lowest / step).to_integral_value()
    count = int((highest - lowest) / step) + 1
    marks = [step * (first + number) for number in range(count)]
    ticks = [Tick(mark, pixels(mark)) for mark in marks if lowest <= mark <= highest]
    longest = max(len(money(tick.amount)) for tick in ticks)
    pace = None if per_day is None else Tick(per_day, pixels(per_day))
    return DayChart(bars, ticks, pixels(ZERO), 8 * longest + 8, pace)


def _width(amount: Decimal, longest: Decimal) -> Decimal:
    return max(percent(amount, longest) or ZERO, ZERO)


def _step(span: Decimal) -> Decimal:
    """Choose a tick step that gives about four grid lines."""
    if span <= 0:
        return Decimal(1)
    rough = span / 4
    power = Decimal(1).scaleb(rough.adjusted())
    return next(power * step for step in _STEPS if power * step >= rough)
