"""Looks of creates that deceive, take long or fail: exactly ``count``, and what was made gets out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shared_names import Names
from support import Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import AliasExists, PricingDiffers
from airflow_provider_closeai.provisioning.requests import CreateRequest

See = Callable[[str | None, list[dict[str, Any]]], Any]


class Platform:
    """
    Shows what a test says.

    :param see: what a look gives, of the accounts that are there, by the alias that is filtered for.
    :param loses: how many posts are executed in part, with one account fewer, and answered with 502.
    """

    def __init__(self, see: See = lambda alias, found: found, loses: int = 0) -> None:
        self.see, self.loses = see, loses
        self.items: list[dict[str, Any]] = []
        self.on_post: Callable[[], object] = lambda: None
        self.on_look: Callable[[], object] = lambda: None
        self.looks = 0

    def count(self, alias: str) -> int:
        return sum(each["alias"] == alias for each in self.items)

    def __call__(self, asked: Asked) -> Any:
        if asked.method == "POST":
            self.on_post()
            is_lost, self.loses = self.loses > 0, self.loses - 1
            first = len(self.items) + 1
            numbers = range(first, first + asked.body["count"] - is_lost)
            made = [item(number, asked.body["alias"]) for number in numbers]
            self.items += made
            return (502, b"") if is_lost else (200, {"items": made, "success": True})
        self.looks += 1
        self.on_look()
        wanted = asked.query.get("alias")
        found = self.see(wanted, [each for each in self.items if wanted in (None, each["alias"])])
        if isinstance(found, tuple):
            return found
        size, page = (int(asked.query[name]) for name in ("page_size", "page"))
        shown = found[(page - 1) * size : page * size] if size > 0 else found
        return 200, {"items": shown, "total": len(found), "page": page, "pageSize": size}


def request(alias: str, count: int = 1, **options: Any) -> CreateRequest:
    return CreateRequest.parse(alias, {"gpt-4": 1}, 1, count, **options)


def create(
    origin: str, clock: Clock, alias: str, count: int, names: Names | None = None, **options: Any
) -> Any:
    client = fixed_client(origin, clock=clock, max_late=60)
    return runner.create(client, request(alias, count, **options), runner.Try(names=names))


class Filter:
    """A platform's filter that may be turned off: it finds nothing then."""

    def __init__(self) -> None:
        self.is_on = True

    def __call__(self, alias: str | None, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return found if alias is None or self.is_on else []


def test_a_filter_that_is_turned_off_between_two_runs() -> None:
    see = Filter()
    there, clock = Platform(see), jumping_clock()
    with platform(there) as (origin, _):
        for is_on in (True, False):
            see.is_on = is_on
            assert [each.id for each in create(origin, clock, "team", 3)] == [1, 2, 3]
            clock.sleep(3600)


def test_a_filter_that_is_turned_off_while_a_lost_post_is_waited_for() -> None:
    see = Filter()
    there, clock = Platform(see, loses=1), jumping_clock()

    def look(alias: str | None, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        see.is_on = see.is_on and not (alias is None and found)
        return see(alias, found)

    there.see = look
    with platform(there) as (origin, _):
        assert len(create(origin, clock, "team", 3)) == there.count("team") == 3


def test_bases_of_which_one_filters_otherwise_are_not_awaited_for_ever() -> None:
    clock = jumping_clock()
    there = Platform(lambda alias, found: found if alias is None or there.looks % 2 else [], loses=1)
    with platform(there) as (origin, _):
        began = clock.monotonic()
        assert len(create(origin, clock, "team", 3)) == there.count("team") == 3
        assert clock.monotonic() - began < 600


def test_many_at_once_and_then_one_of_them() -> None:
    there, clock = Platform(lambda alias, found: found if alias is None else []), jumping_clock()
    aliases = [f"Team-{number:02}" for number in range(25)]
    with platform(there) as (origin, _):
        runner.create_all(fixed_client(origin, clock=clock), [request(each) for each in aliases])
        clock.sleep(3600)
        create(origin, clock, "Team-03", 1)
        assert {there.count(each) for each in aliases} == {1}


def test_a_listing_of_all_shows_aliases_that_the_filter_does_not_find() -> None:
    there = Platform(lambda alias, found: found if alias is None else [])
    there.items.append(item(1, "Team-A"))
    with platform(there) as (origin, _):
        client = fixed_client(origin, clock=jumping_clock())
        runner.create_all(client, [request("团队"), request("Team-A")])
        assert (there.count("团队"), there.count("Team-A")) == (1, 1)


@pytest.mark.parametrize("slow", ["looks", "posts"])
def test_calls_that_take_longer_than_a_claim_lasts(slow: str) -> None:
    clock, names = jumping_clock(), Names()
    there = Platform()
    if slow == "posts":
        there.on_post = lambda: clock.sleep(35)
    else:
        there.on_look = lambda: clock.sleep(2)
    with platform(there) as (origin, _):
        client = fixed_client(origin, clock=clock, max_late=60)
        requests = [request(f"team-{number:02}", 2, batch_size=1) for number in range(20)]
        results = runner.create_all(client, requests, runner.Try(names=names))
        assert [len(each) for each in results if isinstance(each, list)] == [2] * 20


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error": {"message": "down"}}),
        (429, {"error": {"message": "slow"}}, {"Retry-After": "9999"}),
        (404, b"<html>"),
        (200, {"success": False, "message": "maintenance"}),
    ],
    ids=lambda answer: str(answer[0]),
)
def test_what_was_made_gets_out_though_nobody_can_look(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    there = Platform(lambda alias, found: answer if there.items else found)
    with platform(there) as (origin, _):
        assert [each.id for each in create(origin, jumping_clock(), "team", 2)] == [1, 2]
    assert "Whether a listing shows the new accounts is not known" in caplog.text


@pytest.mark.parametrize(("if_exists", "error"), [("fail", AliasExists), ("match", PricingDiffers)])
@pytest.mark.parametrize("number", [3, 5], ids=["as many", "more"])
def test_what_another_host_makes_before_the_claim_is_judged(
    host: Callable[[str], Clock], if_exists: str, error: type[CloseAIError], number: int
) -> None:
    names, there, clock = Names(), Platform(), jumping_clock()

    def on(name: str) -> Clock:
        host(name)
        return Clock(now=clock.now, monotonic=clock.monotonic, sleep=clock.sleep, counter=name)

    with platform(there) as (origin, _):

        def make_elsewhere(name: str) -> None:
            names.on_add = lambda name: None
            create(origin, on("other"), "team", number, names)
            for each in there.items:
                each["model_pricing"] = [{"model": "gpt-4", "pricing_factor": 7}]
            host("this")

        names.on_add = make_elsewhere
        with pytest.raises(error):
            create(origin, on("this"), "team", 3, names, if_exists=if_exists)
    assert there.count("team") == number
