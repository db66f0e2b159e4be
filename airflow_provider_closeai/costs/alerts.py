"""Budget alerts: each one once per month and team."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.errors import DamagedFile
from airflow_provider_closeai.costs.figures import Report, share
from airflow_provider_closeai.costs.ledger import ALERTS, Ledger, LedgerFile
from airflow_provider_closeai.costs.months import text_of

log = logging.getLogger(__name__)

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
        return f"{'forecast ' * self.is_forecast}{text_of(self.percent.normalize())}%"


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
        percent = share(self.amount, self.budget) or Decimal(0)
        what = "is forecast to spend" if self.threshold.startswith("forecast") else "has spent"
        return (
            f"{self.team} {what} {self.amount:,.2f} {self.currency} in {self.billing_month}: {percent:.1f} "
            f"% of its budget of {self.budget:,.2f} {self.currency} (threshold {self.threshold})."
        )

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        amounts = {"amount": text_of(self.amount), "budget": text_of(self.budget)}
        return {**msgspec.structs.asdict(self), **amounts, "text": self.text}


def thresholds_of(source: object) -> list[Threshold]:
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


def reached(report: Report, thresholds: Iterable[Threshold]) -> list[Alert]:
    """
    Tell which thresholds are reached, whether reported before or not.

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


def untold(ledger: Ledger, report: Report, thresholds: Iterable[Threshold], *, run: str) -> list[Alert]:
    """
    Tell which thresholds are reached that no other run told.

    :param ledger: where it is remembered what was told.
    :param report: the month.
    :param thresholds: which there are.
    :param run: the task run: tried again, or cleared, it finds its own alerts still untold, and none is lost.
    """
    known = {key for file, keys in _remembered(ledger, report).items() if file.run != run for key in keys}
    return [alert for alert in reached(report, thresholds) if (alert.team, alert.threshold) not in known]


def remember(ledger: Ledger, report: Report, told: Sequence[Alert], *, run: str) -> None:
    """
    Remember alerts that were told: after it, so that one whose telling failed is told again.

    :param ledger: where.
    :param report: the month.
    :param told: which.
    :param run: the task run; what an earlier try of it told stays remembered.
    """
    if not told:
        return
    own = [key for file, keys in _remembered(ledger, report).items() if file.run == run for key in keys]
    own += [(alert.team, alert.threshold) for alert in told]
    rows = [(report.generated_at, report.month.name, *key) for key in dict.fromkeys(own)]
    ledger.write(ALERTS, report.month.name, report.generated_at, run, rows, replace=True)


def _remembered(ledger: Ledger, report: Report) -> dict[LedgerFile, list[tuple[str, str]]]:
    """Give team and threshold of every alert that was told, by file."""
    found: dict[LedgerFile, list[tuple[str, str]]] = {}
    for file in ledger.files(ALERTS, report.month.name):
        try:
            found[file] = list(zip(*ledger.read(file, ["team", "threshold"]), strict=True))
        except DamagedFile as error:
            log.warning("%s Its alerts may be reported again.", error)
    return found
