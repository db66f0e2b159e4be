"""An approved plan that is applied again, by a retry or a clear, creates no more than was approved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import pytest
from support import client_of, clock_with

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.roster import Applied, Options, Plan, apply, make_plan, read_roster
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.base import SinkKeys

PRICES = [{"model": "gpt-4", "pricing_factor": 1}]


class Sink:
    """Says since when it holds each key."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._since: dict[int, datetime] = {}

    def deliver(self, account: SubAccount) -> str:
        self._since.setdefault(account.id, self._sim.clock.now())
        return f"key-{account.id}"

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        return {each.id: self._since[each.id] for each in accounts if each.id in self._since}


class World:
    """A platform of one alias, and a plan for it that is applied as often as one likes."""

    def __init__(self, sim: Simulator, count: int, **entry: object) -> None:
        self.sim = sim
        self._client = client_of(sim, clock=clock_with(now=lambda: (sim.clock.now() + self.skew).timestamp()))
        self.skew = timedelta()  # of this worker's clock
        self._keys = SinkKeys(Sink(sim), {}, str)
        accounts = [{"alias": "team-a", "count": count, "balance": 1, "model_pricing": {"gpt-4": 1}, **entry}]
        self._roster = read_roster({"version": 1, "accounts": accounts})

    def plan(self, max_create: int | None = None) -> Plan:
        plan = make_plan(
            self._client, self._roster, Options(max_create=max_create), keys=self._keys, books=None
        )
        return Plan.parse(msgspec.json.decode(msgspec.json.encode(plan.record())))

    def apply(self, plan: Plan) -> Applied:
        return apply(self._client, plan, Options(settle=0), keys=self._keys)


def test_successors_of_old_keys_are_no_more_than_were_approved(sim: Simulator) -> None:
    world = World(sim, 4, rotate={"every": "90d", "grace": "7d", "max_rotate": 4})
    for _ in range(4):
        sim.add_account("team-a", PRICES, balance=1)
    sim.clock.advance(days=91)
    approved = world.plan(max_create=1)
    assert [(each.kind, each.number) for each in approved.actions] == [("create", 1)]
    done = [world.apply(approved) for _ in range(3)]
    assert [each.counts["created"] for each in done] == [1, 0, 0]
    assert [each.because for each in done[1].matched.skipped] == ["done already"]


def test_missing_accounts_are_no_more_than_were_approved(sim: Simulator) -> None:
    world = World(sim, 3)
    for _ in range(2):
        sim.add_account("team-a", PRICES, balance=1)
    sim.clock.advance(minutes=1)
    approved = world.plan()
    assert approved.counts["create"] == 1
    sim.add_account("other")
    for number in (1, 2):
        sim.delete_account(number)
    done = [world.apply(approved) for _ in range(3)]
    assert [each.counts["created"] for each in done] == [1, 0, 0]
    assert [each.because for each in done[1].matched.skipped] == ["done already"]
    assert [[each.number for each in one.matched.unapproved] for one in done] == [[2], [2], [2]]


def test_of_two_approved_the_second_is_made_by_the_next_try(sim: Simulator) -> None:
    world = World(sim, 2)
    sim.add_account("other")
    approved = world.plan()
    sim.add_account("team-a", PRICES, balance=1)  # as a try leaves it that was killed
    done = [world.apply(approved) for _ in range(2)]
    assert [each.counts["created"] for each in done] == [1, 0]
    assert done[0].matched.unapproved == ()


@pytest.mark.parametrize("skew", [0, 8, -8])
@pytest.mark.parametrize("age", [0, 1, 300])
def test_it_matters_what_was_listed_and_no_clock(sim: Simulator, age: int, skew: int) -> None:
    world = World(sim, 4)
    for _ in range(2):
        sim.add_account("team-a", PRICES, balance=1)
    sim.clock.advance(seconds=age)
    world.skew = timedelta(minutes=skew)
    approved = world.plan()
    world.skew = timedelta()
    done = [world.apply(approved)]
    sim.delete_account(1)  # an old one
    done.append(world.apply(approved))
    assert [each.counts["created"] for each in done] == [2, 0]
    assert [each.because for each in done[1].matched.skipped] == ["done already"]


def test_what_was_there_is_in_the_digest_and_a_plan_without_it_is_refused(sim: Simulator) -> None:
    world = World(sim, 2)
    sim.add_account("team-a", PRICES, balance=1)
    record = world.plan().record()
    assert record["actions"][0]["there"] == [1]
    assert world.plan().digest == record["digest"]
    del record["actions"][0]["there"]  # as versions before made it
    with pytest.raises(InvalidParameter, match="another version of this package made it"):
        Plan.parse(record)
