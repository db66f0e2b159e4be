"""What an account's counter showed across the turns of months; :mod:`.turns` assigns it to months."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO


class Span(msgspec.Struct, frozen=True):
    """
    The time between two observations.

    :param start: the earlier observation, or the month's turn, or the account's creation.
    :param end: the observation that showed the increase.
    :param day: the local day on which it is booked; ``None``: an opening balance, on no day.
    """

    start: datetime
    end: datetime
    day: date | None


class Rename(msgspec.Struct, frozen=True):
    """A change of an account's alias, first seen at ``at``."""

    at: datetime
    old: str
    new: str


class Trace(msgspec.Struct, kw_only=True):
    """
    One account's values, from before a month to after it.

    :param alias: its last alias in the month.
    :param first: when it was first seen.
    :param last_seen: when it was last seen before the month's end.
    :param listed_at: when a complete listing last had it.
    :param valued_at: when it last had a cost.
    :param known_at: when it last had a cost before the month's end, with the balance ``known_balance``.
    :param next_at: when it first had a cost after the month's end.
    :param value: its last cost.
    :param balance: its last balance.
    :param is_recorded: a deletion's record showed its last cost, or showed less shortly after.
    :param is_in_month: it was seen in the month.
    :param is_older: its first value is above 0, and what it showed before is unknown.
    :param spans: where its value moved; a first value other than 0 is a movement, too.
    :param values: the value after each movement.
    :param spent: by how much the balance fell in a movement, by place in ``spans``.
    :param is_gone: it is deleted, or missing in a later complete listing.
    :param deleted_at: when a deletion's record had it; ``None``: none did, or it was listed again.
    :param gone_by: when a complete listing first lacked it, if no deletion was recorded.
    """

    id: int
    alias: str
    created_at: datetime | None
    first: datetime
    last_seen: datetime
    listed_at: datetime | None = None
    valued_at: datetime | None = None
    known_at: datetime | None = None
    next_at: datetime | None = None
    value: Decimal = ZERO
    balance: Decimal | None = None
    known_balance: Decimal | None = None
    is_recorded: bool = False
    is_older: bool = False
    is_in_month: bool = False
    is_gone: bool = False
    gone_by: datetime | None = None
    spans: list[Span] = []
    values: list[Decimal] = []
    spent: dict[int, Decimal] = {}
    renames: list[Rename] = []
    deleted_at: datetime | None = None

    def before(self, place: int) -> Decimal:
        """Return the value before a movement."""
        return self.values[place - 1] if place else ZERO

    @property
    def has_moving_balance(self) -> bool:
        """Whether the balance was seen to move with the costs."""
        return any(map(self.is_exact, range(len(self.spans))))

    def is_exact(self, place: int) -> bool:
        """
        Return whether the balance fell by exactly what the counter grew.

        Then a movement from a value above 0 hides no reset, and one from 0 no other spending.
        """
        spent = self.spent.get(place)
        return spent is not None and spent > ZERO and spent == self.values[place] - self.before(place)

    def is_more_spent(self, place: int) -> bool:
        """
        Return whether the balance, if it moves with the costs, fell by more than the counter grew.

        Then a part of the counter was reset in between.
        """
        spent = self.spent.get(place)
        if spent is None or spent <= self.values[place] - self.before(place):
            return False
        return self.has_moving_balance
