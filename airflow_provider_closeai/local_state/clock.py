"""The clock that is passed to everything that waits."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec


def _uptime() -> Callable[[], float]:
    """Return a counter of seconds that this machine's processes share and that keeps running in suspend."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic


def _counter_name() -> str:
    """Return the counter's name: processes with the same name may compare readings."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:16]
    return socket.gethostname()


class Clock(msgspec.Struct, frozen=True):
    """
    Tells the time, and sleeps.

    :param now: seconds since the epoch.
    :param monotonic: seconds of a counter, to measure durations.
    :param sleep: sleeps for some seconds.
    :param counter: the name of ``monotonic``'s counter. Readings of another counter, such as another host's,
        cannot be compared.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = _uptime()
    sleep: Callable[[float], None] = time.sleep
    counter: str = _counter_name()

    def utc_now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.fromtimestamp(self.now(), UTC)


#: The machine's own clock.
SYSTEM_CLOCK = Clock()
