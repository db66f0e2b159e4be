"""One month of every account, as its observations show it; :mod:`.aggregate` makes it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.observations import ControlTotal

#: How long after the record of an account's deletion a snapshot may still list the account.
WHILE_DELETING = timedelta(minutes=15)


class Span(msgspec.Struct, frozen=True):
    """
    Between two observations.

    :param start: the one before, or the month's turn, or the account's creation.
    :param end: the one that showed the increase.
    :param day: the local day on which it is booked; ``None``: an opening balance, on no day.
    """

    start: datetime
    end: datetime
    day: date | None


class Rename(msgspec.Struct, frozen=True):
    """An account got another alias, seen at ``at``."""

    at: datetime
    old: str
    new: str


class AccountHistory(msgspec.Struct, kw_only=True):
    """
    One account's month.

    :param alias: its last one.
    :param cost: its counter's last value: what the month cost.
    :param first: when it was first seen in this month.
    :param seen: the number of the observation that saw it last.
    :param valued: the number of the one that last had its cost; -1: none yet.
    :param spans: when its counter moved, and by how much: ``amounts``, in the same order.
    :param opening: what of ``cost`` it had at first sight, on a day that is not known.
    :param falls: the sum of its counter's falls: 0 or below.
    :param deleted_at: when it was recorded just before its deletion.
    """

    id: int
    alias: str
    created_at: datetime | None
    first: datetime
    seen: int
    valued: int = -1
    cost: Decimal = ZERO
    spans: list[Span] = []
    amounts: list[Decimal] = []
    renames: list[Rename] = []
    opening: Decimal = ZERO
    falls: Decimal = ZERO
    deleted_at: datetime | None = None

    def movements(self) -> Iterator[tuple[Span, Decimal]]:
        """Iterate over the movements of its counter: when, and by how much."""
        return zip(self.spans, self.amounts, strict=True)


class History(msgspec.Struct, kw_only=True):
    """
    A month as its observations show it.

    :param times: when each observation was made, oldest first.
    :param complete: which of them are complete listings.
    :param files: the names of theirs.
    :param has_earlier_months: the ledger has snapshots of earlier months.
    :param without_cost: accounts that were listed at times without a cost.
    :param warnings: what is odd, for a person.
    :param is_reset_elsewhere: the counters seem to start from 0 at another time than the turn.
    """

    month: Month
    times: list[datetime] = []
    complete: list[bool] = []
    files: list[str] = []
    accounts: dict[int, AccountHistory] = {}
    has_earlier_months: bool = False
    without_cost: set[int] = set()
    warnings: list[str] = []
    is_damaged: bool = False
    is_reset_elsewhere: bool = False
    control: ControlTotal | None = None

    @property
    def snapshots(self) -> list[datetime]:
        """When the complete listings were made."""
        return [at for at, is_complete in zip(self.times, self.complete, strict=True) if is_complete]

    @property
    def last_snapshot(self) -> datetime:
        """When the last complete listing was made."""
        return next(
            at for at, is_complete in zip(self.times[::-1], self.complete[::-1], strict=True) if is_complete
        )

    @property
    def valued_until(self) -> datetime:
        """The last time at which the costs of all accounts that are listed still were known."""
        known = [self.last_snapshot]
        for account in map(self.accounts.__getitem__, self.without_cost):
            if not self.is_gone(account):
                known.append(self.times[account.valued] if account.valued >= 0 else self.month.start)
        return min(known)

    @property
    def began(self) -> datetime:
        """When spending can have begun: the month's turn, or the first account's creation after it."""
        created = [account.created_at or self.month.start for account in self.accounts.values()]
        return max(self.month.start, min(created, default=self.month.start))

    def lost_from(self, account: AccountHistory) -> tuple[datetime, datetime] | None:
        """
        Return between which two times an account vanished that nobody recorded; ``None`` if it did not.

        :param account: which.
        """
        absent = [
            at
            for at, is_complete in zip(
                self.times[account.seen + 1 :], self.complete[account.seen + 1 :], strict=True
            )
            if is_complete
        ]
        last = self.times[account.seen]
        # A snapshot that was made while it was being deleted may have listed it once more.
        is_recorded = account.deleted_at is not None and last - account.deleted_at <= WHILE_DELETING
        return None if is_recorded or not absent else (last, absent[0])

    def is_gone(self, account: AccountHistory) -> bool:
        """Return whether an account is not in the last complete listing, or was recorded deleted after it."""
        last = self.times[account.seen]
        return last < self.last_snapshot or account.deleted_at == last
