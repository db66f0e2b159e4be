"""A platform whose alias filter does not find what it lists: told by what was made, and believed no more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support import Asked, fixed_client, item, jumping_clock, platform, run_create

from airflow_provider_closeai.client.errors import CloseAIError, OutcomeUnknown
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.create import CreateDecision
from airflow_provider_closeai.provisioning.errors import AliasExists, NotConfirmed, TooManyAccounts
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.provisioning.steps import Earlier, List, Listing, Post, Wait


class Platform:
    """
    Accounts that are listed as ``shown`` says, and found by the filter as ``reads`` says.

    :param reads: what the filter makes of the alias that it is asked for.
    :param shown: what the listing makes of an alias.
    """

    def __init__(self, reads: Callable[[str], str] = str, shown: Callable[[str], Any] = str) -> None:
        self.items: list[dict[str, Any]] = []
        self.reads, self.shown = reads, shown

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            first = len(self.items) + 1
            made = [item(first + number, asked.body["alias"]) for number in range(asked.body["count"])]
            self.items += made
            return 200, {"items": made}
        wanted = asked.query.get("alias")
        found = [each for each in self.items if wanted is None or each["alias"] == self.reads(wanted)]
        shown = [{**each, "alias": self.shown(each["alias"])} for each in found]
        size, page = int(asked.query["page_size"]), int(asked.query["page"])
        items = shown[(page - 1) * size : page * size]
        return 200, {"items": items, "total": len(shown), "page": page, "pageSize": size}


def ensure(origin: str, alias: str, count: int = 1) -> list[int]:
    """Create with a client of its own, as a task does: only the shared cache is left of the one before."""
    client = fixed_client(origin, clock=jumping_clock())
    wanted = CreateRequest.parse(alias, {"gpt-4": 1}, 1, count, settle=5)
    return [account.id for account in run_create(client, wanted)]


@pytest.mark.parametrize(
    ("reads", "alias"),
    [(str.lower, "Team-A"), (lambda text: text[:32], "a" * 40), (lambda text: text.lstrip("0"), "007")],
    ids=["lower case", "cut", "as a number"],
)
def test_a_filter_that_misses_a_plain_alias_costs_no_second_account(
    reads: Callable[[str], str], alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = Platform(reads=reads)
    with platform(there) as (origin, _), caplog.at_level(logging.WARNING):
        assert ensure(origin, alias, 2) == [1, 2]
        assert "alias filter does not find all accounts" in caplog.text
        for _ in range(2):
            assert ensure(origin, alias, 2) == [1, 2]
        assert len(there.items) == 2


def test_a_filter_that_works_is_still_believed() -> None:
    there = Platform()
    with platform(there) as (origin, asked):
        for number in range(3):
            ensure(origin, f"team-{number}")
        looks = [each.query for each in asked if int(each.query.get("page_size", 1)) > 1]
        assert len(looks) > 3
        assert [query for query in looks if "alias" not in query] == []


def test_a_listing_that_is_late_is_no_filter_that_misses(caplog: pytest.LogCaptureFixture) -> None:
    """The account is shown between the last look by the filter and the look at all."""
    there, clock = Platform(), jumping_clock()

    def late(asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET" and "alias" not in asked.query:
            clock.sleep(60)
        status, answer = there(asked)
        if asked.method == "GET" and clock.monotonic() < began + 30:
            answer = {**answer, "items": [], "total": 0}
        return status, answer

    with platform(late) as (origin, asked), caplog.at_level(logging.WARNING):
        client = fixed_client(origin, clock=clock)
        client.list_bases()
        wanted = CreateRequest.parse("team", {"gpt-4": 1}, 1, 1, settle=5)
        began = clock.monotonic()
        assert len(run_create(client, wanted)) == 1
        assert "alias filter" not in caplog.text
        before = len(asked)
        assert ensure(origin, "other") == [2]
        assert all(
            "alias" in each.query for each in asked[before:] if int(each.query.get("page_size", 1)) > 1
        )


def test_an_alias_that_is_listed_as_a_number_is_that_number() -> None:
    there = Platform(shown=int)
    with platform(there) as (origin, _):
        for _ in range(2):
            assert ensure(origin, "2024") == [1]
        assert len(there.items) == 1


def test_an_alias_that_the_platform_changes_later_is_told() -> None:
    there = Platform(shown=int)
    with platform(there) as (origin, _):
        with pytest.raises(CloseAIError, match=r"'007' was asked for, and the platform created \{1: '7'\}"):
            ensure(origin, "007")
        assert len(there.items) == 1


def test_a_look_at_everything_that_fails_costs_no_create(caplog: pytest.LogCaptureFixture) -> None:
    there = Platform(reads=str.lower)

    def failing(asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET" and int(asked.query.get("page_size", 1)) > 1 and "alias" not in asked.query:
            return 500, {"error": {"message": "too many"}}
        return there(asked)

    with platform(failing) as (origin, _), caplog.at_level(logging.WARNING):
        assert ensure(origin, "Team-A") == [1]
    assert "Whether the platform's alias filter finds all accounts is not known" in caplog.text
    assert "Whether a listing shows the new accounts is not known" in caplog.text


# --- Before anything is posted where something was: all is listed -------------------------------------------


def test_after_a_lost_answer_the_filter_is_no_proof_of_absence() -> None:
    there, lost = Platform(reads=str.lower), [True]

    def reply(asked: Asked) -> tuple[int, Any]:
        answer = there(asked)
        return (502, b"") if asked.method == "POST" and lost and lost.pop() else answer

    with platform(reply) as (origin, _):
        for _ in range(2):
            assert ensure(origin, "Team-A", 2) == [1, 2]
    assert len(there.items) == 2


def test_after_a_lost_answer_a_look_at_everything_that_fails_posts_nothing() -> None:
    there, lost, is_down = Platform(reads=str.lower), [True], [True]

    def reply(asked: Asked) -> tuple[int, Any]:
        is_look = asked.method == "GET" and int(asked.query.get("page_size", 1)) > 1
        if is_down and is_look and "alias" not in asked.query:
            return 500, {"error": {"message": "too many"}}
        answer = there(asked)
        return (502, b"") if asked.method == "POST" and lost and lost.pop() else answer

    with platform(reply) as (origin, asked):
        with pytest.raises(CloseAIError):
            ensure(origin, "Team-A", 2)
        assert sum(each.method == "POST" for each in asked) == 1
        is_down.clear()
        assert ensure(origin, "Team-A", 2) == [1, 2]
    assert len(there.items) == 2


def test_a_filter_that_cannot_be_asked_again_costs_no_create(caplog: pytest.LogCaptureFixture) -> None:
    there, refused = Platform(reads=str.lower), [False, True]

    def reply(asked: Asked) -> Any:
        if refused and asked.method == "GET" and int(asked.query["page_size"]) > 1:
            if "alias" not in asked.query:
                refused[0] = True
            elif all(refused):
                refused.clear()
                return 429, {"message": "slow down"}, {"Retry-After": "3600"}
        return there(asked)

    with platform(reply) as (origin, _), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert ensure(origin, "Team-A", 2) == [1, 2]
    assert len(there.items) == 2
    assert "slow down" in caplog.text


@pytest.mark.parametrize("is_killed", [False, True], ids=["one task", "a run after a kill"])
def test_where_the_filter_cannot_be_asked_again_all_is_listed_until_it_can(is_killed: bool) -> None:
    """A post makes 2 of 3 and is lost; the filter misses them, and answers 429 when it is asked again."""
    there, time = Platform(reads=str.lower), jumping_clock()
    posts, has_read_all, refused = [500], [False], [1, 1, 1, 1]

    class Killed(BaseException):
        pass

    def killed(seconds: float) -> None:
        raise Killed

    def reply(asked: Asked) -> Any:
        too_many = 429, {"message": "slow down"}, {"Retry-After": "3600"}
        if asked.method == "POST" and posts:
            status = posts.pop()
            if status == 429:
                return too_many
            asked.body["count"] = 2
            there(asked)
            return status, b""
        if "alias" not in asked.query:
            has_read_all[0] = True
        elif has_read_all[0] and refused:
            refused.pop()
            return too_many
        return there(asked)

    wanted = CreateRequest.parse("Team-A", {"gpt-4": 1}, 1, 3, settle=5)
    with platform(reply) as (origin, _):
        if is_killed:
            dying = Clock(now=time.now, monotonic=time.monotonic, sleep=killed)
            with pytest.raises(Killed):
                run_create(fixed_client(origin, clock=dying), wanted)
            time.sleep(3600)
            posts.append(429)
            with pytest.raises(CloseAIError):
                run_create(fixed_client(origin, clock=time), wanted)
            refused.clear()
            time.sleep(3600)
        assert [each.id for each in run_create(fixed_client(origin, clock=time), wanted)] == [1, 2, 3]
    assert len(there.items) == 3


@pytest.mark.parametrize("if_exists", ["ensure", "fail"])
@pytest.mark.parametrize("filtered", [str, str.lower], ids=["a listing that lags", "a filter that misses"])
def test_what_a_killed_run_made_is_not_told_by_others(if_exists: str, filtered: Callable[[str], str]) -> None:
    """It made 4; another run asks for 2 before the listing shows them."""
    there, time, made_at = Platform(reads=filtered), jumping_clock(), [0.0]

    class Killed(BaseException):
        pass

    def killed(seconds: float) -> None:
        raise Killed

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            made_at[0] = time.now()
            there(asked)
            return 500, b""
        if filtered is str and time.now() < made_at[0] + 20:
            return 200, {"items": [], "total": 0, "page": 1, "pageSize": 500}
        return there(asked)

    with platform(reply) as (origin, asked):
        dying = Clock(now=time.now, monotonic=time.monotonic, sleep=killed)
        with pytest.raises(Killed):
            run_create(
                fixed_client(origin, clock=dying),
                CreateRequest.parse("Team-A", {"gpt-4": 1}, 1, 4, settle=30),
            )
        time.sleep(5)
        wanted = CreateRequest.parse("Team-A", {"gpt-4": 1}, 1, 2, if_exists=if_exists, settle=30)
        with pytest.raises(TooManyAccounts if if_exists == "ensure" else AliasExists):
            run_create(fixed_client(origin, clock=time), wanted)
        assert sum(each.method == "POST" for each in asked) == 1


@pytest.mark.parametrize("failure", [(429, {"message": "slow"}, {"Retry-After": "9999"}), (502, b"")])
def test_where_all_is_made_and_no_listing_can_be_read_it_ends(failure: Any) -> None:
    """The filter missed something and could not be asked again, so all is listed, and that fails now."""
    there, time = Platform(reads=str.lower), jumping_clock()
    posts, has_read_all, looks = [500], [False], [0]

    class Killed(BaseException):
        pass

    def killed(seconds: float) -> None:
        raise Killed

    def reply(asked: Asked) -> Any:
        if asked.method == "POST":
            answer = there(asked)
            return (posts.pop(), b"") if posts else answer
        if len(there.items) == 2:
            looks[0] += 1
            assert looks[0] < 50
            return failure
        has_read_all[0] = has_read_all[0] or "alias" not in asked.query
        return failure if has_read_all[0] and "alias" in asked.query else there(asked)

    with platform(reply) as (origin, _):
        dying = Clock(now=time.now, monotonic=time.monotonic, sleep=killed)
        with pytest.raises(Killed):
            run_create(fixed_client(origin, clock=dying), CreateRequest.parse("A", {"gpt-4": 1}, 1, settle=5))
        wanted = CreateRequest.parse("A", {"gpt-4": 1}, 1, 2, settle=5)
        assert [each.id for each in run_create(fixed_client(origin, clock=time), wanted)] == [1, 2]


def test_a_filter_that_reads_another_encoding_deletes_nothing() -> None:
    """It finds one alias and misses another with letters of the same kinds: what it misses is not gone."""
    there = Platform(reads=lambda text: text.encode("latin-1", "replace").decode("latin-1"))
    there.items = [
        item(1, "zespół"),
        item(2, "équipe"),
        *(item(number, f"b-{number}") for number in range(3, 30)),
    ]

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            there.items = [each for each in there.items if each["id"] != 2]
            return 200, {"success": True}
        return there(asked)

    with platform(reply) as (origin, _):
        client = fixed_client(origin, clock=jumping_clock(), page_size=5)
        with pytest.raises(NotConfirmed, match=r"\[1\]"):
            runner.delete(client, DeleteRequest.parse(sub_accounts=[1, 2]))


def test_an_entry_of_the_main_account_that_the_filter_leaves_out_is_nothing_missed() -> None:
    there, lost = Platform(), [True]
    there.items = [item(1, "a", token_type="master")]

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST" and lost and lost.pop():
            return 502, b""
        status, answer = there(asked)
        if "alias" in asked.query:
            items = [each for each in answer["items"] if each["id"] != 1]
            answer = {**answer, "items": items, "total": len(items)}
        return status, answer

    with platform(reply) as (origin, asked):
        assert ensure(origin, "a", 2) == [2, 3]
        asked.clear()
        assert ensure(origin, "a", 2) == [2, 3]
        assert "alias" in asked[-1].query


@pytest.mark.parametrize("is_executed", [False, True])
def test_what_the_filter_does_not_find_was_not_deleted(is_executed: bool) -> None:
    """Selected by id, out of a listing of all, among more accounts than a page has."""
    there = Platform(reads=str.lower)
    there.items = [item(1, "Team-A"), *(item(number, f"b-{number}") for number in range(2, 20))]

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            there.items = there.items[1:] if is_executed else there.items
            return 502, b""
        return there(asked)

    with platform(reply) as (origin, _):
        client = fixed_client(origin, clock=jumping_clock(), page_size=5)
        wanted = DeleteRequest.parse(sub_accounts=[1])
        if is_executed:
            assert [account.id for account in runner.delete(client, wanted)] == [1]
        else:
            with pytest.raises(OutcomeUnknown):
                runner.delete(client, wanted)


def test_new_prices_that_the_filter_does_not_find_are_there() -> None:
    there = Platform(reads=str.lower)
    there.items = [item(number, f"Team-{number}") for number in range(1, 20)]

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.path.endswith("/token/info"):
            pricing = asked.body["model_pricing"]
            there.items = [
                each | {"model_pricing": pricing} if each["id"] == 1 else each for each in there.items
            ]
            return 200, {}
        return there(asked)

    with platform(reply) as (origin, _):
        client = fixed_client(origin, clock=jumping_clock(), page_size=5)
        [changed] = runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, sub_accounts=[1]))
    assert changed.pricing == {"gpt-4": 5}


def test_a_filter_that_missed_some_is_not_believed_where_it_finds_others() -> None:
    there = Platform()
    there.items = [item(1, "team"), item(2, "team")]

    def reply(asked: Asked) -> tuple[int, Any]:
        status, answer = there(asked)
        if "alias" in asked.query:
            answer = {**answer, "items": answer["items"][:1], "total": min(1, answer["total"])}
        return status, answer

    with platform(reply) as (origin, asked):
        assert ensure(origin, "other", 2) == [3, 4]
        for _ in range(2):
            assert ensure(origin, "team", 2) == [1, 2]
        assert sum(each.method == "POST" for each in asked) == 1


def test_a_second_run_long_after_a_crash_does_not_believe_the_filter() -> None:
    """Whoever posted is gone before a listing showed it, and the next run is no retry of his."""
    there, time = Platform(reads=str.lower), jumping_clock()

    class Killed(BaseException):
        pass

    def killed(seconds: float) -> None:
        raise Killed

    def reply(asked: Asked) -> tuple[int, Any]:
        answer = there(asked)
        return (500, b"") if asked.method == "POST" else answer

    with platform(reply) as (origin, asked):
        wanted = CreateRequest.parse("Team-A", {"gpt-4": 1}, 1, 2, settle=5)
        dying = Clock(now=time.now, monotonic=time.monotonic, sleep=killed)
        with pytest.raises(Killed):
            run_create(fixed_client(origin, clock=dying), wanted)
        time.sleep(3600)
        assert [account.id for account in run_create(fixed_client(origin, clock=time), wanted)] == [1, 2]
        assert sum(each.method == "POST" for each in asked) == 1


def test_a_look_at_everything_from_before_a_late_post_is_no_proof() -> None:
    """A whole listing that was made for another alias, or for a roster, while the post may still come."""
    request = CreateRequest.parse("a", {"m": 1}, 1, 2, settle=5)
    decision = CreateDecision(request, max_late=60, earlier=Earlier(believe_from=65.0))
    decision.listed(Listing([], 0.0, 1.0, is_whole=True))
    at = 1.0
    while not isinstance(step := decision.next_step(at), Post):
        if isinstance(step, Wait):
            at += step.seconds
            continue
        assert isinstance(step, List)
        decision.listed(Listing([], at, at, is_whole=step.is_whole))
        has_seen_all = step.is_whole
    assert has_seen_all
    assert at >= 65
