"""Rosters of several hosts that register at once, where a killed task has left its claim behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import Variable
from fault_names import Process, SharedNames
from fault_world import World

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.hooks import roster_claims
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning.runner.deployment_lock import DeploymentLock
from airflow_provider_closeai.roster import RosterConflict, read_roster


class Claims:
    """Hosts of a deployment that share Variables, each call of which takes its time."""

    def __init__(self, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self._world, self._folder, self._dice = world, folder, random.Random(seed)
        self._names, self._written = SharedNames(world, seed), dict[str, str]()
        self.noted: list[int] = []
        monkeypatch.setattr(roster_claims, "read_variable", self._read)
        monkeypatch.setattr(Variable, "set", self._write)

    def _read(self, key: str) -> str | None:
        self._world.clock.event(self._dice.uniform(0.02, 0.1))
        return self._written.get(key)

    def _write(self, key: str, text: str) -> None:
        self._world.clock.event(self._dice.uniform(0.02, 0.1))
        self._written[key] = text

    def client(self) -> CloseAIClient:
        there = self._world.clock
        clock = Clock(now=there.time, monotonic=there.monotonic, sleep=there.sleep)
        config = config_from(password=self._world.sim.key, extra={"api_bases": self._world.sim.base_urls})
        return CloseAIClient(config, clock=clock)

    def leave_a_claim(self) -> None:
        lock = DeploymentLock(self.client(), self._names.of(Process(0)), "update", "closeai_rosters")
        lock.acquire(["all rosters\n"])

    def register(self, number: int) -> Callable[[], None]:
        def run() -> None:
            path = self._folder / f"{number}.json"
            entry = {"alias": f"team-{number}", "balance": 1, "model_pricing": {"m": 1}}
            path.write_text(json.dumps({"version": 1, "owns": ["team-*"], "accounts": [entry]}))
            names = self._names.of(Process(number % 2))
            try:
                roster_claims.register(self.client(), read_roster(path), names=names)
            except RosterConflict:
                return
            self.noted.append(number)

        return run


@pytest.mark.parametrize("number", [2, 20])
def test_of_rosters_that_own_the_same_alias_one_is_noted(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(20):
        with World(bases=1) as world:
            claims = Claims(world, tmp_path, monkeypatch, seed)
            claims.leave_a_claim()
            world.clock.run([(claims.register(each), None) for each in range(number)], seed)
            assert len(claims.noted) == 1, seed
