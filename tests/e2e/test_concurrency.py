"""Many processes at once on the same aliases: exact on one host; on several, what slips through is named."""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import HANG, in_processes, isolated, process, run_create  # noqa: F401

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.provisioning.errors import TooManyAccounts
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.simulator import Request, Simulator

pytestmark = pytest.mark.e2e

WANTED = {"team-a": 3, "team-b": 1, "team-a-b": 2, "team": 4}
SETTLE = 2.0


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(bases=2) as simulator:
        yield simulator


def ensure(key: str, origin: str, alias: str, count: int, first_try: bool = True) -> list[int]:
    """Ensure one alias with a connection object of this process's own; gives the ids."""
    client = CloseAIClient(config_from(password=key, host=origin, extra={"deadline": 60, "max_late": 1}))
    want = CreateRequest.parse(alias, {"gpt-4": 1}, 1, count, batch_size=2, settle=SETTLE)
    return [account.id for account in run_create(client, want, first_try=first_try)]


def ensure_all(key: str, origin: str) -> dict[str, list[int]]:
    """Ensure all aliases, in an order of this process's own."""
    aliases = random.sample(sorted(WANTED), len(WANTED))
    return {alias: ensure(key, origin, alias, WANTED[alias]) for alias in aliases}


def on_host(place: str, key: str, origin: str, alias: str, count: int) -> None:
    """Ensure an alias on a host of its own: locks, notes and cache are below ``place``."""
    Path(place).mkdir()
    tempfile.tempdir = place
    try:
        outcome = f"made {ensure(key, origin, alias, count)}"
    except TooManyAccounts as error:
        outcome = str(error)
    Path(place, "outcome").write_text(outcome)


def true_ids(sim: Simulator) -> dict[str, list[int]]:
    return {alias: sorted(account["id"] for account in sim.accounts(alias)) for alias in WANTED}


def test_twelve_processes_of_one_host_are_exact_with_faults_and_a_listing_that_lags(sim: Simulator) -> None:
    sim.settings.list_lag = 0.5
    for kind in ("cut_after", "error_after", "cut_before", "garbage"):
        sim.fault("create", kind)
    sim.fault("create", "rate_limit", retry_after=1, skip=1)
    sim.fault("list", "error_before", times=5, skip=3)

    answers = in_processes(12, ensure_all, sim.key, sim.discovery_url)

    assert {alias: len(ids) for alias, ids in true_ids(sim).items()} == WANTED
    for answer in answers:
        assert {alias: sorted(ids) for alias, ids in answer.items()} == true_ids(sim)
    assert sim.count("links") == 1
    assert sim.count("delete") == 0


def test_processes_killed_among_others_leave_nothing_twice(sim: Simulator) -> None:
    """Three are killed while their posts are under way; then every task is tried again."""
    victims = [
        process(ensure, sim.key, sim.discovery_url, alias, WANTED[alias]) for alias in ("team-a", "team")
    ]
    victims.append(process(ensure, sim.key, sim.discovery_url, "team-a-b", 2))
    numbers = itertools.count()
    bases = {int(url.rpartition(":")[2]) for url in sim.base_urls}
    problems: list[BaseException] = []
    posted, dead = threading.Barrier(3), threading.Event()

    def kill_all_three(request: Request) -> None:
        if request.call != "create" or next(numbers) >= 3:
            return
        try:
            if posted.wait(HANG) == 0:
                killed = [psutil.Process(victim.pid) for victim in victims]
                for one_of_them in killed:
                    connections = one_of_them.net_connections("tcp")
                    assert any(one.raddr and one.raddr.port in bases for one in connections)
                    one_of_them.kill()
                _, alive = psutil.wait_procs(killed, timeout=HANG)
                assert not alive
                dead.set()
            assert dead.wait(HANG)
        except BaseException as problem:
            problems.append(problem)

    sim.on_request = kill_all_three
    sim.fault("create", "cut_before", times=1)  # one of the posts is never worked on, two are
    for victim in victims:
        victim.start()
    for victim in victims:
        victim.join(2 * HANG)
    assert not problems
    assert [victim.exitcode for victim in victims] == [-9, -9, -9]

    answers = in_processes(6, ensure_all, sim.key, sim.discovery_url)

    assert {alias: len(ids) for alias, ids in true_ids(sim).items()} == WANTED
    for answer in answers:
        assert {alias: sorted(ids) for alias, ids in answer.items()} == true_ids(sim)


def test_two_hosts_at_the_same_moment_the_surplus_is_named_and_kept(sim: Simulator, tmp_path: Path) -> None:
    hosts = [tmp_path / name for name in ("host-a", "host-b")]
    both = threading.Barrier(2)

    def post_together(request: Request) -> None:
        if request.call == "create":
            both.wait(HANG)

    sim.on_request = post_together
    tasks = [process(on_host, str(host), sim.key, sim.discovery_url, "shared", 2) for host in hosts]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(2 * HANG)
        assert task.exitcode == 0

    ids = [account["id"] for account in sim.accounts("shared")]
    assert len(ids) == 4
    assert (sim.count("create"), sim.count("delete")) == (2, 0)
    outcomes = [(host / "outcome").read_text() for host in hosts]
    told = [outcome for outcome in outcomes if f"has 4 sub-accounts, 2 were asked for: ids {ids}" in outcome]
    assert told, outcomes  # the last at the least; the other too, if it looked late enough
    assert all(outcome in told or outcome.startswith("made ") for outcome in outcomes)


def test_a_host_that_comes_later_finds_what_another_made(sim: Simulator, tmp_path: Path) -> None:
    for name in ("host-a", "host-b"):
        task = process(on_host, str(tmp_path / name), sim.key, sim.discovery_url, "shared", 2)
        task.start()
        task.join(2 * HANG)
    assert len(sim.accounts("shared")) == 2
    assert sim.count("create") == 1
