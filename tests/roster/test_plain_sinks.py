"""Rotation into a sink that cannot say what it holds: what this host noted says it."""

from __future__ import annotations

import pytest
from support import client_of, clock_with

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.roster import Applied, Options, apply, read_roster
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.base import SinkKeys


class Plain:
    """Only delivers."""

    def deliver(self, account: SubAccount) -> str:
        return f"key-{account.id}"


class Other(Plain):
    """Keeps keys elsewhere."""


class Runs:
    """Rosters of one alias each, with sinks of their own or one for all."""

    def __init__(self, sim: Simulator) -> None:
        self._client = client_of(sim, clock=clock_with(now=lambda: sim.clock.now().timestamp()))

    def sync(self, alias: str, sink: Plain) -> Applied:
        entry = {"alias": alias, "balance": 1, "model_pricing": {"gpt-4": 1}}
        entry["rotate"] = {"every": "90d", "grace": "7d"}
        roster = read_roster({"version": 1, "owns": [alias], "accounts": [entry]})
        options = Options(settle=0, max_create=3)
        return apply(self._client, roster, options, keys=SinkKeys(sink, {}, str))


@pytest.mark.parametrize("second", [Plain, Other])
def test_two_rosters_of_a_host_keep_what_the_other_delivered(sim: Simulator, second: type[Plain]) -> None:
    runs = Runs(sim)
    sinks = {"team-a": Plain(), "team-b": second()}
    made = []
    for days in (0, 1, 90, 8):
        sim.clock.advance(days=days)
        done = [runs.sync(alias, sink) for alias, sink in sinks.items()]
        made.append([(each.counts["created"], each.counts["deleted"]) for each in done])
        if days == 1:
            assert [each.references for each in done] == [{}, {}]
    assert made == [[(1, 0)] * 2, [(0, 0)] * 2, [(1, 0)] * 2, [(0, 1)] * 2]


class At(Plain):
    """Shows where it keeps keys."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._store = object()

    def __repr__(self) -> str:
        return f"At({self._place!r}, {self._store!r})"


def test_a_sink_of_the_same_class_at_another_place_gets_the_keys(sim: Simulator) -> None:
    runs = Runs(sim)
    given = [list(runs.sync("team-a", At(place)).references) for place in ("one/", "one/", "two/", "two/")]
    assert given == [[1], [], [1], []]
