"""Work that is done after its request has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Later:
    """Work by its time; what is left when the simulator stops is never done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timers: list[threading.Timer] = []

    def plan(self, seconds: float, work: Callable[[], object]) -> None:
        """Do some work later.

        :param seconds: How much later, in real time.
        """
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        timer.start()
        with self._lock:
            self._timers = [each for each in self._timers if each.is_alive()] + [timer]

    def stop(self) -> None:
        """Drop what is left, and wait for what is being done."""
        with self._lock:
            timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()
        for timer in timers:
            timer.join()
