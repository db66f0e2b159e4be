"""Verdicts: shared by all, learnt from real traffic, probed only where nothing else is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
from support import (
    Clock,
    Sleeps,
    client_of,
    clock_with,
    config_of,
    fixed_client,
    in_processes,
    in_threads,
    jumping_clock,
    platform,
)

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.cache import Cache, PoolState
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import AuthenticationFailed, NoHealthyBase
from airflow_provider_closeai.client.pool import BasePool
from airflow_provider_closeai.client.retry import Progress
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.provisioning.health import HealthCheck, check_bases
from airflow_provider_closeai.simulator import Request, Simulator


def bases_of(sim: Simulator, clock: Clock, **extra: Any) -> BasePool:
    config = config_of(sim, **extra)
    cache = Cache(config, clock=clock_with(now=clock))
    return BasePool(config, Transport(config), cache, clock_with(Sleeps(), clock))


def seen_of(sim: Simulator) -> PoolState:
    return Cache(config_of(sim)).read()


def chosen(pool: BasePool) -> str:
    with pool.choose(Progress(end=math.inf)) as base:
        return base


def served(base: str) -> Attempt:
    return Attempt(base=base, outcome=Outcome.EXECUTED, detail="served", status=200)


def failed(base: str) -> Attempt:
    return Attempt(base=base, outcome=Outcome.UNKNOWN, detail="status 500", status=500)


def connects(caplog: pytest.LogCaptureFixture, base: str) -> int:
    port = base.rpartition(":")[2]
    return sum(f"Starting new HTTP connection (1): 127.0.0.1:{port}" in text for text in caplog.messages)


def test_a_base_that_dies_costs_one_failed_connect_for_all(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    client_of(sim).list_bases()
    sim.stop_base(0)
    caplog.set_level("DEBUG", "urllib3")
    for _ in range(25):
        assert list(client_of(sim).iter_sub_accounts()) == []
    assert connects(caplog, sim.base_urls[0]) == 1
    assert sim.count("list", base=1) == 25
    assert sim.count("healthy") == 0


def _list_in_process(key: str, host: str) -> int:
    return len(list(CloseAIClient(config_from(password=key, host=host)).iter_sub_accounts()))


def test_what_one_process_learns_the_others_know(sim: Simulator) -> None:
    sim.fault("list", "error_before", base=0, times=None)
    list(client_of(sim).iter_sub_accounts())
    in_processes(4, _list_in_process, sim.key, sim.discovery_url)
    assert sim.count("list", base=0) == 1
    assert sim.count("list", base=1) == 5


def test_a_base_comes_back_after_one_probe(sim: Simulator, clock: Clock) -> None:
    bases = bases_of(sim, clock)
    bases.known()
    bases.report(failed(sim.base_urls[0]))
    clock.now += 299
    assert chosen(bases) == sim.base_urls[1]
    assert sim.count("healthy") == 0
    clock.now += 1
    assert chosen(bases_of(sim, clock)) == sim.base_urls[0]
    for _ in range(5):
        assert chosen(bases_of(sim, clock)) == sim.base_urls[0]
    assert sim.count("healthy", base=0) == 1
    assert sim.count("healthy", base=1) == 0


def test_a_base_that_stays_bad_is_probed_less_and_less_often(sim: Simulator, clock: Clock) -> None:
    sim.fault("healthy", "unhealthy", times=None)
    bases = bases_of(sim, clock)
    bases.known()
    bases.report(failed(sim.base_urls[0]))
    for probes in (0, 1, 1, 2, 2, 2, 2, 3):
        for _ in range(5):
            assert chosen(bases_of(sim, clock)) == sim.base_urls[1]
        assert sim.count("healthy") == probes
        clock.now += 300


def test_while_one_probes_the_others_do_not_wait(sim: Simulator, clock: Clock) -> None:
    bases = bases_of(sim, clock)
    bases.known()
    bases.report(failed(sim.base_urls[0]))
    clock.now += 300
    meanwhile: list[str] = []

    def hook(request: Request) -> None:
        if request.call == "healthy":
            meanwhile.append(chosen(bases_of(sim, clock)))

    sim.on_request = hook
    assert chosen(bases) == sim.base_urls[0]
    assert meanwhile == [sim.base_urls[1]]


def test_busy_deployments_never_probe(sim: Simulator, clock: Clock) -> None:
    bases = bases_of(sim, clock)
    bases.known()
    for _ in range(20):
        clock.now += 100
        for base in sim.base_urls:
            bases.report(served(base))
        assert all(health.healthy for health in bases.check_health())
    assert sim.count("healthy") == 0


def test_a_real_call_is_a_health_check(sim: Simulator) -> None:
    list(client_of(sim).iter_sub_accounts())
    healths = client_of(sim).check_health()
    assert [health.detail for health in healths] == ["served a call", "answered 'healthy'"]
    assert (sim.count("healthy", base=0), sim.count("healthy", base=1)) == (0, 1)


@pytest.mark.parametrize("status", [400, 401, 429])
def test_a_refusal_says_nothing_of_health(sim: Simulator, status: int) -> None:
    client = fixed_client(*sim.base_urls, key=sim.key, max_attempts=1)
    sim.fault("list", "status", status=status, body={"error": {"message": "no"}})
    with pytest.raises(Exception, match=str(status)):
        list(client.iter_sub_accounts())
    assert client.cache.read().verdicts == {}


def test_check_health_probes_once_per_base_and_ttl(sim: Simulator, clock: Clock) -> None:
    for number in range(1, 4):
        for _ in range(5):
            healths = bases_of(sim, clock).check_health()
            assert [health.base.api for health in healths] == sim.base_urls
            assert all(health.healthy and health.checked_at == clock.now for health in healths)
        assert (sim.count("healthy", base=0), sim.count("healthy", base=1)) == (number, number)
        clock.now += 300


def test_check_health_of_fifty_threads_probes_once(sim: Simulator) -> None:
    sim.fault("healthy", "slow", seconds=0.1, times=2)
    found = in_threads(50, lambda _: [health.healthy for health in client_of(sim).check_health()])
    assert found == [[True, True]] * 50
    assert (sim.count("healthy", base=0), sim.count("healthy", base=1)) == (1, 1)
    assert sim.count("links") == 1


def test_fifty_threads_on_one_client(sim: Simulator) -> None:
    client = client_of(sim)
    assert in_threads(50, lambda _: client.get_base_url()) == [sim.base_urls[0]] * 50
    assert sim.count("healthy") == 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("unhealthy", {}),
        ("parked", {}),
        ("error_before", {}),
        ("cut_before", {}),
        ("garbage", {}),
        ("redirect", {}),
        ("status", {"status": 200, "body": {"status": "healthy"}}),
        ("status", {"status": 404, "body": "healthy"}),
    ],
)
def test_what_is_not_healthy(sim: Simulator, kind: str, options: dict[str, Any]) -> None:
    sim.fault("healthy", kind, base=0, **options)
    healths = client_of(sim).check_health()
    assert [health.healthy for health in healths] == [False, True]
    assert client_of(sim).get_base_url() == sim.base_urls[1]


def test_a_base_that_is_down_is_not_healthy(sim: Simulator) -> None:
    client_of(sim).list_bases()
    sim.stop_base(0)
    assert [health.detail for health in client_of(sim).check_health()] == [
        "connection refused",
        "answered 'healthy'",
    ]


@pytest.mark.parametrize(
    ("content", "healthy"),
    [
        (b"healthy", True),
        (b"healthy\n", True),
        (b"Healthy", False),
        (b'"healthy"', False),
        (b"unhealthy", False),
    ],
)
def test_exactly_that_text(content: bytes, healthy: bool) -> None:
    with platform(lambda asked: (200, content)) as (origin, _):
        assert fixed_client(origin).check_health()[0].healthy is healthy


def test_asked_too_often_is_no_news(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).check_health()
    clock.now += 300
    sim.fault("healthy", "rate_limit", times=None)
    assert [health.healthy for health in bases_of(sim, clock).check_health()] == [True, True]
    asked = sim.count("healthy")
    bases_of(sim, clock).check_health()
    assert sim.count("healthy") == asked


def test_a_base_whose_probes_stay_throttled_is_not_healthy_for_ever(sim: Simulator, clock: Clock) -> None:
    client = client_of(sim, clock=clock_with(now=clock))
    assert [health.is_proof for health in client.check_health()] == [True, True]
    sim.fault("healthy", "rate_limit", times=None)
    for healthy in (True, False, False):
        clock.now += 300
        seen = client.check_health()
        assert [(health.healthy, health.is_proof) for health in seen] == 2 * [(healthy, False)]
    assert "429" in check_bases(lambda: client, "any").unknown
    list(client.iter_sub_accounts())  # it serves
    assert check_bases(lambda: client, "any").base == sim.base_urls[0]


def test_a_probe_that_is_refused_proves_that_the_base_is_not_healthy(sim: Simulator) -> None:
    sim.fault("healthy", "status", status=403, body={"message": "no"}, times=None)
    client = client_of(sim)
    assert [(health.healthy, health.is_proof) for health in client.check_health()] == 2 * [(False, True)]
    assert check_bases(lambda: client, "any").unknown == ""


@pytest.mark.parametrize("throttled", [[0], [1], [0, 1]])
def test_a_throttled_probe_of_a_new_base_is_not_the_word_that_none_is_healthy(
    sim: Simulator, clock: Clock, throttled: list[int]
) -> None:
    client = client_of(sim, clock=clock_with(now=clock))
    for index in range(2):
        if index in throttled:
            sim.fault("healthy", "rate_limit", base=index, times=None)
        else:
            sim.stop_base(index)
    for _ in range(2):
        found = check_bases(lambda: client, "any")
        assert found.base is None
        assert "429" in found.unknown
        clock.now += 300
    sim.clear_faults()
    assert check_bases(lambda: client, "any").base == sim.base_urls[throttled[0]]


def test_none_healthy_says_what_was_seen(sim: Simulator) -> None:
    sim.fault("healthy", "unhealthy", times=None)
    with pytest.raises(NoHealthyBase, match="within 300 s") as caught:
        client_of(sim).get_base_url()
    assert not caught.value.permanent
    for base in sim.base_urls:
        assert base in str(caught.value)


def test_status_and_bad_verdicts_decide_which_base_serves(sim: Simulator) -> None:
    sim.set_status(0, "down")
    list(client_of(sim).iter_sub_accounts())
    assert sim.count("list", base=1) == 1
    sim.stop_base(1)
    list(client_of(sim).iter_sub_accounts())
    assert sim.count("list", base=0) == 1


@pytest.mark.parametrize(
    ("bad", "require", "use"),
    [
        ([], "all", 0),
        ([1], "all", None),
        ([0], "any", 1),
        ([0], "primary", None),
        ([1], "primary", 0),
        ([0, 1], "any", None),
    ],
)
def test_look_decides_for_sensor_and_trigger(
    sim: Simulator, bad: list[int], require: str, use: int | None
) -> None:
    for index in bad:
        sim.fault("healthy", "unhealthy", base=index)
    assert check_bases(lambda: client_of(sim), require).base == (None if use is None else sim.base_urls[use])


def test_look_goes_on_while_discovery_is_down_and_gives_up_on_a_refused_key(sim: Simulator) -> None:
    sim.fault("links", "error_before")
    found = check_bases(lambda: client_of(sim), "any")
    assert found.base is None
    assert "discovery" in found.unknown
    wrong = config_from(password="sk-wrong", host=sim.discovery_url)
    with pytest.raises(Exception, match="refuses the key"):
        check_bases(lambda: CloseAIClient(wrong), "any")
    with pytest.raises(ValueError, match="require"):
        check_bases(lambda: client_of(sim), "most")


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_discovery_refuses_later_fails_the_look_and_no_call(
    sim: Simulator, clock: Clock, status: int
) -> None:
    client = client_of(sim, clock=clock_with(now=clock))
    assert check_bases(lambda: client, "any").base == sim.base_urls[0]
    clock.now += 3600
    sim.fault("links", "status", status=status, body={"error": {"message": "revoked"}})
    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match="refuses the key") as caught:
            check_bases(lambda: client, "any")
        assert caught.value.permanent
    assert list(client.iter_sub_accounts()) == []
    assert sim.count("links") == 2
    clock.now += 60
    assert check_bases(lambda: client, "any").base == sim.base_urls[0], "it is accepted again"


def test_somebody_elses_401_at_discovery_fails_no_look(sim: Simulator, clock: Clock) -> None:
    client = client_of(sim, clock=clock_with(now=clock))
    client.list_bases()
    clock.now += 3600
    sim.fault("links", "foreign", status=401, times=None)
    assert check_bases(lambda: client, "any").base == sim.base_urls[0]
    assert sim.count("links") == 2


def test_a_process_that_is_stuck_while_it_probes_is_not_waited_for_without_end(sim: Simulator) -> None:
    """Such as a child that was forked meanwhile: it holds the lock, and probes nothing."""
    clock = jumping_clock()
    assert client_of(sim, clock=clock).check_health()[0].healthy
    sim.stop_base(0)
    sim.stop_base(1)
    clock.sleep(48 * 3600)
    with Cache(config_of(sim)).try_lock("health") as theirs:
        assert theirs
        began = clock.now()
        assert check_bases(lambda: client_of(sim, clock=clock), "any") == HealthCheck()
        assert 0 < clock.now() - began < 65
        with pytest.raises(NoHealthyBase, match="refused"):
            client_of(sim, clock=clock).get_base_url()


def test_knowledge_of_bases_that_are_gone_is_dropped(sim: Simulator, clock: Clock) -> None:
    bases = bases_of(sim, clock)
    bases.check_health()
    sim.set_links([{"api": sim.base_urls[1], "priority": 1, "status": "ok"}])
    clock.now += 4000
    bases.known()
    assert set(Cache(config_of(sim), clock=clock_with(now=clock)).read().verdicts) == {sim.base_urls[1]}
