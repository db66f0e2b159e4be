"""What the hosts of a random schedule share: a store of names that fails, and tasks' own states."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fault_world import World


class SharedNames:
    """The store of names that all hosts share; it may be slow, refuse, lose answers and write twice."""

    def __init__(self, world: World, seed: int, trouble: float = 0.0) -> None:
        self.names: set[str] = set()
        self.down: tuple[float, float] = (0.0, 0.0)
        self._world = world
        self._random = random.Random(seed)
        self._trouble = trouble

    def of(self, process: Process) -> OfProcess:
        """Give the store as one process has it."""
        return OfProcess(self, process)

    def list(self, process: Process, prefix: str) -> Sequence[str]:
        self._travel(process)
        found = [name for name in self.names if name.startswith(prefix)]
        self._travel(process)
        return found

    def add(self, process: Process, name: str) -> None:
        assert len(name) <= 250
        self._travel(process)
        clock, chance = self._world.clock, self._random.random() / max(self._trouble, 1e-9)
        if chance < 0.25:
            raise OSError("refused")
        if chance < 0.5:  # it comes late, when its writer has been told otherwise
            clock.later(self._random.uniform(1, 50), lambda: self.names.add(name))
            raise OSError("timed out")
        self.names.add(name)
        if chance < 0.75:
            raise OSError("the answer is lost")
        if chance < 1:  # the client's library sent it again
            clock.later(self._random.uniform(1, 50), lambda: self.names.add(name))
        self._travel(process)

    def remove(self, process: Process, name: str) -> None:
        self._travel(process)
        self.names.discard(name)

    def _travel(self, process: Process) -> None:
        self._world.clock.event(self._random.choice((0.0, 0.0, 0.01, 0.05)))
        process.speak()
        if self.down[0] <= self._world.clock.now < self.down[1]:
            raise OSError("the API server is down")


@dataclass
class Process:
    """A task's process: which host it is on, and when its supervisor is killed."""

    host: int
    orphaned_at: float = float("inf")
    world: World | None = None

    def speak(self) -> None:
        """Talk to Airflow through the supervisor."""
        if self.world is not None and self.world.clock.now >= self.orphaned_at:
            raise BrokenPipeError


class OfProcess:
    def __init__(self, shared: SharedNames, process: Process) -> None:
        self._shared, self._process = shared, process

    def list(self, prefix: str) -> Sequence[str]:
        return self._shared.list(self._process, prefix)

    def add(self, name: str) -> None:
        self._shared.add(self._process, name)

    def remove(self, name: str) -> None:
        self._shared.remove(self._process, name)


@dataclass
class States:
    """Airflow's task state store, of one task."""

    text: str | None = None

    def of(self, process: Process, *, heeds: bool) -> StatesOfProcess:
        return StatesOfProcess(self, process, heeds)


@dataclass
class StatesOfProcess:
    states: States
    process: Process
    heeds: bool

    def read(self) -> str | None:
        return self.states.text

    def write(self, text: str) -> None:
        if self.heeds:
            self.process.speak()
        self.states.text = text
