"""A store of names that all hosts share."""

from __future__ import annotations

from collections.abc import Callable, Sequence


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
