"""Budget alerts: which thresholds a month's costs have reached."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import format_amount, percent
from airflow_provider_closeai.costs.accounting.report_model import Report

_THRESHOLD = re.compile(r"(forecast\s+)?(\d+(?:\.\d+)?)\s*%")


class Threshold(msgspec.Struct, frozen=True):
    """
    A share of the budget.

    :param percent: reached when the cost is this much of it or more; a forecast must be above it.
    """

    percent: Decimal
    is_forecast: bool

    @property
    def name(self) -> str:
        """Its one spelling, by which it is remembered."""
        return f"{'forecast ' * self.is_forecast}{format_amount(self.percent.normalize())}%"


class Alert(msgspec.Struct, frozen=True):
    """A team's cost, or its forecast, has reached a threshold of its budget."""

    billing_month: str
    team: str
    threshold: str
    amount: Decimal
    budget: Decimal
    currency: str

    @property
    def text(self) -> str:
        """One sentence for a person."""
        used = percent(self.amount, self.budget) or Decimal(0)
        what = "is forecast to spend" if self.threshold.startswith("forecast") else "has spent"
        return (
            f"{self.team} {what} {self.amount:,.2f} {self.currency} in {self.billing_month}: {used:.1f} "
            f"% of its budget of {self.budget:,.2f} {self.currency} (threshold {self.threshold})."
        )

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        amounts = {"amount": format_amount(self.amount), "budget": format_amount(self.budget)}
        return {**msgspec.structs.asdict(self), **amounts, "text": self.text}


def parse_thresholds(source: object) -> list[Threshold]:
    """
    Read thresholds.

    :param source: ``80%``, ``forecast 100%`` ..., a list or one text. An empty list disables alerts.
    :raises InvalidParameter: naming the one that is wrong.
    """
    if isinstance(source, str):
        source = [text for text in source.split(",") if text.strip()]
    elif source is None:
        source = ()
    found = []
    for text in source if isinstance(source, Iterable) else [source]:
        match = _THRESHOLD.fullmatch(str(text).strip())
        if match is None:
            raise InvalidParameter(
                f"thresholds: {text!r} is none. Write '80%' of the budget, or 'forecast 100%' for what the "
                "whole month is forecast to cost."
            )
        found.append(Threshold(Decimal(match[2]), bool(match[1])))
    return list(dict.fromkeys(found))


def reached_alerts(report: Report, thresholds: Iterable[Threshold]) -> list[Alert]:
    """
    Return the alerts of all thresholds that are reached, whether reported before or not.

    :param report: the month.
    :param thresholds: which there are.
    """
    chosen = list(thresholds)
    found = []
    for line in report.budgets:
        for threshold in chosen:
            amount = line.forecast if threshold.is_forecast else line.actual
            if amount is None:
                continue
            bound, scaled = threshold.percent * line.budget, amount * 100
            if scaled > bound or (scaled == bound and not threshold.is_forecast):
                found.append(
                    Alert(report.month.name, line.team, threshold.name, amount, line.budget, report.currency)
                )
    return found
