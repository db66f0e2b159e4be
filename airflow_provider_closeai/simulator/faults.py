"""Faults on demand: which requests go wrong, and how."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import Any

from airflow_provider_closeai.simulator.api import CALLS
from airflow_provider_closeai.simulator.fault_kinds import KINDS, Kind
from airflow_provider_closeai.simulator.options import checked, maybe, whole_number


@dataclass
class Fault:
    """A planned fault; ``hits`` counts the requests affected."""

    call: str
    how: Kind
    host: str | None
    times: int | None
    skip: int
    hits: int = 0

    @property
    def kind(self) -> str:
        """The kind's name."""
        return self.how.name

    def take(self, call: str, host: str, reused: bool) -> bool:
        """Return whether this fault affects a request; if so, count it.

        :param reused: Whether the connection served an earlier request.
        """
        if self.call not in ("*", call) or self.host not in (None, host):
            return False
        if self.how.only_reused and not reused:
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """The planned faults, in order; the first that matches applies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def plan(
        self, call: str, kind: str, host: str | None, times: int | None, skip: int, options: dict[str, Any]
    ) -> Fault:
        """Plan a fault."""
        if call != "*" and call not in CALLS:
            raise ValueError(f"call must be * or one of {', '.join(CALLS)}, not {call!r}")
        found = KINDS.get(str(kind))
        if found is None:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if found.calls and call not in found.calls:
            raise ValueError(f"{kind} is a fault of the call {', '.join(found.calls)} only")
        known = [field.name for field in dataclasses.fields(found)]
        for name in options:
            if name not in known:
                raise ValueError(f"{kind} has no option {name}; it has {', '.join(known) or 'none'}")
        if options.get("made") and call != "create":
            raise ValueError("made is an option of the call create only")
        times = checked("times", maybe(whole_number(0)), times)
        skip = checked("skip", whole_number(0), skip)
        fault = Fault(call, found(**options), host, times, skip)
        with self._lock:
            self._planned.append(fault)
        return fault

    def take(self, call: str, host: str, reused: bool) -> Fault | None:
        """Return the fault that affects a request, if any."""
        with self._lock:
            return next((fault for fault in self._planned if fault.take(call, host, reused)), None)

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._planned.clear()
