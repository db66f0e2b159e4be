"""A base that swallows connections, or of which nothing is known: one process at a time finds out."""

from __future__ import annotations

import contextlib
import math
import socket
from typing import Any

import pytest
from support import (
    Asked,
    Clock,
    Sleeps,
    clock_with,
    config_of,
    fixed_client,
    platform,
    raw_server,
    read_request,
)

from airflow_provider_closeai import local_state
from airflow_provider_closeai.client.bases import is_lost
from airflow_provider_closeai.client.cache import Cache, PoolState
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import AuthenticationFailed, CloseAIError, OutcomeUnknown
from airflow_provider_closeai.client.models import ApiBase
from airflow_provider_closeai.client.pool import HEALTHY, BasePool
from airflow_provider_closeai.client.retry import Progress
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.simulator import Simulator


def test_only_one_process_at_a_time_risks_a_base_of_which_nothing_is_known(sim: Simulator) -> None:
    sim.swallow_base(0)
    config = config_of(sim, connect_timeout=30)
    pools = [BasePool(config, Transport(config), Cache(config)) for _ in range(3)]
    with pools[0].choose(Progress(end=math.inf)) as first, pools[1].choose(Progress(end=0)) as second:
        assert [first, second] == sim.base_urls
        client = CloseAIClient(config)
        client.pool.report(client.pool._transport.attempt(HEALTHY, second, seconds=5))
        with pools[2].choose(Progress(end=math.inf)) as third:
            assert third == second
    with pools[2].choose(Progress(end=math.inf)) as fourth:
        assert fourth == sim.base_urls[0], "a risk that is over is taken by the next"


def pool_of(sim: Simulator, **how: Any) -> BasePool:
    config = config_of(sim)
    cache = Cache(config, clock=clock_with(now=how.get("now")))
    return BasePool(config, Transport(config), cache, clock_with(**how))


def ask(pool: BasePool, base: str) -> None:
    pool.report(pool._transport.attempt(HEALTHY, base, seconds=5))


def test_who_waits_takes_no_base_that_was_found_ill_meanwhile(sim: Simulator) -> None:
    first, second = sim.base_urls
    found = [first, second]

    def sleep(seconds: float) -> None:
        ask(pool_of(sim), found.pop(0))

    sim.stop_base(0)
    with contextlib.ExitStack() as held:
        assert held.enter_context(pool_of(sim).choose(Progress(end=math.inf))) == first
        assert held.enter_context(pool_of(sim).choose(Progress(end=math.inf))) == second
        assert held.enter_context(pool_of(sim, sleep=sleep).choose(Progress(end=math.inf))) == second
    assert found == []


def test_the_wait_for_others_ends_whatever_the_clock_does(sim: Simulator, clock: Clock) -> None:
    sleeps = Sleeps()
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(pool_of(sim).choose(Progress(end=math.inf)))
        waiting = pool_of(sim, now=clock, sleep=sleeps).choose(Progress(end=math.inf))
        assert held.enter_context(waiting) == sim.base_urls[0]
    assert round(sum(sleeps.asked)) == config_of(sim).connect_timeout


@pytest.mark.parametrize("seconds", [math.inf, 2])
def test_the_wait_for_others_ends_in_time_whatever_a_read_of_the_store_takes(
    sim: Simulator, seconds: float
) -> None:
    passed = 0.0

    class SlowStore:
        def read(self) -> str | None:
            nonlocal passed
            passed += 0.4
            return None

        def write(self, text: str) -> None:
            pass

    config = config_of(sim)
    clock = local_state.Clock(monotonic=lambda: passed, sleep=lambda seconds: None)
    pool = BasePool(config, Transport(config), Cache(config, lambda name: SlowStore()), clock)
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(pool_of(sim).choose(Progress(end=math.inf)))
        pool.known()
        passed = 0.0
        held.enter_context(pool.choose(Progress(end=seconds)))
    assert passed <= min(config.connect_timeout, seconds) + 2 * 0.4


def test_who_waited_long_enough_takes_no_base_that_is_known_to_be_ill(sim: Simulator) -> None:
    first, second = sim.base_urls
    asked: list[float] = []

    def sleep(seconds: float) -> None:
        if not asked:
            ask(pool_of(sim), first)
        asked.append(seconds)

    sim.stop_base(0)
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(pool_of(sim).choose(Progress(end=math.inf)))
        assert held.enter_context(pool_of(sim, sleep=sleep).choose(Progress(end=math.inf))) == second
    assert len(asked) > 1


def test_an_answer_that_is_only_renewed_puts_nothing_off(sim: Simulator, clock: Clock) -> None:
    pool = pool_of(sim, now=clock)
    for number in range(1, 4):
        pool.known()
        assert sim.count("links") == number
        clock.now += 3600
    pool.known()
    for index, base in enumerate(sim.base_urls):
        sim.stop_base(index)
        ask(pool, base)
    clock.now += 61
    pool.known()
    assert sim.count("links") == 5, "no answer of a platform that was well counts as one of a lost one"


def test_a_base_that_fails_after_a_probe_that_proved_nothing_comes_last(sim: Simulator) -> None:
    sim.fault("healthy", "rate_limit", base=0, times=None)
    pool = pool_of(sim)
    pool.check_health()
    sim.fault("list", "error_before", base=0)
    client = CloseAIClient(config_of(sim))
    list(client.iter_sub_accounts())
    assert [base.api for base in pool.known()] == sim.base_urls[::-1]


@pytest.mark.parametrize(
    ("status", "lost"), [(302, True), (403, True), (404, True), (200, True), (500, False), (429, False)]
)
def test_bases_for_which_somebody_else_answers_are_lost(status: int, lost: bool) -> None:
    with platform(lambda asked: (status, b"<html>")) as (origin, _):
        client = fixed_client(origin, max_attempts=1)
        with pytest.raises(CloseAIError):
            list(client.iter_sub_accounts())
        [verdict] = client.cache.read().verdicts.values() or [None]
    known = PoolState(bases=(ApiBase(origin),), verdicts={origin: verdict} if verdict else {})
    assert is_lost(known) is lost


def test_bases_that_answered_badly_and_then_went_away_are_lost(sim: Simulator) -> None:
    pool = pool_of(sim)
    pool.known()
    sim.fault("healthy", "error_before", times=None)
    for base in sim.base_urls:
        ask(pool, base)
    cache = Cache(config_of(sim))
    assert not is_lost(cache.read())
    for index, base in enumerate(sim.base_urls):
        sim.stop_base(index)
        ask(pool, base)
    assert is_lost(cache.read())


def test_a_key_is_not_blamed_before_every_base_was_asked(sim: Simulator) -> None:
    sim.fault("list", "foreign", times=None, status=401)
    with pytest.raises(OutcomeUnknown):
        list(CloseAIClient(config_of(sim, max_attempts=1)).iter_sub_accounts())


def test_the_platforms_own_401_needs_no_second_cause() -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        return (200, b"healthy") if asked.path.endswith("healthy") else (401, {"message": "unknown"})

    with platform(reply) as (origin, _), pytest.raises(AuthenticationFailed, match="not known there"):
        list(fixed_client(origin).iter_sub_accounts())


def test_an_answer_that_is_cut_half_way_is_no_kept_connection_that_died() -> None:
    page = b'{"items": [], "total": 0}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page)

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(head + page)
        read_request(connection)
        connection.sendall(head + page[:5])

    with raw_server(serve) as (port, seen):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        assert list(client.iter_sub_accounts()) == []
        with pytest.raises(OutcomeUnknown):
            list(client.iter_sub_accounts())
        assert len(seen) == 1
