"""Faults on demand: which request goes wrong, and what comes instead of its answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_closeai.simulator.answers import HTML, TEXT, Answer, encode, error
from airflow_provider_closeai.simulator.api import CALLS
from airflow_provider_closeai.simulator.values import dumps

KINDS: dict[str, dict[str, Any]] = {
    "hang": {"seconds": None, "work": False},
    "cut_before": {},
    "cut_after": {},
    "error_before": {"status": 500},
    "error_after": {"status": 500},
    "rate_limit": {"retry_after": None},
    "parked": {},
    "garbage": {},
    "slow": {"seconds": 1.0},
    "drip": {"seconds": 0.05},
    "status": {"status": 500, "body": None},
    "redirect": {"to": "http://127.0.0.1:9/"},
    "unhealthy": {},
}
"""Every kind with its options and their defaults."""

_PARKED = (
    "<!doctype html><html><head><title>This domain is parked</title></head><body>Buy it now.</body></html>"
)


@dataclass
class Fault:
    """A planned fault; ``hits`` counts the requests that met it."""

    call: str
    kind: str
    host: str | None
    times: int | None
    skip: int
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def take(self, call: str, host: str) -> bool:
        """Tell whether a request meets this fault, and count it.

        :param call: The request's call.
        :param host: Where it came.
        """
        if self.call not in ("*", call) or self.host not in (None, host):
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """The planned faults, in order; the first that fits is met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def plan(
        self, call: str, kind: str, host: str | None, times: int | None, skip: int, options: dict[str, Any]
    ) -> Fault:
        """Plan a fault.

        :param call: A call's name or ``*``.
        :param kind: One of ``KINDS``.
        :param host: Only there; None is anywhere.
        :param times: How many requests meet it; None is all.
        :param skip: How many fitting requests pass first.
        :param options: The kind's options.
        """
        if call != "*" and call not in CALLS:
            raise ValueError(f"call must be * or one of {', '.join(CALLS)}, not {call!r}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if kind == "unhealthy" and call != "healthy":
            raise ValueError("unhealthy is a fault of the call healthy only")
        if unknown := set(options) - set(KINDS[kind]):
            raise ValueError(f"{kind} has no option {', '.join(sorted(unknown))}")
        fault = Fault(call, kind, host, times, skip, {**KINDS[kind], **options})
        with self._lock:
            self._planned.append(fault)
        return fault

    def take(self, call: str, host: str) -> Fault | None:
        """Find the fault that a request meets.

        :param call: The request's call.
        :param host: Where it came.
        """
        with self._lock:
            return next((fault for fault in self._planned if fault.take(call, host)), None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._planned.clear()


def instead(fault: Fault) -> Answer | None:
    """Give the answer that comes instead of the work; None when the work is done all the same.

    :param fault: The fault that a request met.
    """
    options = fault.options
    if fault.kind == "error_before":
        return broken(fault)
    if fault.kind == "rate_limit":
        after = options["retry_after"]
        headers = {} if after is None else {"Retry-After": str(after)}
        return error(429, "rate_limit_error", "rate_limit_exceeded", "too many requests", headers)
    if fault.kind == "parked":
        return Answer(200, encode(_PARKED), HTML)
    if fault.kind == "status":
        if options["body"] is None:
            return broken(fault)
        return Answer(options["status"], encode(dumps(options["body"])))
    if fault.kind == "redirect":
        return Answer(302, b"", TEXT, {"Location": str(options["to"])})
    if fault.kind == "unhealthy":
        return Answer(200, b"unhealthy", TEXT)
    return None


def broken(fault: Fault) -> Answer:
    """Give the server's error.

    :param fault: Its ``status`` option is used.
    """
    return error(fault.options["status"], "server_error", "internal_error", "the server had an error")
