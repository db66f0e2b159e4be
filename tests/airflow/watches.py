"""What tests of events share: Variables, and a watch that sees what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_provider_closeai.costs import Ledger
from airflow_provider_closeai.costs.accounting.alerts import Alert
from airflow_provider_closeai.costs.store.booked import mark_reported
from airflow_provider_closeai.triggers import events
from airflow_provider_closeai.triggers.events import ApiBaseChangedTrigger

HANG = 60  # seconds; only ends a test that would never end
A, B, C = "https://a.example", "https://b.example", "https://c.example"


class Variables:
    """Airflow's Variables, which only a triggerer can write; the test with a real one has the real ones."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_down = False
        self.is_absence = False  # while it is down, as Airflow's own: `get` finds nothing

    def get(self, key: str, default: Any) -> Any:
        if self.is_down and self.is_absence:
            return default
        self._refuse()
        return self.texts.get(key, default)

    def keys(self, prefix: str) -> list[str]:
        self._refuse()
        return [key for key in self.texts if key.startswith(prefix)]

    def set(self, key: str, value: str, description: str) -> None:
        self._refuse()
        self.texts[key] = value

    def _refuse(self) -> None:
        if self.is_down:
            raise RuntimeError("sk-not-to-be-logged")


def told(trigger: Any, seen: Iterable[Any]) -> list[Any]:
    """
    Start a trigger, let it see these one by one, and give what it tells at each: a payload, or None.

    Its clock is moved on by ``poke_interval`` between two looks. It is killed after the last one.
    """
    payloads: list[Any] = []

    async def main() -> list[Any]:

        async def stream() -> AsyncIterator[Any]:
            for each in seen:
                payloads.append(None)
                yield each

        async for event in trigger.filter_shared_stream(stream()):
            payloads[-1] = event.payload
        return payloads

    with patch.object(events, "monotonic", lambda: len(payloads) * trigger.poke_interval):
        return asyncio.run(asyncio.wait_for(main(), HANG))


def bases(seen: Iterable[str | None], **options: Any) -> list[Any]:
    """Give the bases that are told; "-" where nothing is."""
    payloads = told(ApiBaseChangedTrigger(**options), seen)
    return [payload["base"] if payload else "-" for payload in payloads]


def stream_of(trigger: Any, number: int, *then: Callable[[], Any]) -> list[Any]:
    """Let a trigger look by itself, at once again, until it saw so much; does something after the first."""

    async def main() -> list[Any]:
        found: list[Any] = []
        stream = trigger.open_shared_stream({**trigger.serialize()[1], "poke_interval": 0.001})
        async for each in stream:
            found.append(each)
            if len(found) == number:
                break
            if len(found) <= len(then):
                then[len(found) - 1]()
        await stream.aclose()
        return found

    return asyncio.run(asyncio.wait_for(main(), HANG))


def alert(ledger: Path, run: str, *lines: tuple[str, str], month: str = "2026-11") -> None:
    """Note alerts as a report does."""
    found = [Alert(month, team, threshold, Decimal(60), Decimal(50), "CNY") for team, threshold in lines]
    mark_reported(Ledger(ledger), found, at=datetime(2026, 11, 20, int(run), tzinfo=UTC), run=run * 12)
