"""What an exact create refuses, and what it must not touch."""

from __future__ import annotations

from typing import Any

import pytest
from support import GPT4, Asked, client_of, fixed_client, item, platform, run_create

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.errors import (
    AliasExists,
    PricingDiffers,
    TooManyAccounts,
    UnexpectedAnswer,
)
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.simulator import Simulator

PRICING = [{"model": "gpt-4", "pricing_factor": 1}]


def ensure(
    client: CloseAIClient,
    count: int = 1,
    pricing: Any = GPT4,
    first_try: bool = True,
    task: str = "",
    **options: Any,
) -> list[SubAccount]:
    want = CreateRequest.parse("a", pricing, 1, count, **{"settle": 0.2, **options})
    return run_create(client, want, first_try=first_try, task=task)


def test_a_surplus_is_told_with_its_ids_and_left_alone(sim: Simulator) -> None:
    ids = [sim.add_account("a", PRICING)["id"] for _ in range(4)]
    with pytest.raises(TooManyAccounts) as caught:
        ensure(client_of(sim), 3)
    assert str(ids) in str(caught.value)
    assert caught.value.permanent
    assert sim.counts() == {"links": 1, "list": 1}
    assert len(sim.accounts("a")) == 4


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ([{"model": "gpt-4", "pricing_factor": 2}], "gpt-4: 2"),
        ([{"model": "gpt-4", "pricing_factor": 1}, {"model": "gpt-4o", "pricing_factor": 1}], "gpt-4o: 1"),
        ([], "id 1 has"),
        ([{"model": "gpt-4", "prompt_price": 1, "completion_price": 1}], "gpt-4: no factor"),
    ],
)
def test_other_prices_are_told_before_anything_is_created(
    sim: Simulator, there: list[dict[str, Any]], told: str
) -> None:
    sim.add_account("a", there)
    with pytest.raises(PricingDiffers) as caught:
        ensure(client_of(sim), 2, if_exists="match")
    assert told in str(caught.value)
    assert "gpt-4: 1" in str(caught.value)
    assert caught.value.permanent
    assert sim.count("create") == 0


def test_a_followed_old_price_is_factor_one(sim: Simulator) -> None:
    sim.add_account(
        "a", [{"model": "gpt-4", "prompt_price": 0, "completion_price": 0, "auto_following": True}]
    )
    assert len(ensure(client_of(sim), 1, if_exists="match")) == 1
    assert sim.count("create") == 0


def test_the_same_factor_written_otherwise_is_no_difference(sim: Simulator) -> None:
    sim.add_account("a", [{"model": "gpt-4", "pricing_factor": "1.50"}])
    assert len(ensure(client_of(sim), 1, {"gpt-4": 1.5}, if_exists="match")) == 1


def test_if_exists_fail_refuses_what_was_there(sim: Simulator) -> None:
    there = sim.add_account("a", PRICING)
    with pytest.raises(AliasExists, match=str(there["id"])) as caught:
        ensure(client_of(sim), 2, if_exists="fail")
    assert caught.value.permanent
    assert sim.count("create") == 0


def test_if_exists_fail_knows_its_own_after_a_crash(sim: Simulator) -> None:
    sim.fault("create", "cut_after", times=None)
    sim.fault("list", "status", status=400, skip=1, times=None)
    with pytest.raises(Exception, match="400"):  # the try dies after its post, before it could look
        ensure(client_of(sim), 2, if_exists="fail", task="dag/run/task/-1")
    assert len(sim.accounts("a")) == 2
    sim.clear_faults()
    with pytest.raises(AliasExists):  # another task must not take them for its own
        ensure(client_of(sim), 2, if_exists="fail", first_try=False, task="dag/run/other/-1")
    made = ensure(client_of(sim), 2, if_exists="fail", first_try=False, task="dag/run/task/-1")
    assert [account.id for account in made] == [account["id"] for account in sim.accounts("a")]
    assert sim.count("create") == 1


def test_if_exists_fail_on_a_retry_still_refuses_what_was_there_before(sim: Simulator) -> None:
    sim.add_account("a", PRICING)
    for first_try in (True, False):
        with pytest.raises(AliasExists):
            ensure(client_of(sim), 2, if_exists="fail", first_try=first_try, task="t")
    assert sim.count("create") == 0


def test_disabled_accounts_count(sim: Simulator) -> None:
    sim.add_account("a", PRICING, enabled=False)
    [account] = ensure(client_of(sim), 1)
    assert not account.enabled
    assert sim.count("create") == 0


def test_the_main_accounts_own_entry_is_not_counted(sim: Simulator) -> None:
    main = sim.add_account("a", [], token_type="master")
    [account] = ensure(client_of(sim), 1)
    assert account.id != main["id"]
    assert sim.count("create") == 1


@pytest.mark.parametrize("alias_filter", ["exact", "substring", "ignored"])
def test_accounts_of_similar_aliases_are_not_counted(alias_filter: str) -> None:
    with Simulator(alias_filter=alias_filter) as sim:
        for alias in ("aa", "A", "a ", "ba"):
            sim.add_account(alias, PRICING)
        ensure(client_of(sim, page_size=2), 2)
        assert len(sim.accounts("a")) == 2
        ensure(client_of(sim, page_size=2), 2)
        assert sim.count("create") == 1


class Platform:
    """A platform that creates in ways of its own."""

    def __init__(self, create: Any) -> None:
        self.items: list[dict[str, Any]] = []
        self.create = create

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            return 200, {"items": self.items, "total": len(self.items), "page": 1, "pageSize": 500}
        return 200, self.create(self, asked.body["count"])

    def add(self, count: int, **fields: Any) -> list[dict[str, Any]]:
        new = [item(len(self.items) + index + 1, **fields) for index in range(count)]
        self.items += new
        return new


def answering(create: Any, count: int = 1) -> tuple[list[SubAccount], list[Asked], Platform]:
    there = Platform(create)
    with platform(there) as (origin, asked):
        made = ensure(fixed_client(origin), count)
    return made, [request for request in asked if request.method == "POST"], there


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"alias": "A"}, "'A'"), ({"model_pricing": []}, "the platform created"), ({"alias": ""}, "1: ''")],
)
def test_another_alias_or_price_than_asked_is_final(fields: dict[str, Any], told: str) -> None:
    there = Platform(lambda there, count: {"items": there.add(count, **fields), "success": True})
    with platform(there) as (origin, asked):
        with pytest.raises(UnexpectedAnswer) as caught:
            ensure(fixed_client(origin), 1)
        assert told in str(caught.value)
        assert caught.value.permanent
        assert sum(request.method == "POST" for request in asked) == 1


def test_fewer_items_than_asked_are_looked_for_before_more_are_made() -> None:
    made, posts, there = answering(lambda there, count: {"items": there.add(count)[:1], "success": True}, 3)
    assert len(made) == len(there.items) == 3
    assert len(posts) == 1


def test_fewer_made_than_asked_are_completed() -> None:
    made, posts, there = answering(
        lambda there, count: {"items": there.add(min(count, 2)), "success": True}, 5
    )
    assert len(made) == len(there.items) == 5
    assert [post.body["count"] for post in posts] == [5, 3, 1]


def test_no_items_in_the_answer_is_no_success_without_end() -> None:
    for answer in ({"items": [], "success": True}, {"items": None, "success": True}):
        there = Platform(lambda there, count, answer=answer: answer)
        with platform(there) as (origin, asked):
            with pytest.raises(UnexpectedAnswer, match="names no new"):
                ensure(fixed_client(origin), 1, settle=0.05)
            assert sum(request.method == "POST" for request in asked) == 3


def test_an_answer_that_repeats_what_is_there_is_no_success_without_end() -> None:
    there = Platform(lambda there, count: {"items": there.items[:1], "success": True})
    there.add(1)
    with platform(there) as (origin, asked):
        with pytest.raises(UnexpectedAnswer, match="names no new"):
            ensure(fixed_client(origin), 2, settle=0.05)
        assert sum(request.method == "POST" for request in asked) == 3


def test_more_made_than_asked_is_told() -> None:
    there = Platform(lambda there, count: {"items": there.add(count + 1), "success": True})
    with platform(there) as (origin, _), pytest.raises(TooManyAccounts, match=r"\[1, 2\]"):
        ensure(fixed_client(origin), 1)


def test_no_error_and_no_log_shows_a_token(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    tokens = [sim.add_account("a", PRICING)["token"] for _ in range(2)]
    with pytest.raises(TooManyAccounts) as surplus:
        ensure(client_of(sim), 1)
    with pytest.raises(PricingDiffers) as prices:
        ensure(client_of(sim), 2, {"gpt-4": 2}, if_exists="match")
    ensure(client_of(sim), 3)
    tokens += [account["token"] for account in sim.accounts("a")]
    told = caplog.text + str(surplus.value) + str(prices.value)
    assert not [token for token in [sim.key, *tokens] if token in told]
