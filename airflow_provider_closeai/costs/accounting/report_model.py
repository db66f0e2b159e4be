"""The structs of a report: amounts that add up, by account, by owner, by day and against budgets."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE, Adjustment, Closing
from airflow_provider_closeai.costs.accounting.history import AccountHistory, History
from airflow_provider_closeai.costs.accounting.money import EXACT, ZERO, total, total_known
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.observations import ControlTotal
from airflow_provider_closeai.costs.accounting.shares import Owner, Share

#: ``open``: the month goes on. ``final``: both turns of every account are certain, and a snapshot lies close
#: to the end. ``estimated``: otherwise; a month that was closed so stays so.
OPEN, FINAL, ESTIMATED = "open", "final", "estimated"
#: The kind of movement that keeps a closed month as it was closed.
KEPT = "closed"


def certainty_of(doubts: object) -> str:
    """Return ``uncertain`` if there are doubts, else ``certain``."""
    return "uncertain" if doubts else "certain"


class Movement(msgspec.Struct, frozen=True, gc=False):
    """
    A row of the table from which all other figures are summed.

    :param kind: ``increase``, ``opening`` or ``correction`` (a fall) of a counter; ``manual`` (a note) or
        ``evidence`` (a difference), if appended; ``closed``: keeps a closed month as it was.
    :param day: the local day on which it is booked; ``None``: no day.
    :param start: start of the interval in which it was spent; if this and ``end`` are ``None``: the month.
    :param recorded_at: when it was appended; ``None``: it was not.
    :param reason: why it was appended.
    """

    sub_account_id: int
    alias: str
    owner: Owner
    kind: str
    amount: Decimal
    day: date | None = None
    start: datetime | None = None
    end: datetime | None = None
    recorded_at: datetime | None = None
    reason: str = ""


class Amounts(msgspec.Struct, kw_only=True):
    """
    Sums of movements: ``month_to_date = opening + increases + falls + adjustments``.

    :param opening: spent this month before the account was first seen, on an unknown day.
    :param increases: rises of the counter.
    :param falls: falls of the counter within the month: negative.
    :param adjustments: lines appended to the month, and what keeps a closed month as it was closed.
    :param doubtful: how much of ``month_to_date`` may belong to another month.
    """

    month_to_date: Decimal = ZERO
    opening: Decimal = ZERO
    increases: Decimal = ZERO
    falls: Decimal = ZERO
    adjustments: Decimal = ZERO
    doubtful: Decimal = ZERO

    @property
    def lower_bound(self) -> Decimal:
        """The minimum that the month cost."""
        return total([self.month_to_date], less=[self.doubtful])


class AccountCosts(Amounts, kw_only=True):
    """
    One account's month.

    :param state: ``live``; ``deleted``: its last value was recorded just before; ``vanished``: it is not
        listed any more, so what it spent in at most its last ``gap_minutes`` is missing; ``unobserved``:
        only appended lines name it; ``main account``.
    :param gap_minutes: also the time since its last cost, if it was then listed or recorded without one.
    :param observed_days: number of local days with a snapshot between its first and last sight.
    :param forecast: the complete month at the rate so far; ``None``: no forecast.
    :param history: its observations; ``None``: unobserved.
    :param appended: lines appended to it.
    :param kept: its closed figure less its counter's, which keeps a closed month as it was closed.
    :param start_doubt: why it is in doubt which values are this month's (:mod:`.turns`); empty: certain.
    :param end_doubt: the same at the month's end.
    :param unseen_minutes: how long around the month's end more may have been spent than was seen.
    :param shares: who pays how much of it; empty: the owner pays all.
    :param parts: its costs split by ``shares``, in the same order.
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
    history: AccountHistory | None = None
    appended: list[Adjustment] = []
    kept: Decimal = ZERO
    start_doubt: str = ""
    end_doubt: str = ""
    unseen_minutes: int = 0
    shares: tuple[Share, ...] = ()
    parts: list[AccountCosts] = []

    @property
    def is_certain(self) -> bool:
        """Whether its cost is certain. If not, it is at least ``lower_bound``."""
        return not (self.start_doubt or self.end_doubt)

    @property
    def certainty(self) -> str:
        """``certain`` or ``uncertain``."""
        return certainty_of(not self.is_certain)

    @property
    def ids(self) -> set[int]:
        """Its id, as a set, to be added up with others."""
        return {self.sub_account_id}

    @property
    def uncertain_ids(self) -> set[int]:
        """The same, but empty if its cost is certain."""
        return set() if self.is_certain else self.ids

    @property
    def former_aliases(self) -> list[str]:
        """The aliases that it had earlier this month."""
        return [rename.old for rename in self.history.renames] if self.history else []

    def counter_movements(self) -> Iterator[Movement]:
        """Yield its counter's movements, oldest first; for a shared account, each owner's part."""
        for part in self.parts or [self]:
            account_id, alias, owner = part.sub_account_id, part.alias, part.owner
            for span, amount, kind in part.history.movements() if part.history else ():
                yield Movement(account_id, alias, owner, kind, amount, span.day, span.start, span.end)

    def movements(self) -> Iterator[Movement]:
        """Yield all that makes up its cost: its counter's movements, and appended lines."""
        for part in self.parts or [self]:
            yield from part.counter_movements()
            for item in part.appended:
                yield Movement(
                    part.sub_account_id,
                    item.alias,
                    part.owner,
                    item.source,
                    item.amount,
                    recorded_at=item.recorded_at,
                    reason=item.reason,
                )
            if part.kept:
                yield Movement(
                    part.sub_account_id, part.alias, part.owner, KEPT, part.kept, reason="as closed"
                )

    @property
    def unbooked(self) -> Decimal:
        """Its counter's figure less the closed one and the differences booked since."""
        settled = (item.amount for item in self.appended if item.source == DIFFERENCE)
        return total((), less=(self.kept, *settled))

    @property
    def daily(self) -> dict[date, Decimal]:
        """Its cost by day, without opening and adjustments, which are on no day."""
        days: dict[date, Decimal] = {}
        with decimal.localcontext(EXACT):
            for span, amount, _ in self.history.movements() if self.history else ():
                if span.day is not None:
                    days[span.day] = days[span.day] + amount if span.day in days else amount
        return days


class OwnerCosts(Amounts, kw_only=True):
    """
    A team and cost centre, a team, or all: sums over its accounts and shares, and its cost by day.

    :param owner: a team's has no cost centre.
    :param ids: its accounts' ids; a shared account belongs to each payer.
    :param uncertain_ids: those of accounts whose costs are lower bounds.
    :param budget: a team's budget for the month; 0: none.
    """

    owner: Owner
    ids: set[int] = set()
    uncertain_ids: set[int] = set()
    forecast: Decimal | None = None
    daily: dict[date, Decimal] = {}
    budget: Decimal = ZERO

    @property
    def accounts(self) -> int:
        """How many accounts it has."""
        return len(self.ids)

    @property
    def uncertain(self) -> int:
        """How many accounts' costs are lower bounds."""
        return len(self.uncertain_ids)

    @property
    def certainty(self) -> str:
        """``certain`` or ``uncertain``."""
        return certainty_of(self.uncertain)


class Report(msgspec.Struct, kw_only=True):
    """
    A month's report. All amounts are exact, except forecasts, which are estimates anyway.

    :param gap_minutes: from the last snapshot to the assumed end of the month.
        ``None`` while the month is open.
    :param teams: the teams with costs or a budget, by name.
    :param main_difference: the main account's use that no sub-account showed at the same moment, less what
        was booked for accounts that no snapshot had any more.
    """

    month: Month
    currency: str
    status: str
    generated_at: datetime
    gap_minutes: int | None
    history: History
    totals: OwnerCosts
    owners: list[OwnerCosts]
    teams: dict[str, OwnerCosts]
    accounts: list[AccountCosts]
    closing: Closing | None
    appended: list[Adjustment]
    control: ControlTotal | None
    main_difference: Decimal | None
    warnings: list[str]

    @property
    def unseen_minutes(self) -> int:
        """The most minutes around the month's end in which an account was not seen."""
        return max((line.unseen_minutes for line in self.accounts), default=self.gap_minutes or 0)

    @property
    def uncertain(self) -> list[AccountCosts]:
        """The accounts with a turn in doubt: their costs are lower bounds."""
        return [line for line in self.accounts if not line.is_certain]

    @property
    def certainty(self) -> str:
        """``uncertain`` if any account is: then so are all sums, shares and forecasts; else ``certain``."""
        return certainty_of(self.uncertain)

    @property
    def lower_bound(self) -> Decimal:
        """The month's certain minimum cost."""
        return self.totals.lower_bound

    @property
    def forecast(self) -> Decimal | None:
        """The complete month's cost at the rate so far; ``None``: no forecast."""
        return self.totals.forecast

    @property
    def budgets(self) -> list[OwnerCosts]:
        """The teams with a budget."""
        return [costs for costs in self.teams.values() if costs.budget]

    @property
    def daily(self) -> dict[date, Decimal]:
        """All accounts' cost by day; days without a figure are absent."""
        return self.totals.daily

    @property
    def observed_days(self) -> list[date]:
        """The local days with a snapshot."""
        return sorted({self.month.local(at).date() for at in self.history.snapshots})

    @property
    def missed_days(self) -> list[date]:
        """The days without a snapshot before the last one; in the ledger's first month, from its first on."""
        seen = self.observed_days
        first = self.month.days[0] if self.history.has_earlier_months else seen[0]
        return [day for day in self.month.days if first <= day < seen[-1] and day not in seen]


def together(owner: Owner, lines: Iterable[OwnerCosts | AccountCosts], budget: Decimal = ZERO) -> OwnerCosts:
    """Add up accounts, their parts, or lines of owners; days without a figure are absent."""
    sums = OwnerCosts(owner=owner, budget=budget)
    days: dict[date, Decimal] = {}
    with decimal.localcontext(EXACT):
        for line in lines:
            for name in Amounts.__struct_fields__:
                setattr(sums, name, getattr(sums, name) + getattr(line, name))
            sums.ids |= line.ids
            sums.uncertain_ids |= line.uncertain_ids
            sums.forecast = total_known((sums.forecast, line.forecast))
            for day, amount in line.daily.items():
                days[day] = days.get(day, ZERO) + amount
    sums.daily = dict(sorted(days.items()))
    return sums
