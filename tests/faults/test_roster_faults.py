"""A roster whose application meets a fault, or dies there: promises hold, and the next run ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fault_kinds import halved
from fault_sink import Sink
from fault_world import Killed, World

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.roster import Options, apply, read_roster
from airflow_provider_closeai.sinks.base import SinkKeys

LAG = 10.0  # the listing shows a change so many seconds later; settle is 30
FAULTS: dict[str, dict[str, Any]] = {
    "cut_before": {},
    "cut_after": {},
    "error_after": {},
    "garbage": {},
    "decline": {"form": "success"},
    "foreign": {"form": "html", "status": 403},
    "error_before": {},
    "parked": {},
    "rate_limit": {"retry_after": 7},
}
CALLS = ("list", "update", "delete", "create")
CELLS = [(call, kind) for call in CALLS for kind in FAULTS if call != "list" or kind != "decline"]
CELLS += [
    ("create", "late"),
    ("create", "part"),
    ("listing in the ledger", "killed"),
    ("costs in the ledger", "killed"),
    *((call, "killed") for call in CALLS),
    ("deliver", "killed"),
    ("deliver", "down"),
]
ROSTER = {
    "version": 1,
    "owns": ["team-*"],
    "defaults": {"balance": 1, "model_pricing": {"gpt-4": 1}},
    "accounts": [
        {"alias": "team-new", "count": 2},
        {"alias": "team-more", "count": 3},
        {"alias": "team-price", "model_pricing": {"gpt-4": "0.5"}},
        {"alias": "team-old", "rotate": {"every": "90d", "grace": "7d"}},
        {"alias": "team-end", "expires": "2020-01-01T00:00:00Z"},
    ],
}
WANTED = {"team-new": 2, "team-more": 3, "team-price": 1, "team-old": 1}


class Books:
    """A ledger that the process may die in."""

    def __init__(self) -> None:
        self.dies_at = ""
        self.last_costs: set[str | None] = set()

    def spent(self, accounts: Sequence[SubAccount], at: datetime) -> Mapping[str, Decimal]:
        return {}

    def record_listing(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        if self.dies_at == "listing in the ledger":
            raise Killed

    def record_deleted(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        if self.dies_at == "costs in the ledger":
            raise Killed
        self.last_costs |= {account.alias for account in accounts}


class Fleet:
    """A platform with something to do of every kind."""

    def __init__(self, world: World) -> None:
        self.world, self.sim, self.number = world, world.sim, 0
        self.sink, self.books = Sink(world), Books()
        self.keep_time()
        self.sim.add_account("team-more")
        self.sim.add_account("team-price")
        now = datetime.fromtimestamp(world.clock.time(), UTC)
        for age in (100, 20):
            made = now - timedelta(days=age)
            account = self.sim.add_account("team-old", created_at=made)
            self.sink.keys[account["id"]] = (account["token"], made.timestamp())
        self.sim.add_account("team-end")
        self.sim.add_account("team-pruned")
        self.others = [self.sim.add_account("other"), self.sim.add_account("Team-x")]

    def keep_time(self) -> None:
        self.sim.clock.set(datetime.fromtimestamp(self.world.clock.time(), UTC))

    def run(self) -> BaseException | None:
        """Apply as a process of its own would; returns its error."""
        self.number += 1
        self.keep_time()
        client = self.world.client()
        this_try = runner.Try(task="d/r/sync/-1", is_retry=self.number > 1)
        options = Options(prune=True, max_delete=3)
        before = self.in_use()

        def sync() -> Any:
            roster = read_roster(ROSTER)
            keys = SinkKeys(self.sink, {}, str)
            return apply(client, roster, options, keys=keys, books=self.books, this_try=this_try)

        [(_, error)] = self.world.clock.run([(sync, None)])
        self.world.close_sessions()
        if error is not None and not isinstance(error, CloseAIError | Killed):
            raise error
        self.world.assert_no_key(error)
        self.check(before)
        return error

    def in_use(self) -> set[int]:
        there = {account["id"]: account["token"] for account in self.sim.accounts("team-old")}
        return {each for each, token in there.items() if self.sink.keys.get(each, ("",))[0] == token}

    def check(self, before: set[int]) -> None:
        assert self.in_use() or not before, "no key works"
        for alias, count in WANTED.items():
            assert len(self.sim.accounts(alias)) <= max(count, 2 * (alias == "team-old")), alias
        now = {account["id"]: account for account in self.sim.accounts()}
        for account in self.others:
            for field in ("token", "alias", "model_pricing"):
                assert now[account["id"]][field] == account[field], "another alias was touched"

    def check_end(self) -> None:
        found = {alias: len(self.sim.accounts(alias)) for alias in ("team-end", "team-pruned", *WANTED)}
        assert found == {"team-end": 0, "team-pruned": 0, **WANTED}
        assert self.books.last_costs == {"team-end", "team-pruned", "team-old"}
        [account] = self.sim.accounts("team-price")
        assert account["model_pricing"] == [{"model": "gpt-4", "pricing_factor": 0.5}]
        ours = [account for alias in WANTED for account in self.sim.accounts(alias)]
        assert {each["id"]: each["token"] for each in ours}.items() <= {
            key: token for key, (token, _) in self.sink.keys.items()
        }.items(), "a key is not in the sink"


@pytest.mark.parametrize(("call", "kind"), halved(CELLS))
def test_a_roster_keeps_its_promises(call: str, kind: str) -> None:
    with World(list_lag=LAG, alias_filter="substring") as world:
        fleet = Fleet(world)
        if call == "deliver":
            fleet.sink.trouble = Killed() if kind == "killed" else RuntimeError("the sink is down")
        elif call.endswith("ledger"):
            fleet.books.dies_at = call
        elif kind == "killed":

            def kill(name: str, base: str) -> None:
                if name == call:
                    raise Killed

            world.after = kill
        elif kind == "part":
            fleet.sim.fault(call, "decline", times=None, form="success", made=1)
        elif kind == "late":
            fleet.sim.fault(call, kind, times=1, seconds=6)
        else:
            fleet.sim.fault(call, kind, times=None, **FAULTS[kind])
        first = fleet.run()
        assert first is not None or kind in ("late", "cut_after", "error_after", "garbage", "foreign")
        if call == "list" and kind != "killed":
            assert not world.sim.count("create")
        if (call, kind) == ("deliver", "down"):
            assert fleet.sim.accounts("team-price")[0]["model_pricing"][0]["pricing_factor"] == 0.5
            assert len(fleet.sim.accounts("team-pruned")) == 1, "something went before keys were delivered"
        world.after = fleet.sink.trouble = None
        fleet.books.dies_at = ""
        fleet.sim.clear_faults()
        world.clock.advance(5.0)
        assert fleet.run() is None, "the next run does what is left"
        fleet.check_end()
        world.clock.advance(LAG)
        posts = fleet.sim.count("create")
        assert fleet.run() is None
        assert fleet.sim.count("create") == posts, "nothing is left to create"
        fleet.check_end()


@pytest.mark.parametrize(
    "number", [pytest.param(each, marks=pytest.mark.slow if each % 2 else ()) for each in range(14)]
)
def test_it_may_die_at_any_call_and_at_any_delivery(number: int) -> None:
    """The process dies at its call (or delivery) of each number; the next one ends it."""
    with World(list_lag=LAG, alias_filter="substring") as world:
        fleet = Fleet(world)
        seen = iter(range(1000))

        def strike(*_: Any) -> None:
            if next(seen) == number:
                raise Killed

        world.after = strike
        deliver = fleet.sink.deliver

        def delivered(account: SubAccount) -> str:
            strike()
            return deliver(account)

        fleet.sink.deliver = delivered  # type: ignore[method-assign]
        fleet.run()
        world.after = None
        world.clock.advance(5.0)
        assert fleet.run() is None
        world.clock.advance(LAG)
        assert fleet.run() is None
        fleet.check_end()
