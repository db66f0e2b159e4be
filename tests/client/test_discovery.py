"""Discovery: asked once for all, put off when it fails, and never needed while an old answer will do."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path
from typing import Any

import pytest
from support import Clock, Sleeps, client_of, clock_with, config_of, in_processes, in_threads, platform
from test_cache import Variable, shared_client, use_host

from airflow_provider_closeai.client.cache import STALE_FOR, Cache
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import AuthenticationFailed, DiscoveryError
from airflow_provider_closeai.client.pool import BasePool
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.provisioning.health import check_bases
from airflow_provider_closeai.simulator import Request, Simulator

ODD: list[Any] = [None, True, "high", 3, -3.5, {}, float("nan"), -(10**30)]


def bases_of(sim: Simulator, clock: Clock, sleep: Any = None, **extra: Any) -> BasePool:
    config = config_of(sim, **extra)
    return BasePool(
        config,
        Transport(config),
        Cache(config, clock=clock_with(now=clock)),
        clock_with(sleep or Sleeps(), clock),
    )


def origins(bases: BasePool) -> list[str]:
    return [base.api for base in bases.known()]


def test_asked_once_per_ttl_over_many_clients(sim: Simulator, clock: Clock) -> None:
    for _ in range(10):
        assert origins(bases_of(sim, clock)) == sim.base_urls
    assert sim.count("links") == 1
    clock.now += 3599
    bases_of(sim, clock).known()
    assert sim.count("links") == 1
    clock.now += 1
    for _ in range(10):
        bases_of(sim, clock).known()
    assert sim.count("links") == 2


def test_asked_once_by_many_threads(sim: Simulator) -> None:
    found = in_threads(30, lambda _: [base.api for base in client_of(sim).list_bases()])
    assert found == [sim.base_urls] * 30
    assert sim.count("links") == 1


def _bases_in_process(key: str, host: str) -> list[str]:
    client = CloseAIClient(config_from(password=key, host=host))
    return [base.api for base in client.list_bases()]


def test_asked_once_by_many_processes_that_start_cold(sim: Simulator) -> None:
    sim.fault("links", "slow", seconds=0.3)
    assert in_processes(8, _bases_in_process, sim.key, sim.discovery_url) == [sim.base_urls] * 8
    assert sim.count("links") == 1


def _failure_in_process(key: str, host: str) -> str:
    client = CloseAIClient(config_from(password=key, host=host))
    with pytest.raises(DiscoveryError) as caught:
        client.list_bases()
    return str(caught.value)


def test_a_failure_is_shared_by_processes_too(sim: Simulator) -> None:
    sim.fault("links", "error_before", times=None)
    told = in_processes(4, _failure_in_process, sim.key, sim.discovery_url)
    assert all("api_bases" in text for text in told)
    assert sim.count("links") == 1


def test_while_one_refreshes_the_others_go_on_with_the_old_answer(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).known()
    old = sim.base_urls
    clock.now += 4000
    sim.set_links([{"api": sim.base_urls[1], "priority": 1, "status": "ok"}])
    meanwhile: list[list[str]] = []

    def hook(request: Request) -> None:
        if request.call == "links":  # the refresh is under way, and its lock is held
            meanwhile.extend(origins(bases_of(sim, clock)) for _ in range(3))

    sim.on_request = hook
    assert origins(bases_of(sim, clock)) == [old[1]]
    assert meanwhile == [old] * 3
    assert sim.count("links") == 2


def test_a_failed_refresh_is_put_off_longer_each_time_for_everybody(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).known()
    sim.fault("links", "error_before", times=None)
    clock.now += 4000
    for number, wait in enumerate([60, 120, 240, 480, 900, 900, 900], start=2):
        assert origins(bases_of(sim, clock)) == sim.base_urls
        assert sim.count("links") == number
        clock.now += wait - 1
        assert origins(bases_of(sim, clock)) == sim.base_urls
        assert sim.count("links") == number
        clock.now += 1
    sim.clear_faults()
    bases_of(sim, clock).known()
    sim.fault("links", "error_before", times=None)
    clock.now += 3600
    asked = sim.count("links")
    bases_of(sim, clock).known()
    clock.now += 60
    bases_of(sim, clock).known()
    assert sim.count("links") == asked + 2, "after a success the waits begin anew"


@pytest.mark.parametrize("fault", ["error_before", "cut_before", "garbage", "parked", "redirect", "hang"])
def test_whatever_discovery_does_the_old_answer_serves(sim: Simulator, clock: Clock, fault: str) -> None:
    bases_of(sim, clock).known()
    clock.now += 4000
    sim.fault("links", fault, times=None)
    assert origins(bases_of(sim, clock, read_timeout=0.2)) == sim.base_urls


def test_retry_after_of_discovery_counts(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).known()
    clock.now += 4000
    sim.fault("links", "rate_limit", retry_after=2000)
    bases_of(sim, clock).known()
    clock.now += 1999
    bases_of(sim, clock).known()
    assert sim.count("links") == 2
    clock.now += 1
    bases_of(sim, clock).known()
    assert sim.count("links") == 3


@pytest.mark.parametrize("retry_after", ["0", "Thu, 26 Nov 2020 00:00:00 GMT"])
def test_a_retry_after_that_asks_for_no_wait_does_not_end_the_usual_one(
    sim: Simulator, clock: Clock, retry_after: str
) -> None:
    sim.fault("links", "rate_limit", retry_after=retry_after, times=None)
    for number in (1, 2):
        for _ in range(3):
            with pytest.raises(DiscoveryError):
                bases_of(sim, clock).known()
            assert sim.count("links") == number
        clock.now += 60


def test_of_a_very_long_list_the_best_are_shared(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    first = sim.base_urls[0]
    links = [{"api": f"{first}/{n:0150}", "priority": n, "desc": "d" * 300} for n in range(2000)]
    sim.set_links([*links, {"api": f"{first}/{'x' * 300}", "priority": 9999}])
    for _ in range(3):
        found = client_of(sim).list_bases()
        assert [base.priority for base in found] == list(range(1999, 1899, -1))
    assert sim.count("links") == 1
    assert "2000 bases: the best 100" in caplog.text
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("retry_after", [86_400, 90_000, 10**9, 10**14])
def test_a_very_long_retry_after_costs_neither_the_old_answer_nor_requests(
    sim: Simulator, clock: Clock, retry_after: int
) -> None:
    bases_of(sim, clock).known()
    clock.now += 4000
    sim.fault("links", "rate_limit", retry_after=retry_after, times=None)
    for _ in range(3):
        assert origins(bases_of(sim, clock)) == sim.base_urls
        clock.now += 1000
    assert sim.count("links") == 2
    clock.now += 86_400
    assert origins(bases_of(sim, clock)) == sim.base_urls
    assert sim.count("links") == 3


def test_an_old_answer_is_good_for_seven_days(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).known()
    sim.stop_discovery()
    clock.now += STALE_FOR - 1
    assert origins(bases_of(sim, clock)) == sim.base_urls
    clock.now += 2
    with pytest.raises(DiscoveryError):
        bases_of(sim, clock).known()
    assert STALE_FOR == 7 * 86_400


@pytest.mark.parametrize("fault", ["error_before", "cut_before", "garbage", "parked", "redirect"])
def test_cold_and_discovery_down_names_the_way_out(sim: Simulator, clock: Clock, fault: str) -> None:
    sim.fault("links", fault, times=None)
    for _ in range(3):
        with pytest.raises(DiscoveryError, match="'api_bases'") as caught:
            bases_of(sim, clock).known()
        assert not caught.value.permanent
        assert caught.value.retry_after == pytest.approx(60)
        assert sim.discovery_url in str(caught.value)
    assert sim.count("links") == 1
    clock.now += 60
    sim.clear_faults()
    assert origins(bases_of(sim, clock)) == sim.base_urls


def test_a_whole_call_with_discovery_down_and_nothing_known_says_so(sim: Simulator) -> None:
    sim.stop_discovery()
    client = client_of(sim)
    for call in (lambda: list(client.iter_sub_accounts()), client.get_base_url, client.check_health):
        with pytest.raises(DiscoveryError, match="'api_bases'"):
            call()


def test_cold_and_a_short_rate_limit_is_waited_for_once(sim: Simulator, clock: Clock) -> None:
    sim.fault("links", "rate_limit", retry_after=3)
    sleeps = Sleeps()
    assert origins(bases_of(sim, clock, sleep=sleeps)) == sim.base_urls
    assert sleeps.asked == [3]
    assert sim.count("links") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_final_and_shared(sim: Simulator, clock: Clock, status: int) -> None:
    sim.fault("links", "status", status=status, times=None, body={"error": {"message": "no"}})
    for _ in range(3):
        with pytest.raises(AuthenticationFailed, match="API key") as caught:
            bases_of(sim, clock).known()
        assert caught.value.permanent
    assert sim.count("links") == 1


def test_the_simulators_own_401(sim: Simulator) -> None:
    client = CloseAIClient(config_from(password="sk-wrong", host=sim.discovery_url))
    with pytest.raises(AuthenticationFailed):
        client.list_bases()


def test_fixed_bases_need_no_discovery(sim: Simulator) -> None:
    config = config_from(password=sim.key, host=sim.discovery_url, extra={"api_bases": sim.base_urls[::-1]})
    client = CloseAIClient(config)
    assert [base.api for base in client.list_bases()] == sim.base_urls[::-1]
    list(client.iter_sub_accounts())
    assert len(client.check_health()) == 2
    assert client.get_base_url() == sim.base_urls[1]
    assert sim.count("links") == 0
    assert sim.count("list", base=1) == 1


def test_bad_entries_are_dropped_one_by_one(sim: Simulator, clock: Clock) -> None:
    good = {"api": f"{sim.base_urls[0]}/", "desc": "x", "priority": "3", "status": "ok", "new": {"field": 1}}
    links: list[Any] = [
        {"api": "http://plain.example", "priority": 99},
        {"api": "ftp://x.example", "priority": 98},
        {"api": "https://user:pass@x.example"},
        {"api": "https://x.example:99999"},
        {"api": ""},
        {"api": None},
        {"priority": 5},
        "https://x.example",
        None,
        good,
        {"api": sim.base_urls[0], "priority": 1},
        {"api": sim.base_urls[1], "desc": None, "priority": 2},
    ]
    sim.set_links(links)
    found = bases_of(sim, clock).known()
    assert [(base.api, base.priority) for base in found] == [(sim.base_urls[0], 3), (sim.base_urls[1], 2)]


@pytest.mark.parametrize(
    ("field", "value", "is_first"),
    [
        ("priority", 10.0, True),
        ("priority", 10.5, True),
        ("priority", "10", True),
        ("priority", 10**30, True),
        *[("priority", value, False) for value in ODD],
        *[("status", value, False) for value in [*ODD, "OK"]],
        *[("desc", value, True) for value in ODD],
    ],
)
def test_an_odd_field_costs_no_base(
    sim: Simulator, clock: Clock, field: str, value: object, is_first: bool
) -> None:
    first, second = sim.base_urls
    link = {"api": first, "desc": "", "priority": 10, "status": "ok", field: value}
    sim.set_links([{"api": second, "priority": 9, "status": "ok"}, link])
    assert origins(bases_of(sim, clock)) == ([first, second] if is_first else [second, first])


@pytest.mark.parametrize("answer", [[], {"data": []}, None, [{"api": "http://plain.example"}]])
def test_an_answer_without_a_usable_base_does_not_replace_the_old_one(
    sim: Simulator, clock: Clock, answer: Any
) -> None:
    bases_of(sim, clock).known()
    clock.now += 4000
    sim.fault("links", "status", status=200, body=answer if answer is not None else "x")
    assert origins(bases_of(sim, clock)) == sim.base_urls


def test_the_key_does_not_go_to_hosts_that_are_not_allowed(sim: Simulator) -> None:
    with platform(lambda asked: (200, {"items": [], "total": 0})) as (origin, stolen):
        sim.set_links(
            [
                {"api": origin.replace("127.0.0.1", "localhost"), "priority": 99, "status": "ok"},
                {"api": sim.base_urls[0], "priority": 1, "status": "ok"},
            ]
        )
        client = client_of(sim, allowed_hosts="127.0.0.*")
        list(client.iter_sub_accounts())
        client.check_health()
        assert stolen == []
    assert [base.api for base in client.list_bases()] == [sim.base_urls[0]]


def test_a_http_date_is_a_retry_after_too(sim: Simulator, clock: Clock) -> None:
    bases_of(sim, clock).known()
    clock.now += 4000
    at = email.utils.formatdate(time.time() + 3000, usegmt=True)
    sim.fault("links", "rate_limit", retry_after=at)
    bases_of(sim, clock).known()
    clock.now += 2900
    bases_of(sim, clock).known()
    assert sim.count("links") == 2
    clock.now += 101
    bases_of(sim, clock).known()
    assert sim.count("links") == 3


@pytest.mark.parametrize("ahead", [600, 8 * 3600, 30 * 86_400])
@pytest.mark.parametrize("shared", [False, True])
def test_a_clock_that_was_ahead_puts_discovery_off_no_longer(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock, ahead: int, shared: bool
) -> None:
    variable, right = Variable(), clock.now
    clock.now += ahead
    sim.fault("links", "error_before")
    with pytest.raises(DiscoveryError):
        shared_client(sim, variable, clock).list_bases()
    clock.now = right + 61
    if shared:
        use_host(monkeypatch, tmp_path, "b")
    assert shared_client(sim, variable, clock).check_health()[0].healthy
    assert sim.count("links") == 2


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("was_refused", [False, True])
def test_a_clock_that_was_ahead_does_not_freeze_what_is_known_of_the_key(
    sim: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    clock: Clock,
    was_refused: bool,
    shared: bool,
) -> None:
    variable, right = Variable(), clock.now
    config = config_of(sim, api_bases=sim.base_urls)

    def is_accepted() -> bool:
        clocked = clock_with(now=clock)
        try:
            return bool(
                check_bases(lambda: CloseAIClient(config, store=variable.store, clock=clocked), "any").base
            )
        except AuthenticationFailed:
            return False

    def refuse() -> None:
        sim.fault("list", "status", status=403, body={"error": {"message": "suspended"}}, times=None)

    clock.now += 30 * 86_400
    if was_refused:
        refuse()
    assert is_accepted() is not was_refused
    clock.now = right
    sim.clear_faults() if was_refused else refuse()
    if shared:
        use_host(monkeypatch, tmp_path, "b")
    assert is_accepted() is was_refused
