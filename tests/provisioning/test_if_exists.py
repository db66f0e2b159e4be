"""What a create does with accounts that exist: leaves them, reprices them, or refuses; on every run again."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from support import Asked, client_of, fixed_client, item, platform, process, run_and_kill, run_create

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import (
    AliasExists,
    PricingDiffers,
    TooManyAccounts,
    UnexpectedAnswer,
)
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.simulator import Simulator

ASKED = {"gpt-4": 1, "gpt-4o": "1.5"}
LESS = [{"model": "gpt-4", "pricing_factor": 1}]
OTHER = [{"model": "gpt-4", "pricing_factor": 1}, {"model": "gpt-4o", "pricing_factor": 1.2}]
MORE = [*OTHER, {"model": "o1", "pricing_factor": 9}]
DEAD = [{"model": "gpt-4", "prompt_price": 1, "completion_price": 1}]


def ensure(client: CloseAIClient, count: int = 2, **options: Any) -> list[SubAccount]:
    tries = {name: options.pop(name) for name in ("first_try", "task", "needs_keys") if name in options}
    return run_create(
        client, CreateRequest.parse("a", ASKED, 1, count, **{"settle": 0.2, **options}), **tries
    )


def prices(sim: Simulator) -> list[dict[str, Any]]:
    return [
        {entry["model"]: float(entry.get("pricing_factor", -1)) for entry in account["model_pricing"]}
        for account in sim.accounts("a")
    ]


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_create_and_reprice_are_green_on_every_run(sim: Simulator) -> None:
    """The README's DAG, seven times."""
    for _ in range(7):
        made = ensure(client_of(sim), 3)
        runner.reprice(client_of(sim), RepriceRequest.parse({"gpt-4o": "1.2"}, [each.id for each in made]))
    assert len(prices(sim)) == 3
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.2}] * 3
    assert (sim.count("create"), sim.count("update")) == (1, 1)


def test_create_reprice_delete_are_green_on_every_run(sim: Simulator) -> None:
    for really in (False, True, True):
        made = ensure(client_of(sim), 2)
        after = runner.reprice(
            client_of(sim), RepriceRequest.parse({"gpt-4o": "1.2"}, [each.id for each in made])
        )
        gone = runner.delete(
            client_of(sim), DeleteRequest.parse([each.id for each in after], dry_run=not really)
        )
        assert len(gone) == 2
    assert prices(sim) == []
    assert (sim.count("create"), sim.count("delete")) == (2, 2)


@pytest.mark.parametrize("there", [LESS, OTHER, MORE, DEAD, []])
def test_ensure_leaves_what_is_there_and_creates_with_the_prices_asked(
    sim: Simulator, there: list[dict[str, Any]], told: pytest.LogCaptureFixture
) -> None:
    old = sim.add_account("a", there)["id"]
    before = prices(sim)[0]
    made = ensure(client_of(sim))
    assert prices(sim) == [before, {"gpt-4": 1, "gpt-4o": 1.5}]
    assert sim.count("update") == 0
    want = CreateRequest.parse("a", ASKED, 1, 2)
    assert [want.record(each).get("pricing_differs") for each in made] == [True, None]
    assert "Other prices than asked for (gpt-4: 1, gpt-4o: 1.5) are left as they are" in told.text
    assert f"id {old} has" in told.text
    assert "Alias 'a' has 2 sub-accounts (1 created now): ids [1, 2]." in told.text
    assert not [record for record in told.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("there", [LESS, OTHER, MORE, DEAD, []])
def test_update_brings_what_is_there_to_the_prices_asked(
    sim: Simulator, there: list[dict[str, Any]], told: pytest.LogCaptureFixture
) -> None:
    sim.add_account("a", there)
    elsewhere = sim.add_account("b", there)
    made = ensure(client_of(sim), 2, if_exists="update")
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.5}] * 2
    assert [each.pricing for each in made] == [
        {"gpt-4": 1, "gpt-4o": CreateRequest.parse("a", ASKED, 1).pricing["gpt-4o"]}
    ] * 2
    assert sim.accounts("b")[0]["model_pricing"] == elsewhere["model_pricing"]
    assert ("loses permission for: o1" in told.text) == (there is MORE)
    assert "Alias 'a' has 2 sub-accounts (1 created, 1 repriced now): ids [1, 3]." in told.text
    again = ensure(client_of(sim), 2, if_exists="update")
    assert [each.id for each in again] == [each.id for each in made]
    assert (sim.count("create"), sim.count("update")) == (1, 1)
    assert "Alias 'a' has 2 sub-accounts (0 created, 0 repriced now): ids [1, 3]." in told.text


def test_update_is_exact_after_a_kill_between_create_and_update(sim: Simulator) -> None:
    for _ in range(2):
        sim.add_account("a", OTHER)
    victim = process(_update_in_process, sim.key, sim.discovery_url)
    run_and_kill(sim, victim, lambda request: request.call == "list" and sim.count("create") == 1)
    assert len(prices(sim)) == 4
    made = ensure(client_of(sim), 4, if_exists="update", first_try=False)
    assert len(made) == 4
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.5}] * 4
    assert sim.count("create") == 1


def test_update_is_exact_after_a_kill_in_the_middle_of_the_updates(sim: Simulator) -> None:
    for _ in range(4):
        sim.add_account("a", OTHER)
    victim = process(_update_in_process, sim.key, sim.discovery_url)
    run_and_kill(sim, victim, lambda request: request.call == "update" and sim.count("update") == 2)
    ensure(client_of(sim), 4, if_exists="update", first_try=False)
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.5}] * 4


def _update_in_process(key: str, host: str) -> None:
    ensure(CloseAIClient(config_from(password=key, host=host)), 4, if_exists="update", batch_size=2)


def test_a_part_that_could_not_be_updated_is_left_to_the_retry(sim: Simulator) -> None:
    for _ in range(4):
        sim.add_account("a", OTHER)
    sim.fault("update", "status", status=400, skip=1, body={"error": {"message": "no"}})
    with pytest.raises(Rejected):
        ensure(client_of(sim), 4, if_exists="update", batch_size=2)
    ensure(client_of(sim), 4, if_exists="update", batch_size=2, first_try=False)
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.5}] * 4
    assert sim.count("update") == 3


@pytest.mark.parametrize("if_exists", ["ensure", "update", "match"])
def test_a_surplus_changes_nothing(sim: Simulator, if_exists: str) -> None:
    for _ in range(3):
        sim.add_account("a", OTHER)
    with pytest.raises(TooManyAccounts, match=r"\[1, 2, 3\]"):
        ensure(client_of(sim), 2, if_exists=if_exists)
    assert (sim.count("create"), sim.count("update")) == (0, 0)


def test_match_refuses_before_anything_is_created_and_names_the_ways_out(sim: Simulator) -> None:
    sim.add_account("a", OTHER)
    with pytest.raises(PricingDiffers, match=r"'update' .*'ensure'"):
        ensure(client_of(sim), 2, if_exists="match")
    assert (sim.count("create"), sim.count("update")) == (0, 0)


def test_fail_refuses_whatever_the_prices(sim: Simulator) -> None:
    sim.add_account("a", OTHER)
    with pytest.raises(AliasExists, match="ensure"):
        ensure(client_of(sim), 1, if_exists="fail")
    assert sim.count("create") == 0


@pytest.mark.parametrize("if_exists", ["ensure", "update", "match", "fail"])
def test_a_factor_that_is_the_same_double_is_the_same(if_exists: str) -> None:
    items: list[dict[str, Any]] = []

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            items.append(item(1, model_pricing=[]))
            return 200, _odd({"items": items, "success": True})
        return 200, _odd({"items": items, "total": len(items), "page": 1, "pageSize": 500})

    with platform(reply) as (origin, asked):
        want = CreateRequest.parse("a", {"m": "0.30"}, 1, if_exists=if_exists, settle=0.1)
        [made] = run_create(fixed_client(origin), want)
        assert "pricing_differs" not in want.record(made)
        if if_exists != "fail":
            run_create(fixed_client(origin), want)
        runner.reprice(fixed_client(origin), RepriceRequest.parse({"m": 0.3}, alias="a", mode="replace"))
        assert sum(request.method == "POST" for request in asked) == 1


def _odd(answer: dict[str, Any]) -> bytes:
    import json

    return json.dumps(answer).replace('"model_pricing": []', _ODD).encode()


_ODD = '"model_pricing": [{"model": "m", "pricing_factor": 0.29999999999999999}]'


@pytest.mark.parametrize("if_exists", ["ensure", "update", "match", "fail"])
@pytest.mark.parametrize("lost", [False, True])
def test_what_is_newly_created_must_have_the_prices_asked(if_exists: str, lost: bool) -> None:
    items: list[dict[str, Any]] = []

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            items.append(item(1, model_pricing=[]))
            return (500, {}) if lost else (200, {"items": items, "success": True})
        return 200, {"items": items, "total": len(items), "page": 1, "pageSize": 500}

    with platform(reply) as (origin, asked):
        with pytest.raises(UnexpectedAnswer, match="no models"):
            ensure(fixed_client(origin), 1, if_exists=if_exists)
        assert sum(request.method == "POST" for request in asked) == 1


def test_what_an_earlier_try_made_and_another_task_repriced_is_no_failure(sim: Simulator) -> None:
    sim.fault("create", "error_after")
    sim.fault("list", "status", status=400, skip=1, times=None)
    with pytest.raises(Rejected):
        ensure(client_of(sim), 2, task="t")
    sim.clear_faults()
    runner.reprice(client_of(sim), RepriceRequest.parse({"gpt-4o": 3}, alias="a"))
    assert len(ensure(client_of(sim), 2, task="t", first_try=False)) == 2
    assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 3}] * 2


def test_an_update_waits_for_a_repricing_that_the_listing_does_not_show_yet() -> None:
    with Simulator(list_lag=0.3) as sim:
        for _ in range(2):
            sim.add_account(
                "a", [{"model": "gpt-4", "pricing_factor": 1}, {"model": "gpt-4o", "pricing_factor": 1.5}]
            )
        client = client_of(sim)
        listed = list(client.iter_sub_accounts())
        while not listed:
            listed = list(client.iter_sub_accounts())
        victim = process(_reprice_in_process, sim.key, sim.discovery_url)
        run_and_kill(sim, victim, lambda request: request.call == "list" and sim.count("update") == 1)
        ensure(client_of(sim), 2, if_exists="update")
        assert prices(sim) == [{"gpt-4": 1, "gpt-4o": 1.5}] * 2
        assert sim.count("update") == 2


def _reprice_in_process(key: str, host: str) -> None:
    client = CloseAIClient(config_from(password=key, host=host))
    runner.reprice(client, RepriceRequest.parse({"gpt-4o": 7}, alias="a"))
