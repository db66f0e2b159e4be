"""A sink in the world of faults."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fault_world import World

from airflow_provider_closeai.client.models import SubAccount


class Sink:
    """Keeps keys, and since when, by the world's clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys: dict[int, tuple[str, float]] = {}
        self.trouble: BaseException | None = None

    def deliver(self, account: SubAccount) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.keys.setdefault(account.id, (account.token.reveal(), self.world.clock.time()))
        return f"key-{account.id}"

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        return {
            each.id: datetime.fromtimestamp(self.keys[each.id][1], UTC)
            for each in accounts
            if each.id in self.keys
        }
