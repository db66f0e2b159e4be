"""A platform's filter that hides accounts: nothing is told as deleted, absent or unchanged on its word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError, Declined
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest

NOT_DONE: list[tuple[int, Any]] = [(502, b""), (400, {"message": "no such key"}), (200, {"success": True})]
Item = dict[str, Any]


class Platform:
    """
    Filters in a way of its own.

    :param finds: whether its filter finds an account, by the alias that is asked for.
    :param answer: to deletions, of which it executes those of enabled accounts where it is 502.
    """

    def __init__(
        self, *items: Item, finds: Callable[[str, Item], bool], answer: tuple[int, Any] | None = None
    ) -> None:
        self.items = [*items, *(item(number, f"b-{number}") for number in range(10, 40))]
        self.finds, self.answer = finds, answer

    @property
    def ids(self) -> list[int]:
        return [each["id"] for each in self.items if each["id"] < 10]

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            wanted, size, page = (
                asked.query.get("alias"),
                *(int(asked.query[n]) for n in ("page_size", "page")),
            )
            found = [each for each in self.items if wanted is None or self.finds(wanted, each)]
            shown = found[(page - 1) * size : page * size] if size > 0 else found
            return 200, {"items": shown, "total": len(found), "page": page, "pageSize": size}
        named = [each for each in self.items if each["token"] in asked.body["sks"]]
        if asked.method == "DELETE":
            is_done = self.answer is None or self.answer[0] == 502
            gone = [each for each in named if is_done and (self.answer is None or each["enabled"])]
            self.items = [each for each in self.items if each not in gone]
            return self.answer or (200, {"success": True})
        for each in named:
            each["model_pricing"] = asked.body["model_pricing"]
        return 200, {"success": True}


def exactly(wanted: str, each: Item) -> bool:
    return bool(each["alias"] == wanted)


def if_enabled(wanted: str, each: Item) -> bool:
    return exactly(wanted, each) and each["enabled"]


def in_small_letters(wanted: str, each: Item) -> bool:
    return bool(each["alias"] == wanted.lower())


def record(number: int, alias: str = "team") -> Item:
    return {"id": number, "alias": alias}


@pytest.mark.parametrize("answer", NOT_DONE, ids=lambda answer: str(answer[0]))
@pytest.mark.parametrize("selected", [[record(1), record(2)], [record(2)]], ids=["some found", "none found"])
def test_an_account_that_the_filter_hides_is_not_taken_for_deleted(
    selected: list[Item], answer: tuple[int, Any]
) -> None:
    there = Platform(item(1, "team"), item(2, "team", enabled=False), finds=if_enabled, answer=answer)
    with platform(there) as (origin, _):
        with pytest.raises(CloseAIError, match=r"\[(1, )?2\]"):
            runner.delete(
                fixed_client(origin, clock=jumping_clock(), page_size=5),
                DeleteRequest.parse(sub_accounts=selected),
            )
        assert 2 in there.ids


@pytest.mark.parametrize("answer", NOT_DONE, ids=lambda answer: str(answer[0]))
def test_an_account_without_an_alias_is_not_taken_for_deleted(answer: tuple[int, Any]) -> None:
    there = Platform(item(1, enabled=False) | {"alias": None}, finds=exactly, answer=answer)
    with platform(there) as (origin, _):
        with pytest.raises(CloseAIError, match=r"\[1\]"):
            runner.delete(fixed_client(origin, clock=jumping_clock()), DeleteRequest.parse(sub_accounts=[1]))
        assert there.ids == [1]


def test_an_account_without_an_alias_gets_its_prices() -> None:
    there = Platform(item(1) | {"alias": None}, finds=exactly)
    with platform(there) as (origin, _):
        [after] = runner.reprice(
            fixed_client(origin, clock=jumping_clock()), RepriceRequest.parse({"gpt-4": 5}, sub_accounts=[1])
        )
        assert after.pricing == {"gpt-4": 5}


def test_an_alias_that_the_filter_does_not_find_is_not_taken_for_absent() -> None:
    there = Platform(item(1, "Team-A"), item(2, "Team-B"), finds=in_small_letters)
    with platform(there) as (origin, _):
        client = fixed_client(origin, clock=jumping_clock(), page_size=5)
        [after] = runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias="Team-A"))
        assert after.pricing == {"gpt-4": 5}
        assert [each.id for each in runner.delete(client, DeleteRequest.parse(alias="Team-A"))] == [1]
        assert there.ids == [2]


def test_a_deletion_in_doubt_is_not_believed_of_another_bases_filter() -> None:
    items, is_dead = [item(1, "Team-A"), item(2, "Team-A")], False

    def listed(asked: Asked, is_found: bool) -> tuple[int, Any]:
        found = items if is_found or "alias" not in asked.query else []
        return 200, {"items": found, "total": len(found), "page": 1, "pageSize": 500}

    def first(asked: Asked) -> tuple[int, Any]:  # dies with the deletion
        nonlocal is_dead
        is_dead = is_dead or asked.method == "DELETE"
        return (502, b"") if is_dead else listed(asked, is_found=True)

    def second(asked: Asked) -> tuple[int, Any]:
        return listed(asked, is_found=False) if asked.method == "GET" else (502, b"")

    with platform(first) as (one, _), platform(second) as (two, _):
        client = fixed_client(one, two, clock=jumping_clock(), max_attempts=2)
        with pytest.raises(CloseAIError, match=r"\[1, 2\] are still listed"):
            runner.delete(client, DeleteRequest.parse(alias="Team-A"))


def test_a_refused_deletion_of_accounts_that_the_filter_hides_is_told_as_refused() -> None:
    there = Platform(item(1, "team"), finds=exactly, answer=(200, {"success": False, "message": "not today"}))

    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            there.finds = lambda wanted, each: False
        return there(asked)

    with platform(answer) as (origin, _), pytest.raises(Declined, match=r"\[1\] are still listed.*not today"):
        runner.delete(
            fixed_client(origin, clock=jumping_clock(), page_size=5),
            DeleteRequest.parse(sub_accounts=[record(1)]),
        )


def test_prices_of_accounts_that_only_a_listing_of_all_shows() -> None:
    there = Platform(
        item(1, "Team-A", model_pricing=[]), item(2, "\u4e2d\u6587"), finds=lambda wanted, each: False
    )
    requests = [
        CreateRequest.parse(alias, {"gpt-4": 5}, 1, if_exists="update")
        for alias in ("Team-A", "\u4e2d\u6587")
    ]
    with platform(there) as (origin, _):
        results = runner.create_all(fixed_client(origin, clock=jumping_clock()), requests)
    assert [[each.pricing for each in result] for result in results if isinstance(result, list)] == [
        [{"gpt-4": 5}], [{"gpt-4": 5}]
    ]  # fmt: skip
