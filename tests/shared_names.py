"""A store of names that all hosts share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from support import jumping_clock

from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.simulator import Request, Simulator


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Clock]:
    """Go to another host: other locks, notes and caches, and a counter of its own."""

    def go(name: str) -> Clock:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        return Clock(counter=name)

    return go


class Names:
    """What all hosts share."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.calls = 0
        self.on_add: Callable[[str], object] = lambda name: None
        self.problem: Exception | None = None

    def list(self, prefix: str) -> Sequence[str]:
        self._call()
        return [name for name in sorted(self.names) if name.startswith(prefix)]

    def add(self, name: str) -> None:
        self._call()
        self.on_add(name)
        self.names.add(name)

    def remove(self, name: str) -> None:
        self._call()
        self.names.discard(name)

    def of(self, kind: str) -> Sequence[str]:
        return [name for name in sorted(self.names) if name.startswith(f"closeai_{kind}.")]

    def _call(self) -> None:
        self.calls += 1
        if self.problem is not None:
            raise self.problem


class SlowNames(Names):
    """Names in a store that takes its time, by a clock that is moved on."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def _call(self) -> None:
        super()._call()
        assert self.calls < 10_000, "it asks for ever"
        self._clock.sleep(self._seconds)


def lagging_after(sim: Simulator, call: str, names: Names) -> Clock:
    """Let the store fail at a call, and the listing lag for 15 s from then on by the clock that it gives."""
    clock, waited = jumping_clock(), 0.0

    def lag(request: Request) -> None:
        if request.call == call:
            sim.settings.list_lag = 3600
            names.problem = OSError("down")

    def wait(seconds: float) -> None:
        nonlocal waited
        clock.sleep(seconds)
        waited += seconds
        if waited > 15:
            sim.settings.list_lag = 0

    sim.on_request = lag
    return msgspec.structs.replace(clock, sleep=wait)
