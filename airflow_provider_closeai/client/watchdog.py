"""Ends attempts at their deadline, whatever they are waiting for: no trickle of bytes extends it."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any


class Limit:
    """
    When an attempt must have ended.

    :param at: monotonic seconds.
    :param wire: holds under ``sock`` the attempt's socket, once it has one.
    """

    def __init__(self, at: float, wire: Mapping[str, Any]) -> None:
        self.at = at
        self._wire = wire
        self.is_over = False

    def cut(self) -> None:
        """End the attempt, whatever it is waiting for."""
        self.is_over = True
        sock = self._wire.get("sock")
        sock = getattr(sock, "socket", sock)  # urllib3's wrapper for TLS inside a proxy's TLS
        if sock is not None:
            with contextlib.suppress(OSError):  # already closed: the attempt has ended
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Watchdog:
    """Ends attempts at their deadline, with one thread per process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start afresh: a fork inherits no threads, but perhaps a lock that is taken."""
        # Callers take the lock itself: within the Condition's ``with`` a signal handler could leave it taken.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._limits: set[Limit] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def ends(self, limit: Limit) -> Iterator[None]:
        """Cut an attempt once its deadline has passed."""
        with self._lock:
            self._limits.add(limit)
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="closeai-watchdog", daemon=True)
                thread.start()
                self._thread = thread
            elif limit.at < self._wakes_at:
                self._news.notify()
        try:
            yield
        finally:
            with self._lock:
                self._limits.discard(limit)

    def _watch(self) -> None:
        with self._lock:
            while True:
                now = time.monotonic()
                for limit in [each for each in self._limits if each.at <= now]:
                    self._limits.discard(limit)
                    limit.cut()
                self._wakes_at = min((each.at for each in self._limits), default=math.inf)
                self._news.wait(None if self._wakes_at == math.inf else self._wakes_at - now)


_watchdog = _Watchdog()
os.register_at_fork(after_in_child=_watchdog.renew)
ends = _watchdog.ends
