"""One account of the platform, and the true costs of all accounts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai.simulator.values import ZONE

_EPOCH = datetime(2000, 1, 1, tzinfo=ZONE)
_MICROSECOND = timedelta(microseconds=1)
_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """What the listing shows of an account between two changes, mostly as ready JSON text."""

    at: float
    alias: str
    head: str
    tail: str


@dataclass(slots=True)
class Account:
    """One account; ``rate``, ``balance`` and ``cost`` are in units of 0.00000001."""

    id: int
    token: str
    token_type: str
    enabled: bool
    created_at: datetime
    rate: int
    balance: int
    cost: int
    settled: datetime
    died: float = math.inf
    versions: list[Version] = field(default_factory=list)

    @property
    def alias(self) -> str:
        """The true current alias."""
        return self.versions[-1].alias

    def view(self, until: float) -> Version | None:
        """Find the newest version as of a moment.

        :param until: In monotonic seconds.
        """
        newest = self.versions[-1]
        if newest.at <= until:
            return newest
        return next((version for version in reversed(self.versions) if version.at <= until), None)

    def spent(self, since: datetime, until: datetime) -> int:
        """Return the cost of a span of time.

        Costs are counted from a fixed hour, so a span costs the same however it is divided.
        """
        if not self.enabled:
            return 0
        first, last = ((moment - _EPOCH) // _MICROSECOND for moment in (since, until))
        return self.rate * last // _HOUR - self.rate * first // _HOUR


@dataclass(frozen=True)
class Truth:
    """The true costs, which survive rollover and deletion.

    :param by_date: Cost per (account id, local date).
    :param by_month: Cost per (account id, ``"YYYY-MM"``), including a seeded ``monthly_cost``.
    """

    by_date: dict[tuple[int, date], Decimal]
    by_month: dict[tuple[int, str], Decimal]
