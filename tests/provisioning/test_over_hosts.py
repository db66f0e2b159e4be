"""Creates over several hosts: what is claimed, noted and sent, on the wire."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shared_names import Names, SlowNames, lagging_after
from support import GPT4, Asked, client_of, config_of, fixed_client, in_threads, item, jumping_clock, platform

from airflow_provider_closeai.client.answers import Outcome
from airflow_provider_closeai.client.calls import CREATE
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ConfigError, NotSent
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import NotNoted, SupervisorGone, TooManyAccounts
from airflow_provider_closeai.provisioning.records import Record, parse_record
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.provisioning.runner import creating
from airflow_provider_closeai.provisioning.runner.create_lock import CreateLock
from airflow_provider_closeai.provisioning.runner.creation import Creation
from airflow_provider_closeai.provisioning.runner.listings import Listings
from airflow_provider_closeai.simulator import Request, Simulator


class Own:
    """The task's own journal; it says when the supervisor is gone."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.problem: Exception | None = None

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.text = text


def ensure(client: CloseAIClient, names: Names | None, count: int = 2, **how: Any) -> list[SubAccount]:
    want = CreateRequest.parse(how.pop("alias", "a"), GPT4, 1, count, settle=how.pop("settle", 0.6))
    return runner.create(client, want, runner.Try(names=names, **how))


# --- The claim --------------------------------------------------------------------------------------------


def test_where_nothing_must_be_created_nothing_is_claimed(sim: Simulator) -> None:
    names = Names()
    ensure(client_of(sim), None)
    assert len(ensure(client_of(sim), names)) == 2
    assert names.calls == 0


def test_a_claim_is_gone_afterwards_and_the_record_stays(sim: Simulator) -> None:
    names = Names()
    assert len(ensure(client_of(sim), names)) == 2
    assert names.of("lock") == []
    [record] = names.of("posts")
    assert sim.key not in record
    read = parse_record(record.split(".", 3)[3])
    assert read is not None
    assert read.settled


def test_six_hosts_at_once_on_one_alias_are_exact_and_all_succeed(sim: Simulator) -> None:
    names = Names()
    config = config_of(sim, lock="deployment")

    def task(number: int) -> list[int]:
        # Threads of one process: the locks of a host would keep them apart, so each has a name of its own.
        client = CloseAIClient(config, clock=Clock(counter=f"host-{number}"))
        want = CreateRequest.parse("a", GPT4, 1, 3, settle=0.6)
        lock = CreateLock(client, names)
        creation = Creation(client, want, Own(), runner.Try(names=names), lock)
        creating.run(client, [creation], Listings(client), lock)
        result = creation.result()
        assert isinstance(result, list), result
        return [account.id for account in result]

    results = in_threads(6, task)
    assert len(sim.accounts("a")) == 3
    assert all(result == results[0] for result in results)
    assert sim.count("create") == 1


def test_a_claim_alone_costs_no_listing(sim: Simulator) -> None:
    ensure(client_of(sim), Names())
    assert (sim.count("list"), sim.count("create")) == (2, 1)


def test_what_another_host_posts_between_the_listing_and_the_claim_counts(
    sim: Simulator, host: Callable[[str], Clock]
) -> None:
    names, config = Names(), config_of(sim)

    def other(name: str) -> None:
        names.on_add = lambda name: None
        ensure(CloseAIClient(config, clock=host("b")), names)
        host("a")

    names.on_add = other  # before this run's first name
    made = ensure(CloseAIClient(config, clock=host("a")), names)
    assert len(made) == len(sim.accounts("a")) == 2
    assert sim.count("create") == 1


def test_aliases_of_one_run_are_claimed_together(sim: Simulator) -> None:
    names = Names()
    wanted = [CreateRequest.parse(f"team-{number}", GPT4, 1, 1, settle=0.6) for number in range(30)]
    results = runner.create_all(client_of(sim), wanted, runner.Try(names=names))
    assert all(isinstance(result, list) for result in results)
    assert len(sim.accounts()) == 30
    assert names.of("lock") == []
    assert len(names.of("posts")) == 30


def test_a_store_that_does_not_work_creates_nothing_and_is_told(sim: Simulator) -> None:
    names = Names()
    names.problem = RuntimeError("API_SERVER_ERROR")
    with pytest.raises(NotNoted, match="that all hosts share cannot be") as caught:
        ensure(client_of(sim), names)
    assert not caught.value.permanent
    assert sim.count("create") == 0


def test_a_slow_store_takes_its_time_with_many_aliases(sim: Simulator) -> None:
    """To read what others posted takes longer than a claim lives that says nothing."""
    clock = jumping_clock()
    wanted = [CreateRequest.parse(f"team-{number}", GPT4, 1, 1) for number in range(120)]
    names = SlowNames(clock, 0.5)
    results = runner.create_all(client_of(sim, clock=clock), wanted, runner.Try(names=names))
    assert [type(result) for result in results] == [list] * 120
    assert sim.count("create") == len(sim.accounts()) == 120


def test_a_store_that_is_too_slow_is_named_before_anything_is_sent(sim: Simulator) -> None:
    clock = jumping_clock()
    names = SlowNames(clock, 4)
    with pytest.raises(NotSent, match="Airflow's API server") as caught:
        ensure(client_of(sim, clock=clock), names)
    assert not caught.value.permanent
    assert sim.count("create") == 0
    assert names.calls < 100
    assert names.of("lock") == names.of("posts") == []


def test_a_store_that_fails_after_the_post_does_not_matter(sim: Simulator) -> None:
    names = Names()
    client = client_of(sim, clock=lagging_after(sim, "create", names))
    assert len(ensure(client, names, settle=30)) == len(sim.accounts("a")) == 2


def test_lock_host_asks_no_store_and_lock_deployment_needs_one(sim: Simulator) -> None:
    names = Names()
    ensure(client_of(sim, lock="host"), names)
    assert names.calls == 0
    with pytest.raises(ConfigError, match=r"takes a task of Airflow 3\.3") as caught:
        ensure(client_of(sim, lock="deployment"), None)
    assert caught.value.permanent
    assert sim.count("create") == 1


def test_connections_to_one_main_account_exclude_each_other_whatever_else_they_say() -> None:
    accounts = {
        config_from(password="sk-one", host=host, extra=extra).account
        for host in ("https://a.example", "https://b.example")
        for extra in ({}, {"allowed_hosts": "*.x"}, {"api_bases": "https://c.example"})
    }
    assert len(accounts) == 1
    assert accounts != {config_from(password="sk-two").account}


# --- What others posted -----------------------------------------------------------------------------------


def test_a_base_that_lags_behind_the_other_hosts_base(host: Callable[[str], Clock]) -> None:
    """Host A created through one base; host B's base does not list it yet, and no file on B says a word."""
    with Simulator(bases=2) as sim:
        names = Names()
        sim.settings.list_lag = 1.0
        first, second = sim.base_urls
        here = config_from(password=sim.key, extra={"api_bases": [first], "max_late": 0.1})
        there = config_from(password=sim.key, extra={"api_bases": [second], "max_late": 0.1})
        clock = host("a")
        sim.settings.list_lag = 0.0
        ensure(CloseAIClient(here, clock=clock), names, settle=3)
        sim.settings.list_lag = 1.0
        clock = host("b")
        made = ensure(CloseAIClient(there, clock=clock), names, settle=3)
        assert len(made) == len(sim.accounts("a")) == 2
        assert sim.count("create") == 1


def test_a_record_that_is_old_by_any_clock_is_removed_and_waited_for_by_nobody(
    sim: Simulator, host: Callable[[str], Clock]
) -> None:
    names, slept = Names(), []
    host("a")

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    ensure(client_of(sim), names)
    [record] = names.of("posts")
    prefix = record[: -len(record.split(".", 3)[3])]
    read = parse_record(record[len(prefix) :])
    assert read is not None
    old = Record(read.alias, "ab", 1, True, "cd", 5.0, read.epoch - 17 * 3600)
    names.names = {prefix + old.name}
    host("b")
    ensure(client_of(sim, sleep=sleep), names, count=3)
    assert prefix + old.name not in names.names
    assert slept == []


# --- Nothing leaves that is not noted ---------------------------------------------------------------------


def test_an_orphan_sends_nothing(sim: Simulator) -> None:
    own = Own()
    own.problem = BrokenPipeError()
    with pytest.raises(SupervisorGone, match="Airflow runs another try"):
        ensure(client_of(sim), None, own_journal=lambda alias: own)
    assert sim.count("create") == 0


@pytest.mark.parametrize("way", ["journal", "parent", "names"])
def test_a_task_whose_supervisor_dies_while_it_waits_out_a_429_sends_nothing_more(
    sim: Simulator, way: str
) -> None:
    """The silent duplicate: the orphan's post left seconds after the retry on another host had posted."""
    own, names, alive = Own(), Names(), [True]
    sim.fault("create", "rate_limit", retry_after=0.2)

    def die(request: Request) -> None:
        if request.call == "create":
            if way == "journal":
                own.problem = EOFError()
            elif way == "names":
                names.problem = BrokenPipeError()
            alive[0] = way != "parent"

    sim.on_request = die
    with pytest.raises(SupervisorGone):
        ensure(
            client_of(sim),
            names if way == "names" else None,
            own_journal=(lambda alias: own) if way == "journal" else None,
            is_supervised=lambda: alive[0],
        )
    assert sim.count("create") == 1
    assert sim.accounts("a") == []


def test_each_attempt_of_a_post_is_noted_anew(sim: Simulator) -> None:
    own = Own()
    noted: list[str | None] = []
    sim.fault("create", "rate_limit", retry_after=0.1, times=2)
    sim.on_request = lambda request: noted.append(own.text) if request.call == "create" else None
    ensure(client_of(sim), None, own_journal=lambda alias: own)
    assert len(set(noted)) == 3


def test_a_connection_that_took_longer_than_the_note_allows_carries_nothing(sim: Simulator) -> None:
    asked: list[bool] = []

    def too_late() -> bool:
        asked.append(True)
        return False

    attempt = Transport(config_of(sim)).attempt(
        CREATE, sim.base_urls[0], seconds=5, body={}, fresh=True, may_leave=too_late
    )
    assert attempt.outcome is Outcome.NOT_SENT
    assert "could not be sent in time" in attempt.detail
    assert asked == [True]
    assert sim.count("create") == 0


def test_a_create_that_comes_too_late_to_leave_holds_nothing_against_its_base(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    may_leave = [False, True]

    class Late:
        def renew(self) -> Callable[[], bool]:
            may = may_leave.pop(0)
            return lambda: may

        def wait(self, seconds: float) -> None:
            assert seconds == 0  # the other base is free

    client = client_of(sim)
    client.create("a", {"gpt-4": Decimal(1)}, Decimal(1), 1, Late())
    assert sim.count("create") == len(sim.accounts("a")) == 1
    assert "comes last" not in caplog.text
    assert all(base.healthy for base in client.check_health())


# --- A surplus --------------------------------------------------------------------------------------------


def test_what_another_host_has_made_costs_no_listing_of_all(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its record says that a listing has shown it: however large the fleet is, the filter is enough."""
    names, clock = Names(), jumping_clock()
    ensure(client_of(sim, clock=clock), names, 1)
    other = Clock(now=clock.now, monotonic=clock.monotonic, sleep=clock.sleep, counter="another host's")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = len(sim.requests)
    assert len(ensure(client_of(sim, clock=other), names, 2)) == 2
    looks = [request for request in sim.requests[seen:] if request.call == "list"]
    assert looks
    assert [request for request in looks if "alias" not in request.query] == []


def test_what_another_host_has_made_and_the_filter_does_not_find_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items: list[dict[str, Any]] = []

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            made = [item(len(items) + 1 + number, "Team-A") for number in range(asked.body["count"])]
            items.extend(made)
            return 200, {"items": made}
        found = [] if "alias" in asked.query else items
        return 200, {"items": found, "total": len(found), "page": 1, "pageSize": 500}

    names, clock = Names(), jumping_clock()
    with platform(reply) as (origin, _):
        for host in ("one", "other"):
            monkeypatch.setattr("tempfile.tempdir", str(tmp_path / host))
            (tmp_path / host).mkdir()
            own = Clock(now=clock.now, monotonic=clock.monotonic, sleep=clock.sleep, counter=host)
            made = ensure(fixed_client(origin, clock=own), names, alias="Team-A", settle=5)
            assert [account.id for account in made] == [1, 2]
            clock.sleep(600)


def test_a_surplus_that_others_made_meanwhile_is_told_by_them_alone(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    def others(request: Request) -> None:
        if request.call == "list":
            sim.on_request = None
            for _ in range(3):
                sim.add_account("a", [{"model": "gpt-4", "pricing_factor": 1}])

    def look(seconds: float) -> None:
        sim.on_request = others

    caplog.set_level("INFO")
    client = client_of(sim, sleep=look)
    want = CreateRequest.parse("a", GPT4, 1, 2, settle=0.6)
    assert len(runner.create(client, want, runner.Try(is_retry=True))) == 2  # it waits, and posts nothing
    assert "name them in their logs" in caplog.text
    assert "Alias 'a' has 2 sub-accounts besides [3] (0 created now): ids [1, 2]." in caplog.text
    with pytest.raises(TooManyAccounts, match=r"ids \[1, 2, 3\]"):
        runner.create(client_of(sim), want)


def test_a_settled_record_is_still_that_of_its_own_post(sim: Simulator) -> None:
    names = Names()

    def numbers() -> dict[str, int]:
        records = [parse_record(name.split(".", 3)[3]) for name in names.of("posts")]
        return {each.alias: each.number for each in records if each is not None}

    lock = CreateLock(client_of(sim), names)
    lock.acquire(["a", "b"])
    for alias in ("a", "b"):
        lock.allow(alias)
    noted = numbers()
    lock.settled("a")
    assert numbers() == noted
