"""The clock that everything which waits is given."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """
    What the time is, and how to let it pass.

    :param now: seconds since the epoch, to compare with other processes.
    :param monotonic: seconds of this process, to measure with.
    :param sleep: waits for some seconds.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


#: The machine's own clock.
SYSTEM_CLOCK = Clock()
