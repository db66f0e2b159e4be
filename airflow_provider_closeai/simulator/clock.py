"""The simulated time: stands still, is moved by tests, or runs faster than real time."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from airflow_provider_closeai.simulator.values import ZONE

_FASTEST = 1_000_000
START = datetime(2026, 11, 24, 9, tzinfo=ZONE)


class Clock:
    """A clock that only goes forward.

    :param start: The first moment; a naive one is in +08:00.
    :param speed: Simulated seconds per real second; 0 stands still.
    """

    def __init__(self, start: datetime | None = None, speed: float = 0) -> None:
        if not 0 <= speed <= _FASTEST:
            raise ValueError(f"speed must be from 0 to {_FASTEST}, not {speed}")
        self.speed = speed
        self._lock = threading.Lock()
        self._base = local(start or START)
        self._since = time.monotonic()

    def now(self) -> datetime:
        """Return the simulated time, aware, in +08:00."""
        with self._lock:
            return self._now()

    def advance(self, **span: float) -> None:
        """Move forward.

        :param span: The arguments of ``timedelta``: ``days=1``, ``hours=2`` ...
        """
        try:
            step = timedelta(**span)
            if step < timedelta(0):
                raise ValueError("the clock cannot go back: money that was spent stays spent")
            with self._lock:
                self._rebase(self._now() + step)
        except OverflowError:
            raise ValueError("the clock cannot go beyond the year 9999") from None

    def set(self, moment: datetime) -> None:
        """Move forward to a moment.

        :param moment: A naive one is in +08:00; one before now is a ``ValueError``.
        """
        target = local(moment)
        with self._lock:
            if target < self._now():
                raise ValueError("the clock cannot go back: give the Simulator start=... instead")
            self._rebase(target)

    def _now(self) -> datetime:
        if not self.speed:
            return self._base
        return self._base + timedelta(seconds=(time.monotonic() - self._since) * self.speed)

    def _rebase(self, moment: datetime) -> None:
        self._base = moment
        self._since = time.monotonic()


def local(moment: datetime) -> datetime:
    """Return a time in the platform's zone.

    :param moment: A naive one is in that zone already.
    """
    return moment.replace(tzinfo=ZONE) if moment.tzinfo is None else moment.astimezone(ZONE)
