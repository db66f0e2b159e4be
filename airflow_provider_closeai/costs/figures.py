"""What a report consists of: amounts that add up, by account, by owner, and against budgets."""

from __future__ import annotations

import decimal
from datetime import date, datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.closing import Closing, Correction
from airflow_provider_closeai.costs.evidence import Control
from airflow_provider_closeai.costs.history import Account, History
from airflow_provider_closeai.costs.months import EXACT, ZERO, Month, zone_of
from airflow_provider_closeai.costs.owners import Owner

#: ``open``: the month goes on. ``final``: a snapshot lies close to its end. ``estimated``: none does.
OPEN, FINAL, ESTIMATED = "open", "final", "estimated"
#: For quotients, which are rounded.
ESTIMATE = decimal.Context(prec=250)


class Figures(msgspec.Struct, kw_only=True):
    """
    Amounts that add up: ``month_to_date = opening + increases + corrections + adjustments``.

    :param opening: spent this month before the account was first seen, on a day that is not known.
    :param increases: rises of the counter.
    :param corrections: falls of the counter inside the month: below 0.
    :param adjustments: lines that were appended to the month, and what keeps a closed month as it was closed.
    """

    month_to_date: Decimal = ZERO
    opening: Decimal = ZERO
    increases: Decimal = ZERO
    corrections: Decimal = ZERO
    adjustments: Decimal = ZERO

    def add(self, other: Figures) -> None:
        """Add another's figures to these."""
        for name in Figures.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class AccountLine(Figures, kw_only=True):
    """
    One account's month.

    :param state: ``live``; ``deleted``: its last value was recorded just before; ``vanished``: it was not
        listed any more, so what it spent in its last ``gap_minutes`` at most is missing; ``unobserved``: only
        appended lines speak of it.
    :param gap_minutes: also of a live account that was listed without a cost since.
    :param observed_days: the local days with a snapshot between its first and its last sight.
    :param forecast: of the whole month at the rate so far; ``None`` where there is none.
    :param history: its observations.
    """

    sub_account_id: int
    alias: str
    owner: Owner
    state: str
    created_at: datetime | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    gap_minutes: int = 0
    observed_days: int = 0
    forecast: Decimal | None = None
    history: Account | None = None

    @property
    def former_aliases(self) -> list[str]:
        """The aliases that it had earlier this month."""
        return [rename.old for rename in self.history.renames] if self.history else []

    def daily(self) -> dict[date, Decimal]:
        """Its cost by day; without opening and adjustments, which are on no day."""
        days: dict[date, Decimal] = {}
        with decimal.localcontext(EXACT):
            for span, amount in self.history.movements() if self.history else ():
                if span.day is not None:
                    days[span.day] = days[span.day] + amount if span.day in days else amount
        return days


class OwnerLine(Figures, kw_only=True):
    """One team and cost centre: the sums of its accounts, and its cost by day."""

    owner: Owner
    accounts: int = 0
    forecast: Decimal | None = None
    daily: dict[date, Decimal] = {}


class BudgetLine(msgspec.Struct, frozen=True):
    """A team's budget against what it spent, and against the forecast of the whole month."""

    team: str
    budget: Decimal
    actual: Decimal
    forecast: Decimal | None


class Report(msgspec.Struct, kw_only=True):
    """
    A month's report. Every amount is exact but a forecast, which is an estimate anyway.

    :param gap_minutes: from the last snapshot to the month's end: what was spent then is in no figure.
        ``None`` while the month is open.
    :param main_difference: what the main account used and no sub-account shows, at the same moment.
    """

    month: Month
    currency: str
    status: str
    generated_at: datetime
    gap_minutes: int | None
    history: History
    totals: Figures
    forecast: Decimal | None
    owners: list[OwnerLine]
    accounts: list[AccountLine]
    budgets: list[BudgetLine]
    closing: Closing | None
    appended: list[Correction]
    control: Control | None
    main_difference: Decimal | None
    warnings: list[str]

    @property
    def daily(self) -> dict[date, Decimal]:
        """The cost of all accounts by day of the month; days without a figure are absent."""
        days: dict[date, Decimal] = {}
        with decimal.localcontext(EXACT):
            for line in self.owners:
                for day, amount in line.daily.items():
                    days[day] = days.get(day, ZERO) + amount
        return dict(sorted(days.items()))

    @property
    def observed_days(self) -> list[date]:
        """The local days on which a snapshot was made."""
        zone = zone_of(self.month.zone)
        return sorted({at.astimezone(zone).date() for at in self.history.snapshots})

    @property
    def missed_days(self) -> list[date]:
        """The days before the last snapshot without one; of the ledger's first month, from its first on."""
        seen = self.observed_days
        first = self.month.days[0] if self.history.goes_on else seen[0]
        return [day for day in self.month.days if first <= day < seen[-1] and day not in seen]


def share(part: Decimal, whole: Decimal) -> Decimal | None:
    """
    Tell a part in per cent, with 4 decimals.

    :param part: of it.
    :param whole: the whole; ``None`` comes back where it is not above 0.
    """
    with decimal.localcontext(ESTIMATE):
        return (part * 100 / whole).quantize(Decimal("0.0001")) if whole > 0 else None
