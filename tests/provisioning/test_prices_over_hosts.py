"""Repricings over several hosts: no model is lost, and what is right already costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from shared_names import Names, SlowNames, lagging_after
from support import client_of, clock_with, config_of, jumping_clock

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import CloseAIError, Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.local_state.claims import LEASE
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import NotNoted, SupervisorGone
from airflow_provider_closeai.provisioning.records import parse_record, pieces
from airflow_provider_closeai.provisioning.requests import CreateRequest, RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking, repricing
from airflow_provider_closeai.roster import Options, apply, read_roster
from airflow_provider_closeai.simulator import Request, Simulator

PRICING = [{"model": "gpt-4", "pricing_factor": 2}]
Host = Callable[[str], Clock]


def merge(client: CloseAIClient, names: Names | None, *models: str, **options: Any) -> list[SubAccount]:
    request = RepriceRequest.parse(dict.fromkeys(models, 2), **{"alias": "a", **options})
    return runner.reprice(client, request, names)


def models_of(sim: Simulator) -> set[str]:
    [account] = sim.accounts("a")
    return {entry["model"] for entry in account["model_pricing"]}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "CONFIRM_WITHIN", 1.5)


# --- What it costs ----------------------------------------------------------------------------------------


def test_what_is_right_already_claims_nothing(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names = Names()
    merge(client_of(sim), None, "gpt-4")
    merge(client_of(sim), names, "gpt-4")
    assert names.calls == 1  # what others sent may not be listed yet
    assert names.names == set()
    merge(client_of(sim), names, "new", dry_run=True)
    assert names.names == set()


def test_a_change_claims_its_alias_reads_again_and_leaves_a_record(sim: Simulator) -> None:
    account = sim.add_account("a", PRICING)
    sim.add_account("other", PRICING)
    names = Names()
    merge(client_of(sim), names, "new")
    assert names.calls == 11
    assert sim.counts() == {"links": 1, "list": 3, "update": 1}
    assert names.of("lock") == []
    [name] = names.of("prices")
    assert sim.key not in name
    record = parse_record(name.split(".", 3)[3])
    assert record is not None
    assert record.ids == (account["id"],)


def test_of_many_aliases_that_are_right_few_lists_are_read(sim: Simulator) -> None:
    for number in range(300):
        sim.add_account(f"team-{number}", PRICING)
    names = Names()
    ids = [account["id"] for account in sim.accounts()]
    merge(client_of(sim), names, "gpt-4", alias=None, sub_accounts=ids)
    assert names.calls <= 256


def test_a_slow_store_takes_its_time_with_many_aliases(sim: Simulator) -> None:
    """To read what others sent takes longer than a claim lives that says nothing."""
    for number in range(120):
        sim.add_account(f"team-{number}", PRICING)
    clock = jumping_clock()
    ids = [account["id"] for account in sim.accounts()]
    client = client_of(sim, clock=clock)
    merge(client, SlowNames(clock, 0.5), "new", alias=None, sub_accounts=ids)
    assert sim.count("update") == 120


def test_more_aliases_than_are_claimed_at_a_time(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "_ALIASES", 4)
    for number in range(10):
        sim.add_account(f"team-{number}", PRICING)
    ids = [account["id"] for account in sim.accounts()]
    after = merge(client_of(sim), Names(), "new", alias=None, sub_accounts=ids)
    assert [account.id for account in after] == ids
    assert all(set(account.pricing) == {"gpt-4", "new"} for account in after)
    assert sim.count("update") == 10


def test_a_refused_alias_stops_no_alias_that_is_claimed_later(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repricing, "_ALIASES", 2)
    ids = [sim.add_account(f"team-{number}", PRICING)["id"] for number in range(6)]
    sim.fault("update", "status", status=400, body={"error": {"message": "this account is frozen"}})
    with pytest.raises(
        Rejected, match=r"this account is frozen.*accepted new prices for ids \[2, 3, 4, 5, 6\]"
    ):
        merge(client_of(sim), Names(), "new", alias=None, sub_accounts=ids)
    assert [len(account["model_pricing"]) for account in sim.accounts()] == [1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["status", "cut_before"])
def test_what_came_of_an_earlier_claim_is_told_where_a_later_one_fails(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(repricing, "_ALIASES", 1)
    ids = [sim.add_account(alias, PRICING)["id"] for alias in ("a", "b")]
    if kind == "status":
        sim.fault("update", kind, status=400, body={"error": {"message": "this account is frozen"}})
    else:
        sim.fault("update", kind, times=2)
    sim.fault("update", "rate_limit", times=None, retry_after=4000)
    client = client_of(sim, clock=jumping_clock(), max_attempts=2)
    with pytest.raises(CloseAIError) as caught:
        merge(client, Names(), "new", alias=None, sub_accounts=ids)
    told = f"{caught.value} {caplog.text}"
    assert ("this account is frozen" if kind == "status" else "does not show the new prices") in told
    assert "asks to wait longer" in told
    assert "accepted" not in told


def test_a_claim_that_is_lost_before_anything_was_sent_leaves_nothing_to_wait_for(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    sim.fault("update", "rate_limit", retry_after=40)
    names, clock = Names(), jumping_clock()
    begun = clock.monotonic()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        names.problem = OSError() if 2 < clock.monotonic() - begun < 37 else None

    merge(client_of(sim, clock=Clock(now=clock.now, monotonic=clock.monotonic, sleep=sleep)), names, "new")
    assert models_of(sim) == {"gpt-4", "new"}
    # The leases that it left, and not what a late price takes.
    assert clock.monotonic() - begun < 40 + 3 * LEASE + 10


def test_a_rosters_reprice_is_one_claim(sim: Simulator) -> None:
    for number in range(30):
        sim.add_account(f"team-{number}", PRICING)
    names = Names()
    claimants: set[str] = set()
    names.on_add = lambda name: (
        claimants.add(name.split(".")[2]) if name.startswith("closeai_lock.") else None
    )
    accounts = [{"alias": f"team-{number}", "balance": 1} for number in range(30)]
    fields = {"version": 1, "owns": ["team-*"], "accounts": accounts}
    roster = read_roster({**fields, "defaults": {"model_pricing": {"gpt-4": 7}}})
    apply(client_of(sim), roster, Options(), this_try=runner.Try(names=names))
    assert {entry["pricing_factor"] for one in sim.accounts() for entry in one["model_pricing"]} == {7}
    assert len(claimants) == 1
    assert names.of("lock") == []


def test_lock_host_asks_no_store(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names = Names()
    merge(client_of(sim, lock="host"), names, "new")
    assert names.calls == 0


def test_ids_of_any_number_fit_into_names() -> None:
    ids = [*range(1, 40), *range(10**9, 10**9 + 40), 10**18]
    divided = pieces(ids)
    assert [each for piece in divided for each in piece] == ids
    assert all(len("_".join(map(str, piece))) <= 100 for piece in divided)


def test_many_accounts_of_an_alias_are_recorded_in_few_names(sim: Simulator) -> None:
    for _ in range(45):
        sim.add_account("a", PRICING)
    names = Names()
    merge(client_of(sim), names, "new", batch_size=30)
    assert len(names.of("prices")) == 2
    before = names.of("prices")
    merge(client_of(sim), names, "newer", batch_size=45)
    assert len(names.of("prices")) == 2  # the others have no more to say
    assert not set(before) & set(names.of("prices"))


# --- No model is lost -------------------------------------------------------------------------------------


def test_what_another_host_merged_before_the_claim_stays(sim: Simulator, host: Host) -> None:
    sim.add_account("a", PRICING)
    names = Names()

    def other_host(name: str) -> None:
        names.on_add = lambda name: None
        merge(CloseAIClient(config_of(sim), clock=host("b")), names, "theirs")
        host("a")

    names.on_add = other_host  # this one has read, and is about to claim
    merge(CloseAIClient(config_of(sim), clock=host("a")), names, "mine")
    assert models_of(sim) == {"gpt-4", "theirs", "mine"}


@pytest.mark.parametrize(
    ("models", "mode"), [(["mine"], "merge"), pytest.param(["gpt-4"], "replace", marks=pytest.mark.slow)]
)
def test_a_base_that_lags_behind_the_other_hosts_base(
    host: Host, impatient: None, models: list[str], mode: str
) -> None:
    with Simulator(bases=2) as sim:
        sim.add_account("a", PRICING)
        names = Names()
        first, second = (
            config_from(password=sim.key, extra={"api_bases": [base], "max_late": 0.1})
            for base in sim.base_urls
        )
        merge(CloseAIClient(first, clock=host("a")), names, "theirs")
        sim.settings.list_lag = 1.0
        merge(CloseAIClient(second, clock=host("b")), names, *models, mode=mode)
        expected = {"gpt-4", "theirs", "mine"} if mode == "merge" else {"gpt-4"}
        assert models_of(sim) == expected


@pytest.mark.parametrize("lock", [pytest.param("host", marks=pytest.mark.slow), "auto"])
def test_an_attempt_that_is_executed_late_takes_back_nothing(host: Host, impatient: None, lock: str) -> None:
    """The first attempt is cut, and executed after the second; by then somebody else has merged."""
    with Simulator() as sim:
        sim.add_account("a", PRICING)
        names = Names()
        sim.fault("update", "late", seconds=1)
        config = config_of(sim, lock=lock, max_late=1.2, connect_timeout=0.5)
        merge(CloseAIClient(config, clock=host("a")), names, "theirs")
        assert sim.count("update") == 2
        merge(CloseAIClient(config, clock=host("a" if lock == "host" else "b")), names, "mine")
        for timer in sim._backend.timers:
            timer.join()
        assert models_of(sim) == {"gpt-4", "theirs", "mine"}


@pytest.mark.parametrize("jump", [-600, 600])
def test_a_clock_that_is_set_anew_makes_nobody_forget_what_was_sent(impatient: None, jump: float) -> None:
    """On one host, where the next task's base lags."""
    with Simulator(bases=2) as sim:
        sim.add_account("a", PRICING)
        first, second = (
            config_from(password=sim.key, extra={"api_bases": [base], "max_late": 0.1})
            for base in sim.base_urls
        )
        merge(CloseAIClient(first), None, "theirs")
        sim.settings.list_lag = 0.5
        merge(CloseAIClient(second, clock=clock_with(now=lambda: time.time() + jump)), None, "mine")
        assert models_of(sim) == {"gpt-4", "theirs", "mine"}


# --- Nothing leaves that is not noted ---------------------------------------------------------------------


def test_a_store_that_does_not_work_changes_nothing(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names = Names()
    names.problem = RuntimeError("API_SERVER_ERROR")
    with pytest.raises(NotNoted, match="that all hosts share cannot be") as caught:
        merge(client_of(sim), names, "new")
    assert not caught.value.permanent
    assert caught.value.call == "update"
    assert sim.count("update") == 0


def test_a_store_that_fails_after_the_post_does_not_matter(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names = Names()
    client = client_of(sim, clock=lagging_after(sim, "update", names))
    [account] = merge(client, names, "new")
    assert set(account.pricing) == {"gpt-4", "new"}


def test_an_orphan_that_waits_out_a_429_sends_nothing_more(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names = Names()
    sim.fault("update", "rate_limit", retry_after=0.2)

    def die(request: Request) -> None:
        if request.call == "update":
            names.problem = BrokenPipeError()

    sim.on_request = die
    with pytest.raises(SupervisorGone):
        merge(client_of(sim), names, "new")
    assert sim.count("update") == 1
    assert models_of(sim) == {"gpt-4"}


# --- One claim at a time ----------------------------------------------------------------------------------


def test_a_create_that_updates_claims_twice_and_never_at_once(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    names, most = Names(), [0]
    claimants: set[str] = set()

    def count(name: str) -> None:
        if name.startswith("closeai_lock."):
            claimants.add(name.split(".")[2])
            most[0] = max(most[0], len({each.split(".")[2] for each in [*names.of("lock"), name]}))

    names.on_add = count
    request = CreateRequest.parse("a", {"gpt-4": 3}, 1, 2, if_exists="update", settle=0.6)
    made = runner.create(client_of(sim), request, runner.Try(names=names))
    assert [account.pricing for account in made] == [{"gpt-4": 3}] * 2
    assert (len(claimants), most) == (2, [1])
    assert names.of("lock") == []
