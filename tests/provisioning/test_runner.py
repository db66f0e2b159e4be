"""What writes cost, and what comes of a post that the platform executes late."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import client_of, jumping_clock, process, run_and_kill, run_create

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import CloseAIError, RateLimited, Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import TooManyAccounts
from airflow_provider_closeai.provisioning.reading import select
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.simulator import Simulator

PRICING = [{"model": "m", "pricing_factor": 1}]


def requests_for(*aliases: str, **options: Any) -> list[CreateRequest]:
    return [CreateRequest.parse(alias, {"m": 1}, 1, **{"settle": 0.1, **options}) for alias in aliases]


def lists_since(sim: Simulator, before: int) -> int:
    return sim.count("list") - before


# --- Late execution ----------------------------------------------------------------------------------------


def ensure_late(key: str, host: str, is_retry: bool = False) -> list[SubAccount]:
    client = CloseAIClient(config_from(password=key, host=host, extra={"max_late": 1.5}))
    return run_create(client, CreateRequest.parse("a", {"m": 1}, 1, 3, settle=0.3), first_try=not is_retry)


def test_a_post_that_is_executed_late_is_waited_for(sim: Simulator) -> None:
    """With a wait of ``settle`` alone there were six accounts for three, and the task was green."""
    sim.fault("create", "late", seconds=0.8)
    made = ensure_late(sim.key, sim.discovery_url)
    assert len(made) == len(sim.accounts("a")) == 3
    assert sim.count("create") == 1


@pytest.mark.parametrize("is_retry", [True, False], ids=["its retry", "another task"])
def test_a_post_that_is_executed_after_its_task_was_killed_is_waited_for(
    sim: Simulator, is_retry: bool
) -> None:
    sim.fault("create", "late", seconds=0.8)
    victim = process(ensure_late, sim.key, sim.discovery_url)
    run_and_kill(sim, victim, lambda request: request.call == "list" and sim.count("create") == 1)
    made = ensure_late(sim.key, sim.discovery_url, is_retry)
    assert len(made) == len(sim.accounts("a")) == 3
    assert sim.count("create") == 1


# --- Many creates ------------------------------------------------------------------------------------------


def test_many_creates_share_their_listings(sim: Simulator) -> None:
    for number in range(31):
        sim.add_account(f"there-{number}", PRICING)
    aliases = [f"new-{number}" for number in range(40)]
    made: list[Any] = runner.create_all(client_of(sim), requests_for(*aliases))
    assert [[each.alias for each in one] for one in made] == [[a] for a in aliases]
    assert len(sim.accounts()) == 71
    assert sim.count("create") == 40
    assert sim.count("list") == 3, "the number of accounts, and twice all of them"
    again = runner.create_all(client_of(sim), requests_for(*aliases))
    assert again == made
    assert sim.count("create") == 40


def test_many_creates_wait_together_for_what_is_in_doubt(sim: Simulator) -> None:
    sim.settings.list_lag = 0.2
    sim.fault("create", "cut_after", times=5)
    waits: list[float] = []
    stop = threading.Event()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        stop.wait(seconds)

    made = runner.create_all(
        client_of(sim, sleep=sleep), requests_for(*(f"a-{n}" for n in range(10)), settle=0.4)
    )
    assert all(isinstance(one, list) and len(one) == 1 for one in made)
    assert len(sim.accounts()) == sim.count("create") == 10
    assert sum(waits) < 2


def test_one_that_cannot_be_made_does_not_stop_the_others(sim: Simulator) -> None:
    for _ in range(2):
        sim.add_account("b", PRICING)
    made = runner.create_all(client_of(sim), requests_for("a", "b", "c"))
    assert [type(one) for one in made] == [list, TooManyAccounts, list]


def test_what_would_go_wrong_for_every_alias_is_met_once(sim: Simulator) -> None:
    sim.fault("create", "rate_limit", retry_after=900, times=None)
    made = runner.create_all(client_of(sim), requests_for("a", "b", "c"))
    assert [type(one) for one in made] == [RateLimited] * 3
    assert sim.count("create") == 1


# --- What a selection costs --------------------------------------------------------------------------------


@pytest.fixture
def crowd() -> Any:
    with Simulator() as sim:
        for number in range(300):
            sim.add_account(f"team {number // 2}", PRICING)
        yield sim


def records_of(sim: Simulator, *ids: int) -> list[dict[str, Any]]:
    return [each.record() for each in client_of(sim).iter_sub_accounts() if each.id in ids]


def test_records_name_the_alias_so_that_nothing_grows_with_the_number_of_accounts(crowd: Simulator) -> None:
    records, before = records_of(crowd, 7), crowd.count("list")
    runner.reprice(client_of(crowd, page_size=10), RepriceRequest.parse({"m": 2}, records))
    assert lists_since(crowd, before) == 2
    records, before = records_of(crowd, *range(10, 30, 2)), crowd.count("list")
    after = runner.reprice(client_of(crowd, page_size=10), RepriceRequest.parse({"m": 2}, records))
    assert [each.id for each in after] == list(range(10, 30, 2))
    assert lists_since(crowd, before) == 2 * 10
    before = crowd.count("list")
    assert len(runner.delete(client_of(crowd, page_size=10), DeleteRequest.parse(records))) == 10
    assert lists_since(crowd, before) == 2 * 10


def whole_listing(sim: Simulator) -> int:
    """Say how many calls one whole listing takes."""
    before = sim.count("list")
    assert len(list(client_of(sim, page_size=100).iter_listing())) == 300
    return lists_since(sim, before)


def test_many_aliases_take_one_listing_each_time(crowd: Simulator) -> None:
    whole = whole_listing(crowd)
    records, before = records_of(crowd, *range(1, 300, 2)), crowd.count("list")
    runner.reprice(client_of(crowd, page_size=100), RepriceRequest.parse({"m": 2}, records))
    assert lists_since(crowd, before) <= 2 * (1 + whole)


def test_an_id_alone_takes_one_listing(crowd: Simulator) -> None:
    whole = whole_listing(crowd)
    before = crowd.count("list")
    runner.reprice(client_of(crowd, page_size=100), RepriceRequest.parse({"m": 2}, [299]))
    assert lists_since(crowd, before) <= whole + 1


def test_a_record_whose_account_has_another_alias_now_is_found_all_the_same(crowd: Simulator) -> None:
    [record] = records_of(crowd, 7)
    [found] = select(client_of(crowd), Selection.parse([record | {"alias": "before"}]), "fail")
    assert (found.id, found.alias) == (7, "team 3")


@pytest.mark.parametrize("alias_filter", ["exact", "substring", "ignored"])
def test_records_of_any_alias_are_found_whatever_the_filter_does(alias_filter: str) -> None:
    aliases = ["字 1", "R&D (1)", "a%b", "plain", "👩‍🚀", "é", "R&D", "字"]
    with Simulator(alias_filter=alias_filter) as sim:
        for alias in aliases:
            sim.add_account(alias, PRICING)
        records = [each.record() for each in client_of(sim).iter_sub_accounts()]
        found = select(client_of(sim, page_size=3), Selection.parse(records), "fail")
        assert [each.alias for each in found] == aliases
        gone = runner.delete(client_of(sim, page_size=3), DeleteRequest.parse(records[1:3]))
        assert [each.alias for each in gone] == aliases[1:3]
        assert select(client_of(sim), Selection.parse(records[1:3]), "ignore") == []


def test_an_error_of_the_listing_is_the_error_of_all(sim: Simulator) -> None:
    sim.fault("list", "status", status=400, body={"error": {"message": "no"}}, times=None)
    made = runner.create_all(client_of(sim), requests_for("a", "b"))
    assert all(isinstance(one, CloseAIError) for one in made)
    assert sim.count("create") == 0


def test_one_in_doubt_and_one_that_is_new_wait_together(sim: Simulator) -> None:
    """Each lists while the other waits: without a common wait they list without end."""
    sim.fault("create", "cut_before")
    sim.fault("list", "status", status=400, skip=1, times=None)
    [in_doubt] = requests_for("in-doubt", settle=2)
    with pytest.raises(Rejected):
        runner.create(client_of(sim), in_doubt)
    sim.clear_faults()
    sim.settings.list_lag = 3600
    before, clock = sim.count("list"), jumping_clock()
    results = runner.create_all(client_of(sim, clock=clock), requests_for("in-doubt", "new", settle=2))
    assert [type(result) for result in results] == [list, list]
    assert len(sim.accounts()) == 2
    assert sim.count("list") - before < 60
