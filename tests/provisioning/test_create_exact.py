"""After any crash, cut, timeout or retry, exactly ``count`` accounts of an alias."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any

import pytest
from support import GPT4, Sleeps, client_of, in_processes, jumping_clock, process, run_and_kill, run_create

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    CloseAIError,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    Rejected,
)
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import AliasBusy
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.simulator import Request, Simulator

SETTLE = 0.2


def ensure(client: CloseAIClient, alias: str = "a", count: int = 1, **options: Any) -> list[SubAccount]:
    tries = {name: options.pop(name) for name in ("first_try", "task") if name in options}
    want = CreateRequest.parse(alias, GPT4, 1, count, **{"settle": SETTLE, **options})
    return run_create(client, want, **tries)


def alias_ids(sim: Simulator, alias: str = "a") -> list[int]:
    return [account["id"] for account in sim.accounts(alias)]


def test_the_plain_way_lists_before_and_after_and_posts_once(sim: Simulator) -> None:
    made = ensure(client_of(sim), "team", 3)
    assert [account.id for account in made] == alias_ids(sim, "team")
    assert [account.token.reveal() for account in made] == [item["token"] for item in sim.accounts("team")]
    assert sim.counts() == {"links": 1, "list": 2, "create": 1}
    [post] = [request for request in sim.requests if request.call == "create"]
    assert post.body == {
        "alias": "team",
        "model_pricing": [{"model": "gpt-4", "pricing_factor": 1}],
        "balance": 1,
        "count": 3,
    }


def test_asking_again_changes_nothing(sim: Simulator) -> None:
    client = client_of(sim)
    first = ensure(client, count=2)
    assert ensure(client_of(sim), count=2) == first
    assert sim.count("create") == 1


@pytest.mark.parametrize(
    ("present", "count", "batch", "posts"), [(0, 250, 100, [100, 100, 50]), (3, 5, 100, [2])]
)
def test_only_what_is_missing_is_posted_in_batches(
    sim: Simulator, present: int, count: int, batch: int, posts: list[int]
) -> None:
    for _ in range(present):
        sim.add_account("a", [{"model": "gpt-4", "pricing_factor": 1}])
    made = ensure(client_of(sim), count=count, batch_size=batch)
    assert len(made) == len(alias_ids(sim)) == count
    assert [request.body["count"] for request in sim.requests if request.call == "create"] == posts


UNKNOWN = [
    ("cut_before", {}),
    ("cut_after", {}),
    ("error_before", {}),
    ("error_after", {}),
    ("error_before", {"status": 503}),
    ("error_after", {"status": 502}),
    ("parked", {}),
    ("garbage", {}),
    ("redirect", {}),
    ("hang", {}),
    ("hang", {"work": True}),
    ("slow", {"seconds": 20}),
    ("drip", {"seconds": 5}),
    ("status", {"status": 200, "body": {}}),
]


@pytest.mark.parametrize(
    "skip", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["first post", "second post"]
)
@pytest.mark.parametrize(("kind", "options"), UNKNOWN, ids=[f"{kind} {options}" for kind, options in UNKNOWN])
def test_after_an_unknown_outcome_the_listing_decides(
    sim: Simulator, kind: str, options: dict[str, Any], skip: int
) -> None:
    fault = sim.fault("create", kind, skip=skip, **options)
    made = ensure(client_of(sim, read_timeout=0.3, deadline=5), count=4, batch_size=2)
    assert fault.hits == 1
    assert [account.id for account in made] == alias_ids(sim)
    assert len(made) == 4
    executed = [request for request in sim.requests if request.call == "create" and request.executed]
    assert sum(request.body["count"] for request in executed) == 4


@pytest.mark.parametrize(("kind", "options"), UNKNOWN, ids=[f"{kind} {options}" for kind, options in UNKNOWN])
def test_a_create_is_never_sent_twice_by_itself(sim: Simulator, kind: str, options: dict[str, Any]) -> None:
    sim.fault("create", kind, **options)
    client = client_of(sim, read_timeout=0.3, deadline=5)
    with pytest.raises(OutcomeUnknown, match="A retry of the task looks before it sends again"):
        client.create("a", {"gpt-4": Decimal(1)}, Decimal(1), 1)
    assert sim.count("create") == 1


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "error_after"])
def test_a_lagging_listing_is_waited_for(kind: str) -> None:
    with Simulator(list_lag=0.3) as sim:
        sim.fault("create", kind)
        made = ensure(client_of(sim), count=3, settle=0.6)
        assert [account.id for account in made] == alias_ids(sim)
        assert len(made) == 3


def test_a_process_that_was_killed_after_its_post_is_waited_for() -> None:
    with Simulator(list_lag=0.3) as sim:
        victim = process(_ensure_in_process, sim.key, sim.discovery_url, "a")
        run_and_kill(sim, victim, lambda request: request.call == "create")
        again = ensure(client_of(sim), count=3, settle=0.6)  # another task's first try
        assert [account.id for account in again] == alias_ids(sim)
        assert len(again) == 3
        assert sim.count("create") == 1


def test_a_retry_on_another_host_waits_although_no_note_is_there() -> None:
    with Simulator(list_lag=0.3) as sim:
        client_of(sim).create("a", {"gpt-4": Decimal(1)}, Decimal(1), 2)
        again = ensure(client_of(sim), count=2, settle=0.6, first_try=False)
        assert [account.id for account in again] == alias_ids(sim)
        assert sim.count("create") == 1


def test_a_first_try_with_nothing_in_doubt_does_not_wait(sim: Simulator) -> None:
    def never(seconds: float) -> None:
        raise AssertionError("it waited")

    assert len(ensure(client_of(sim, sleep=never), settle=30)) == 1


def test_unknown_on_every_base_ends_after_three_posts(sim: Simulator) -> None:
    sim.fault("create", "cut_before", times=None)
    clock = jumping_clock()
    with pytest.raises(OutcomeUnknown) as caught:
        ensure(client_of(sim, clock=clock))
    assert not caught.value.permanent
    assert sim.count("create") == 3
    assert alias_ids(sim) == []
    assert sim.count("create", base=0)
    assert sim.count("create", base=1)
    sim.clear_faults()
    assert len(ensure(client_of(sim, clock=clock), first_try=False)) == 1
    assert len(alias_ids(sim)) == 1


def test_unknown_thrice_but_executed_is_found(sim: Simulator) -> None:
    sim.fault("create", "cut_after", times=None)
    assert len(ensure(client_of(sim), count=6, batch_size=3)) == 6
    assert sim.count("create") == 2


def test_all_bases_down_changes_nothing(sim: Simulator) -> None:
    def die(request: Request) -> None:
        if request.call == "list":
            sim.stop_base(1)
            sim.stop_base(0)  # cuts the listing's answer too

    sim.on_request = die
    with pytest.raises(OutcomeUnknown, match="only reads"):
        ensure(client_of(sim, sleep=Sleeps()))
    with pytest.raises(NotSent, match="nothing was changed"):
        ensure(client_of(sim, sleep=Sleeps()))
    sim.on_request = None
    assert sim.count("create") == 0
    sim.start_base(0)
    sim.start_base(1)
    assert len(ensure(client_of(sim, clock=jumping_clock()), first_try=False)) == len(alias_ids(sim)) == 1


def test_a_base_that_dies_before_the_post_costs_nothing(sim: Simulator) -> None:
    def die(request: Request) -> None:
        if request.call == "list" and request.host == "base-0":
            sim.on_request = None
            sim.stop_base(0)

    sim.on_request = die
    assert len(ensure(client_of(sim), count=2)) == len(alias_ids(sim)) == 2
    assert sim.count("create", base=1) == 1


def test_a_rate_limited_post_is_sent_again(sim: Simulator) -> None:
    fault = sim.fault("create", "rate_limit", retry_after=0, times=2)
    assert len(ensure(client_of(sim), count=2)) == len(alias_ids(sim)) == 2
    assert fault.hits == 2


def test_a_rate_limit_longer_than_the_deadline_is_told_at_once(sim: Simulator) -> None:
    sim.fault("create", "rate_limit", retry_after=600, times=None)
    with pytest.raises(RateLimited) as caught:
        ensure(client_of(sim))
    assert caught.value.retry_after == 600
    assert sim.count("create") == 1


@pytest.mark.parametrize("kind", ["rate_limit", "status"])
def test_what_was_made_before_a_call_that_changed_nothing_is_told(sim: Simulator, kind: str) -> None:
    options: dict[str, Any] = {"status": 400, "body": {"message": "a limit"}}
    sim.fault(
        "create", kind, times=None, skip=1, **({"retry_after": 600} if kind == "rate_limit" else options)
    )
    with pytest.raises(
        (RateLimited, Rejected), match=r"Before that call ids \[1, 2\] of alias 'a' were created\."
    ):
        ensure(client_of(sim), count=4, batch_size=2)
    assert alias_ids(sim) == [1, 2]


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_refusal_is_final(sim: Simulator, status: int) -> None:
    sim.fault("create", "status", times=None, status=status, body={"error": {"message": "no"}})
    with pytest.raises(Rejected) as caught:
        ensure(client_of(sim))
    assert caught.value.permanent
    assert sim.count("create") == 1


def test_a_wrong_key_is_final(sim: Simulator) -> None:
    config = config_from(password="sk-other", extra={"api_bases": sim.base_urls})
    with pytest.raises(AuthenticationFailed):
        ensure(CloseAIClient(config))
    assert sim.count("create") == 0


def test_any_error_leaves_at_most_count(sim: Simulator) -> None:
    """Whatever goes wrong in whatever order, tries repeated until one succeeds make it exact."""
    for number, kind in enumerate(
        ("cut_after", "rate_limit", "error_after", "cut_before", "garbage", "parked")
    ):
        sim.fault("create", kind, **({"retry_after": 900} if kind == "rate_limit" else {}))
        sim.fault("list", "error_before", skip=number, times=1)
    made: list[SubAccount] = []
    permanent, clock = [], jumping_clock()
    for number in range(10):
        try:
            made = ensure(client_of(sim, clock=clock), count=7, batch_size=2, first_try=number == 0)
            break
        except CloseAIError as error:
            permanent.append(error.permanent)
        assert len(alias_ids(sim)) <= 7
    assert permanent
    assert not any(permanent)
    assert [account.id for account in made] == alias_ids(sim)
    assert len(made) == 7


def _ensure_in_process(key: str, host: str, alias: str) -> list[int]:
    client = CloseAIClient(config_from(password=key, host=host))
    return [account.id for account in ensure(client, alias, 3)]


def test_processes_at_once_make_it_exact() -> None:
    with Simulator(list_lag=0.1) as sim:
        results = in_processes(4, _ensure_in_process, sim.key, sim.discovery_url, "shared")
        ids = alias_ids(sim, "shared")
        assert len(ids) == 3
        assert results == [ids] * 4
        assert sim.count("create") == 1
        assert sim.count("links") == 1


def test_an_alias_that_others_hold_costs_the_other_aliases_nothing(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "LOCK_WAIT", 0.1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locking.alias_lock(client_of(sim), "alias:b"):
            held.set()
            assert done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    wanted = [CreateRequest.parse(alias, {"gpt-4": 1}, 1, 1, settle=0.3) for alias in "abc"]
    results = runner.create_all(client_of(sim), wanted)
    done.set()
    holder.join()
    assert [len(each) if isinstance(each, list) else type(each) for each in results] == [1, AliasBusy, 1]


def test_two_aliases_do_not_wait_for_each_other(sim: Simulator) -> None:
    client = client_of(sim)
    done: list[int] = []

    def meanwhile(request: Request) -> None:
        if request.call == "create" and request.body["alias"] == "a":
            sim.on_request = None
            done.append(len(ensure(client_of(sim), "b", 1)))

    sim.on_request = meanwhile
    started = time.monotonic()
    ensure(client, "a", 1)
    assert done == [1]
    assert time.monotonic() - started < 15
