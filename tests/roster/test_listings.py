"""How often applying a roster lists: once before and once after, whatever it changes of however many."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from shared_names import Names
from support import HANG, client_of, in_threads, jumping_clock

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.price_lock import PriceLock
from airflow_provider_closeai.roster import Options, apply, read_roster
from airflow_provider_closeai.simulator import Request, Simulator
from airflow_provider_closeai.sinks.base import SinkKeys

KINDS = ("create", "update", "delete")
COMBINATIONS = [each for size in (1, 2, 3) for each in itertools.combinations(KINDS, size)]
ALL = Options(prune=True, max_delete="100%")
WHOLE = 5000  # accounts on a page: a whole listing is one call


def fleet(sim: Simulator, kinds: tuple[str, ...], number: int) -> dict[str, Any]:
    """Make accounts, and a roster that asks for these changes, each of so many aliases."""
    accounts = []
    sim.add_account("other")
    for index in range(number):
        if "create" in kinds:
            accounts.append({"alias": f"team-new-{index}"})
        if "update" in kinds:
            sim.add_account(f"team-price-{index}", [{"model": "m", "pricing_factor": 2}])
            accounts.append({"alias": f"team-price-{index}"})
        if "delete" in kinds:
            sim.add_account(f"team-old-{index}")
    defaults = {"balance": 1, "model_pricing": {"m": 1}}
    return {"version": 1, "owns": ["team-*"], "defaults": defaults, "accounts": accounts}


def lists_of(sim: Simulator, tree: dict[str, Any], names: Names | None = None, **options: Any) -> int:
    """Apply a roster, and say how often that listed. Nothing is in doubt, so that nothing waits."""

    def sleep(seconds: float) -> None:
        raise AssertionError(f"it waits {seconds} s")

    client = client_of(sim, sleep, page_size=WHOLE)
    client.list_bases()
    before = sim.count("list")
    apply(client, read_roster(tree), ALL, this_try=runner.Try(names=names), **options)
    return sim.count("list") - before


@pytest.mark.parametrize("number", [60, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 300))])
@pytest.mark.parametrize("kinds", COMBINATIONS, ids="+".join)
def test_one_listing_before_and_one_after(sim: Simulator, kinds: tuple[str, ...], number: int) -> None:
    tree = fleet(sim, kinds, number)
    names = Names()
    assert lists_of(sim, tree, names) == 2
    assert sim.count("create") == (number if "create" in kinds else 0)
    assert sim.count("update") == (number if "update" in kinds else 0)
    assert sorted({account["alias"] for account in sim.accounts()} - {"other"}) == sorted(
        entry["alias"] for entry in tree["accounts"]
    )
    assert lists_of(sim, tree, names) == 1, "nothing is left to do"


def test_all_that_is_in_doubt_is_waited_for_once(sim: Simulator) -> None:
    tree = fleet(sim, KINDS, 20)
    waits: list[float] = []
    client = client_of(sim, waits.append, page_size=WHOLE)
    client.list_bases()
    sim.settings.list_lag = 3600
    sim.fault("create", "cut_before", times=5)

    def show(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)
        if sum(waits) > 1:
            sim.settings.list_lag = 0

    client = client_of(sim, show, page_size=WHOLE)
    listed = sim.count("list")
    done = apply(client, read_roster(tree), Options(prune=True, max_delete="100%", settle=2))
    assert (len(done.created), len(done.repriced), len(done.deleted)) == (20, 20, 20)
    assert sim.count("create") == 25, "five were sent again, once the listing could be believed"
    assert sum(waits) < 3, "some wait for themselves"
    assert sim.count("list") - listed == 4 + len(waits), "before, after each post and wait, and before more"


def test_an_alias_that_is_repriced_and_grows_is_claimed_once_at_a_time(sim: Simulator) -> None:
    sim.add_account("team-a", [{"model": "m", "pricing_factor": 2}])
    tree = fleet(sim, (), 0)
    tree["accounts"] = [{"alias": "team-a", "count": 2}]
    names = Names()
    assert lists_of(sim, tree, names) == 2
    assert [account["model_pricing"][0]["pricing_factor"] for account in sim.accounts("team-a")] == [1, 1]
    assert names.of("lock") == []


@pytest.mark.parametrize("waits", [10, 60])
@pytest.mark.parametrize("what", ["renamed", "deleted"])
def test_what_changes_while_a_claim_is_waited_for_is_not_taken_back(
    sim: Simulator, what: str, waits: float
) -> None:
    """The listing from before the wait says nothing of it."""
    account = sim.add_account("team-a", [{"model": "m", "pricing_factor": 2}])
    tree = {**fleet(sim, (), 0), "accounts": [{"alias": "team-a"}]}
    names, clock = Names(), jumping_clock()
    sleep, began = clock.sleep, clock.monotonic()
    other = PriceLock(client_of(sim, clock=clock), names)
    other.acquire({"team-a"})

    def wait(seconds: float) -> None:
        sleep(seconds)
        other.keep()
        if clock.monotonic() - began > waits and other.is_held:
            other.release()
            if what == "deleted":
                sim.delete_account(account["id"])
            else:
                client = client_of(sim)
                client.update(list(client.iter_sub_accounts("team-a")), "renamed", {"m": Decimal(2)})

    client = client_of(sim, clock=msgspec.structs.replace(clock, sleep=wait))
    done = apply(client, read_roster(tree), Options(), this_try=runner.Try(names=names))
    assert done.repriced == ()
    assert {one["alias"] for one in sim.accounts()} == {"other", what} - {"deleted"}
    assert names.of("lock") == []


class Books:
    """Notes the last costs of what is deleted."""

    def __init__(self) -> None:
        self.last: list[str] = []

    def spent(self, accounts: Sequence[SubAccount], at: datetime) -> dict[str, Decimal]:
        return {}

    def record_listing(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        pass

    def record_deleted(self, accounts: Sequence[SubAccount], at: datetime) -> None:
        self.last += [str(account.monthly_cost) for account in accounts]


@pytest.mark.parametrize("settle", [30, 600])
def test_last_costs_are_not_old_ones_however_long_bases_may_lag(sim: Simulator, settle: float) -> None:
    account = sim.add_account("team-old", monthly_cost="1")
    sim.add_account("team-a", [{"model": "m", "pricing_factor": 1}])
    tree = {**fleet(sim, (), 0), "accounts": [{"alias": "team-a"}]}
    clock, books = jumping_clock(), Books()

    class Slow:
        def deliver(self, delivered: SubAccount) -> str:
            clock.sleep(100)
            sim.correct_cost(account["id"], 5)
            return "key"

    options = Options(prune=True, max_delete="100%", settle=settle)
    keys = SinkKeys(Slow(), {}, str)
    apply(client_of(sim, clock=clock), read_roster(tree), options, keys=keys, books=books)
    assert books.last == ["6"]


def test_a_create_that_updates_and_a_roster_do_not_wait_for_each_other(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one host: the create has the alias when the roster, which sets prices, wants it."""
    monkeypatch.setattr(locking, "LOCK_WAIT", 3.0)
    sim.add_account("team-a", [{"model": "m", "pricing_factor": 2}])
    tree = {**fleet(sim, (), 0), "accounts": [{"alias": "team-a", "count": 2}]}
    creates, reprices = threading.Event(), threading.Event()

    def meet(request: Request) -> None:
        if request.call == "update":
            reprices.set()
        elif request.call == "create" and not creates.is_set():
            creates.set()
            assert reprices.wait(HANG)

    sim.on_request = meet

    def task(number: int) -> None:
        client = client_of(sim)
        if number:
            request = CreateRequest.parse("team-a", {"m": 3}, 1, 2, if_exists="update", settle=0.3)
            runner.create(client, request)
        else:
            assert creates.wait(HANG)
            apply(client, read_roster(tree), Options(settle=0.3))

    in_threads(2, task)
    assert len(sim.accounts("team-a")) == 2
