"""How a cell of the matrix breaks the platform or the network, and mends both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fault_kinds import FAULTS, Cell
from fault_world import World

_API_CALLS = {"list in a create": "list", "delivery": "list", "discovery": "links", "health": "healthy"}


class Strikes:
    """
    What goes wrong in a cell.

    :param cell: which.
    :param world: to break.
    """

    def __init__(self, cell: Cell, world: World) -> None:
        self.cell, self.world, self.sim = cell, world, world.sim
        self.fault = FAULTS[cell.fault]
        self.call = _API_CALLS.get(cell.call, cell.call)

    def strike(self) -> Any:
        """Plan the fault: the simulator's own, or what a method here does."""
        how = getattr(self, f"_{self.fault.kind}", None)
        if how is not None:
            return how()
        places = self.sim.base_urls[:1] if self.cell.place == "one" else self.sim.base_urls
        if self.fault.kind == "hang":
            self.world.impatient = lambda call, base: (
                call == self.call and (call == "links" or base in places)
            )
        base = 0 if self.cell.place == "one" else None
        return self.sim.fault(self.call, self.fault.kind, base=base, times=None, **self.fault.options)

    def _when_called(self, strike: Callable[[], None]) -> None:
        """Strike when the call is about to be sent for the first time."""

        def watch(call: str, base: str) -> None:
            if call == self.call:
                self.world.before = None
                strike()

        self.world.before = watch

    def _refuse(self) -> None:
        def strike() -> None:
            if self.cell.call == "discovery":
                self.sim.stop_discovery()
            for index in self._struck_bases():
                self.sim.stop_base(index)

        self._when_called(strike)

    def _unname(self) -> None:
        def strike() -> None:
            urls = [self.sim.base_urls[index] for index in self._struck_bases()] or [self.sim.discovery_url]
            self.world.unresolved |= {int(url.rsplit(":", 1)[1]) for url in urls}
            for index in self._struck_bases():  # what was connected is cut
                self.sim.stop_base(index)
                self.sim.start_base(index)

        self._when_called(strike)

    def _swallow(self) -> None:
        def strike() -> None:
            gone = [self.sim.base_urls[index] for index in self._struck_bases()]
            if self.cell.call == "discovery":
                gone = [self.sim.discovery_url]
                self.sim._discovery.swallow()
            for index in self._struck_bases():
                self.sim.swallow_base(index)
            self.world.impatient = lambda call, base: base in gone

        self._when_called(strike)

    def _move(self) -> None:
        self._when_called(self.world.move_bases)

    def _spoil(self) -> None:
        self.sim.spoil(self.sim.accounts()[0]["id"], "token", "null")

    def _spoil_another(self) -> None:
        self.sim.spoil(self.sim.accounts()[-1]["id"], "monthly_cost", '""')

    def _mask(self) -> None:
        self.sim.settings.mask_tokens = True

    def _struck_bases(self) -> list[int]:
        if self.cell.call == "discovery":
            return []
        return [0] if self.cell.place == "one" else list(range(len(self.sim.base_urls)))

    def mend(self) -> None:
        self.sim.clear_faults()
        self.world.before = None
        self.world.impatient = lambda call, base: False
        self.world.unresolved.clear()
        self.sim.settings.mask_tokens = False
        for account in self.sim.accounts():
            self.sim.spoil(account["id"], "token", None)
            self.sim.spoil(account["id"], "monthly_cost", None)
        self.sim.start_discovery()
        for index in range(len(self.sim.base_urls)):
            self.sim.start_base(index)
