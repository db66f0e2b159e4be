"""The clock that everything which waits is given."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec


def _uptime() -> Callable[[], float]:
    """Return seconds of a counter that every process of this machine reads, and that runs on in suspend."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic


def _counter_name() -> str:
    """Name the counter: processes that read the same one may compare what they read."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:16]
    return socket.gethostname()


class Clock(msgspec.Struct, frozen=True):
    """
    What the time is, and how to let it pass.

    :param now: seconds since the epoch.
    :param monotonic: seconds of a counter, to measure with.
    :param sleep: waits for some seconds.
    :param counter: names the counter of ``monotonic``. Another host has another one: what was measured by it
        says nothing here.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = _uptime()
    sleep: Callable[[float], None] = time.sleep
    counter: str = _counter_name()

    def utc_now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self.now(), UTC)


#: The machine's own clock.
SYSTEM_CLOCK = Clock()
