"""A secret of an alias is what the roster says: one key, or a list of as many as it wants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pytest
from support import client_of, clock_with

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.roster import Applied, Options, apply, make_plan, read_roster
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks._stored import Stored, StoredSink
from airflow_provider_closeai.sinks.base import SinkKeys

NOW = Options(settle=0.1)


class Memory(StoredSink):
    """A store that knows since when a secret has been what it is."""

    def __init__(self, sim: Simulator) -> None:
        super().__init__("{alias}")
        self.sim = sim
        self.kept: dict[str, Stored] = {}
        self.writes = 0

    def _connect(self) -> None: ...

    def _read(self, store: Any, names: Sequence[str]) -> dict[str, Stored]:
        return {name: self.kept[name] for name in names if name in self.kept}

    def _write(self, store: Any, name: str, value: Any, account: SubAccount, is_new: bool) -> None:
        self.writes += 1
        self.kept[name] = (value, self.sim.clock.now().astimezone(UTC))


class Team:
    """One alias, its roster and its secret."""

    def __init__(self, sim: Simulator, **entry: Any) -> None:
        self.sim, self.sink = sim, Memory(sim)
        self.entry: dict[str, Any] = {"alias": "team-a", "balance": 1, "model_pricing": {"gpt-4": 1}, **entry}
        self.client = client_of(sim, clock=clock_with(now=lambda: sim.clock.now().timestamp()))
        sim.add_account("other")

    def sync(self) -> Applied:
        roster = read_roster({"version": 1, "accounts": [self.entry]})
        keys = SinkKeys(self.sink, {"team-a": roster.entries["team-a"].count}, str)
        done = apply(self.client, roster, NOW, keys=keys)
        planned = make_plan(self.client, roster, NOW, keys=keys, books=None)
        assert planned.deliver == (), "a run delivers all that is to be delivered"
        writes = self.sink.writes
        apply(self.client, roster, NOW, keys=keys)
        assert self.sink.writes == writes, "what is right is not written again"
        return done

    @property
    def secret(self) -> Any:
        """Return the ids of the accounts whose keys it holds, as a list or alone."""
        ids = {account["token"]: account["id"] for account in self.sim.accounts("team-a")}
        value = self.sink.kept["team-a"][0]
        if not value.startswith("["):
            return ids.get(value, "gone")
        return [ids.get(key, "gone") for key in json.loads(value)]


def test_a_secret_follows_the_count(sim: Simulator) -> None:
    team = Team(sim, count=2)
    team.sync()
    assert team.secret == [3, 2]
    for count, secret in ((1, 3), (2, [3, 2]), (3, [4, 3, 2]), (1, 4)):
        team.entry["count"] = count
        assert team.sync().deleted == ()
        assert team.secret == secret


@pytest.mark.parametrize(("victim", "left"), [(2, 3), (3, 2)])
def test_a_key_that_was_deleted_by_id_does_not_stay_in_the_secret(
    sim: Simulator, victim: int, left: int
) -> None:
    team = Team(sim, count=2)
    team.sync()
    team.entry["count"] = 1
    sim.delete_account(victim)
    team.sync()
    assert team.secret == left
    waiting = Team(sim, count=3)
    waiting.sync()
    first, *rest = waiting.secret
    waiting.entry["count"] = 2
    sim.delete_account(first)
    waiting.sync()
    assert waiting.secret == rest


def test_no_key_goes_before_it_has_been_out_of_the_secret_for_grace(sim: Simulator) -> None:
    team = Team(sim, count=3, rotate={"every": "90d", "grace": "7d"})
    team.sync()
    sim.clock.advance(days=10)
    sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 1}])
    team.sync()
    sim.clock.advance(days=81)
    team.entry["count"] = 1
    assert team.sync().deleted == (), "until now the secret gave it out"
    assert team.secret == 5
    sim.clock.advance(days=6.9)
    assert team.sync().deleted == ()
    sim.clock.advance(days=0.2)
    assert [account.id for account in team.sync().deleted] == [2]
