"""A month of every account, according to observations; made by :mod:`.aggregate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.observations import ControlTotal
from airflow_provider_closeai.costs.accounting.traces import Rename, Span

#: Kinds of counter movements, as in the report, where a fall is a "correction".
OPENING, INCREASE, FALL = "opening", "increase", "correction"


def sums_of(amounts: Sequence[Decimal], kinds: Sequence[str]) -> tuple[Decimal, Decimal, Decimal]:
    """Sum movements by kind; return opening, increases and falls."""
    opening = falls = ZERO
    for amount, kind in zip(amounts, kinds, strict=True):
        if kind == OPENING:
            opening += amount
        elif kind == FALL:
            falls += amount
    return opening, sum(amounts, ZERO) - opening - falls, falls


class AccountHistory(msgspec.Struct, kw_only=True):
    """
    One account's month.

    :param alias: its last alias.
    :param cost: the month's cost: the counter's last value before it started again; if in doubt, a lower
        bound.
    :param first: when it was first seen in this month.
    :param last_seen: when it was last seen in this month.
    :param known_at: when it last had a cost in this month; ``None``: never.
    :param spans: when its counter moved; by how much (``amounts``) and how (``kinds``), in the same order.
        A shared account's part has the account's kinds: by rounding, a part of an increase may be negative.
    :param balance: its last balance in this month.
    :param deleted_at: when it was recorded just before its deletion.
    :param start_doubt: why it is in doubt what of its values is this month's (:mod:`.turns`); empty: certain.
    :param is_whole: all that its counter showed is in ``cost`` all the same, after it had started again.
    :param end_doubt: the same as ``start_doubt`` at the month's end.
    :param end_may_settle: whether a later value may still make that certain.
    :param unseen: between which times around its end more may have been spent.
    :param is_in_month: it was seen in this month.
    :param fell: between which two values the counter started again at the month's end.
    :param started: the same at its start.
    :param start_doubtful: how much of ``cost`` may belong to the month before.
    :param end_doubtful: how much may belong to the month after.
    """

    id: int
    alias: str
    created_at: datetime | None
    first: datetime
    last_seen: datetime
    known_at: datetime | None = None
    cost: Decimal = ZERO
    spans: list[Span] = []
    amounts: list[Decimal] = []
    kinds: list[str] = []
    renames: list[Rename] = []
    start_doubtful: Decimal = ZERO
    end_doubtful: Decimal = ZERO
    balance: Decimal | None = None
    deleted_at: datetime | None = None
    start_doubt: str = ""
    is_whole: bool = True
    end_doubt: str = ""
    end_may_settle: bool = False
    unseen: tuple[datetime, datetime] | None = None
    is_in_month: bool = True
    fell: tuple[datetime, datetime] | None = None
    started: tuple[datetime, datetime] | None = None

    def movements(self) -> Iterator[tuple[Span, Decimal, str]]:
        """Iterate over its counter's movements: when, by how much, and of which kind."""
        return zip(self.spans, self.amounts, self.kinds, strict=True)


class History(msgspec.Struct, kw_only=True):
    """
    A month according to its observations.

    :param snapshots: when complete listings were made, oldest first.
    :param files: the names of all files that were read.
    :param absent: accounts in earlier or later files that certainly have nothing in this month.
    :param has_earlier_months: the ledger has snapshots of earlier months.
    :param warnings: oddities, for people.
    """

    month: Month
    snapshots: list[datetime] = []
    files: list[str] = []
    accounts: dict[int, AccountHistory] = {}
    absent: set[int] = set()
    has_earlier_months: bool = False
    warnings: list[str] = []
    is_damaged: bool = False
    controls: list[ControlTotal] = []

    @property
    def last_snapshot(self) -> datetime:
        """When the last complete listing was made."""
        return self.snapshots[-1]

    @property
    def began(self) -> datetime:
        """When spending may have begun: the month's turn, or the first account's creation after it."""
        created = [account.created_at or self.month.start for account in self.accounts.values()]
        return max(self.month.start, min(created, default=self.month.start))
