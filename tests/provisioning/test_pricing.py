"""Repricing: read, merge, write, read back. No account renamed, no model lost."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import pytest
from support import Asked, Sleeps, client_of, fixed_client, in_processes, item, jumping_clock, platform

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import OutcomeUnknown, Rejected
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import MissingAccounts, NotConfirmed, UnconvertedPricing
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.simulator import Request, Simulator

PRICING = [{"model": "gpt-4", "pricing_factor": 1}, {"model": "gpt-4o", "pricing_factor": 2}]
DEAD = [{"model": "old", "prompt_price": 1, "completion_price": 1}, {"model": "gpt-4", "pricing_factor": 1}]
FOLLOWS = [{"model": "old", "prompt_price": 0, "completion_price": 0, "auto_following": True}]


def update(client: CloseAIClient, pricing: Any, **options: Any) -> list[SubAccount]:
    return runner.reprice(client, RepriceRequest.parse(pricing, **options))


def truth(sim: Simulator, account_id: int) -> dict[str, Any]:
    [account] = [account for account in sim.accounts() if account["id"] == account_id]
    return {entry["model"]: entry.get("pricing_factor") for entry in account["model_pricing"]}


def posts(sim: Simulator) -> list[Any]:
    return [request.body for request in sim.requests if request.call == "update"]


def test_merge_changes_the_named_and_keeps_the_others(sim: Simulator) -> None:
    account = sim.add_account("a", PRICING)
    [after] = update(client_of(sim), {"gpt-4": "1.2", "new": 3}, alias="a")
    assert truth(sim, account["id"]) == {"gpt-4": 1.2, "gpt-4o": 2, "new": 3}
    assert after.pricing == {"gpt-4": Decimal("1.2"), "gpt-4o": 2, "new": 3}
    assert sim.counts() == {"links": 1, "list": 2, "update": 1}


def test_replace_sets_the_list_and_names_what_is_lost(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    account = sim.add_account("a", PRICING)
    update(client_of(sim), {"gpt-4": 1}, alias="a", mode="replace")
    assert truth(sim, account["id"]) == {"gpt-4": 1}
    [warning] = [
        record.getMessage() for record in caplog.records if "loses permission" in record.getMessage()
    ]
    assert "gpt-4o" in warning


@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_what_is_right_already_is_not_sent(sim: Simulator, mode: str) -> None:
    right = sim.add_account("a", PRICING[::-1])
    wrong = sim.add_account("a", [{"model": "gpt-4", "pricing_factor": "9"}, PRICING[1]])
    asked = {"gpt-4": "1.0", "gpt-4o": 2}
    assert len(update(client_of(sim), asked, alias="a", mode=mode)) == 2
    assert [body["sks"] for body in posts(sim)] == [[wrong["token"]]]
    asked_again = update(client_of(sim), asked, alias="a", mode=mode)
    assert {account.id for account in asked_again} == {right["id"], wrong["id"]}
    assert sim.count("update") == 1


def test_accounts_are_grouped_by_alias_and_resulting_prices_and_none_is_renamed(sim: Simulator) -> None:
    there = [
        ("a", PRICING),
        ("b", PRICING),
        ("a", PRICING[:1]),
        ("a", PRICING),
        ("ünï+", PRICING[:1]),
        ("b", PRICING),
    ]
    accounts = [sim.add_account(alias, pricing) for alias, pricing in there]
    update(client_of(sim), {"gpt-4": 5}, sub_accounts=[account["id"] for account in accounts])
    assert [(body["alias"], len(body["sks"]), len(body["model_pricing"])) for body in posts(sim)] == [
        ("a", 2, 2),
        ("b", 2, 2),
        ("a", 1, 1),
        ("ünï+", 1, 1),
    ]
    assert [account["alias"] for account in sim.accounts()] == [alias for alias, _ in there]
    assert all(truth(sim, account["id"])["gpt-4"] == 5 for account in accounts)
    assert [len(truth(sim, account["id"])) for account in accounts] == [2, 2, 1, 2, 1, 2]


def test_batches_are_counted(sim: Simulator) -> None:
    for _ in range(25):
        sim.add_account("a", PRICING)
    update(client_of(sim), {"gpt-4": 5}, alias="a", batch_size=10)
    assert [len(body["sks"]) for body in posts(sim)] == [10, 10, 5]
    assert len({sk for body in posts(sim) for sk in body["sks"]}) == 25


def test_dry_run_sends_nothing_and_tells_what_would_be(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    account = sim.add_account("a", PRICING)
    [would] = update(client_of(sim), {"gpt-4": 7}, alias="a", mode="replace", dry_run="true")
    assert would.pricing == {"gpt-4": 7}
    assert sim.counts() == {"links": 1, "list": 1}
    assert truth(sim, account["id"]) == {"gpt-4": 1, "gpt-4o": 2}
    assert "would lose" in caplog.text


def test_old_prices_that_cannot_be_kept_stop_it_before_anything_is_sent(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    dead = sim.add_account("a", DEAD)
    with pytest.raises(UnconvertedPricing, match="old") as caught:
        update(client_of(sim), {"gpt-4": 5}, alias="a")
    assert str(dead["id"]) in str(caught.value)
    assert caught.value.permanent
    assert sim.count("update") == 0
    update(client_of(sim), {"old": 3}, sub_accounts=[dead["id"]])
    assert truth(sim, dead["id"]) == {"old": 3, "gpt-4": 1}


def test_old_prices_are_replaced(sim: Simulator) -> None:
    dead = sim.add_account("a", DEAD)
    update(client_of(sim), {"gpt-4": 5}, alias="a", mode="replace")
    assert truth(sim, dead["id"]) == {"gpt-4": 5}


def test_old_prices_that_followed_are_kept_as_factor_one(sim: Simulator) -> None:
    account = sim.add_account("a", FOLLOWS)
    update(client_of(sim), {"gpt-4": 5}, alias="a")
    assert truth(sim, account["id"]) == {"old": 1, "gpt-4": 5}


@pytest.mark.parametrize("kind", ["cut_after", "error_after", "garbage", "parked"])
def test_an_unknown_outcome_is_resolved_by_reading_back(sim: Simulator, kind: str) -> None:
    account = sim.add_account("a", PRICING)
    client = client_of(sim, max_attempts=1)
    client.list_bases()
    sim.fault("update", kind)
    if kind == "parked":
        with pytest.raises(OutcomeUnknown):
            _soon(update, client, {"gpt-4": 5}, alias="a")
        assert truth(sim, account["id"])["gpt-4"] == 1
        return
    update(client, {"gpt-4": 5}, alias="a")
    assert truth(sim, account["id"])["gpt-4"] == 5
    assert sim.count("update") == (2 if kind == "cut_after" else 1), "a kept connection is tried once more"


def _soon(function: Any, *args: Any, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locking, "CONFIRM_WITHIN", 0.2)
        return function(*args, **options)


def test_a_batch_that_fails_leaves_the_rest_to_a_retry(sim: Simulator) -> None:
    for _ in range(4):
        sim.add_account("a", PRICING)
    sim.fault("update", "status", status=400, skip=1, body={"error": {"message": "no"}})
    with pytest.raises(Rejected):
        update(client_of(sim), {"gpt-4": 5}, alias="a", batch_size=2)
    assert [truth(sim, account["id"])["gpt-4"] for account in sim.accounts()] == [5, 5, 1, 1]
    update(client_of(sim), {"gpt-4": 5}, alias="a", batch_size=2)
    assert [len(body["sks"]) for body in posts(sim)] == [2, 2, 2]
    assert [truth(sim, account["id"])["gpt-4"] for account in sim.accounts()] == [5, 5, 5, 5]


def test_a_lagging_listing_is_waited_for() -> None:
    with Simulator(list_lag=0.3) as sim:
        sim.add_account("a", PRICING)
        [after] = update(client_of(sim), {"gpt-4": 5}, alias="a")
        assert after.pricing["gpt-4"] == 5
        assert sim.count("update") == 1


def test_what_is_never_shown_is_not_confirmed() -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        return 200, {"items": [item(1)], "total": 1} if asked.method == "GET" else {"success": True}

    with platform(reply) as (origin, asked):
        with pytest.raises(NotConfirmed, match=r"\[1\]") as caught:
            _soon(update, fixed_client(origin), {"gpt-4": 5}, alias="a")
        assert not caught.value.permanent
        assert sum(request.method == "POST" for request in asked) == 1


def test_missing_accounts_stop_it(sim: Simulator) -> None:
    account = sim.add_account("a", PRICING)
    for selection, told in (
        ({"sub_accounts": [account["id"], 77]}, "77"),
        ({"sks": [account["token"], "sk-unknown-1234567"]}, "sk-…4567"),
        ({"alias": "nobody"}, "'nobody'"),
    ):
        with pytest.raises(MissingAccounts) as caught:
            update(client_of(sim), {"gpt-4": 5}, **selection)
        assert told in str(caught.value)
        assert "unknown-123" not in str(caught.value)
    assert sim.count("update") == 0


def test_selection_by_ids_records_and_keys(sim: Simulator) -> None:
    accounts = [sim.add_account(f"a{number}", PRICING) for number in range(4)]
    client = client_of(sim)
    records = [account.record() for account in client.iter_sub_accounts(alias="a1")]
    update(client, {"gpt-4": 5}, sub_accounts=records)
    update(client, {"gpt-4": 6}, sks=[accounts[2]["token"]])
    update(client, {"gpt-4": 7}, sub_accounts=str([accounts[3]["id"]]))
    assert [truth(sim, account["id"])["gpt-4"] for account in accounts] == [1, 5, 6, 7]


def _merge_in_process(key: str, host: str) -> None:
    client = CloseAIClient(config_from(password=key, host=host))
    update(client, {f"model-{os.getpid()}": 1}, alias="a")


@pytest.mark.parametrize("lag", [0, 0.1])
def test_merges_of_many_processes_lose_no_model(lag: float) -> None:
    with Simulator(list_lag=lag) as sim:
        account = sim.add_account("a", PRICING)
        in_processes(4, _merge_in_process, sim.key, sim.discovery_url)
        assert len(truth(sim, account["id"])) == 2 + 4
        assert sim.count("update") == 4


def test_a_merge_beside_another_tasks_waits_for_it(sim: Simulator) -> None:
    account = sim.add_account("a", PRICING)
    held: list[bool] = []

    def hook(request: Request) -> None:
        if request.call == "update":
            with pytest.raises(Waited):
                update(client_of(sim, sleep=_stop), {"other": 1}, alias="a")
            held.append(True)

    sim.on_request = hook
    update(client_of(sim, sleep=Sleeps()), {"gpt-4": 5}, alias="a")
    assert held == [True]
    assert truth(sim, account["id"]) == {"gpt-4": 5, "gpt-4o": 2}


class Waited(Exception):
    pass


def _stop(seconds: float) -> None:
    raise Waited


@pytest.mark.parametrize("by", ["alias", "sub_accounts"])
def test_one_key_that_is_gone_does_not_stop_the_others_of_its_call(by: str) -> None:
    """The listing still shows it for a while, and the platform refuses the whole call."""
    clock, items = jumping_clock(), {number: item(number) for number in (1, 2, 3)}
    begun = clock.monotonic()

    def answer(asked: Asked) -> Any:
        if asked.method == "GET":
            if clock.monotonic() - begun > 20:
                items.pop(2, None)
            return 200, {"items": [*items.values()], "total": len(items), "page": 1, "pageSize": 500}
        if item(2)["token"] in asked.body["sks"]:
            return 404, {"message": "unknown sk"}
        for number, each in items.items():
            items[number] = each | {"model_pricing": asked.body["model_pricing"]}
        return 200, {"success": True}

    given = {"alias": "a"} if by == "alias" else {"sub_accounts": [1, 2, 3]}
    with platform(answer) as (origin, _):
        client = fixed_client(origin, clock=clock)
        if by == "alias":
            assert [account.id for account in update(client, {"new": 1}, mode="replace", **given)] == [1, 3]
            assert {each["model_pricing"][0]["model"] for each in items.values()} == {"new"}
        else:
            with pytest.raises(MissingAccounts, match=r"not listed: \[2\]. Nothing more was done"):
                update(client, {"new": 1}, mode="replace", **given)
