"""An error tells what the task did before, or may have done: its last call is not all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shared_names import Names
from support import GPT4, Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest

NO = (200, {"success": False, "message": "no money"})
Answer = Any


class Platform:
    """
    Answers its writes in turn.

    :param answers: one for each write; each does something, and returns the answer.
    """

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = list(items)
        self.answers: list[Callable[[Asked], Answer]] = []
        self.is_listed = self.hears_whole = True

    def __call__(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            page = {"items": self.items, "total": len(self.items), "page": 1, "pageSize": 500}
            is_heard = self.hears_whole or "alias" in asked.query
            return (200, page) if self.is_listed and is_heard else (502, b"")
        return self.answers.pop(0)(asked)

    def make(self, number: int) -> list[dict[str, Any]]:
        made = [item(len(self.items) + 1 + each) for each in range(number)]
        self.items += made
        return made

    def is_silent_then(self, answer: Answer) -> Answer:
        self.is_listed = False
        return answer


def told(there: Platform, run: Callable[[str, Clock], object]) -> str:
    clock = jumping_clock()
    with platform(there) as (origin, _), pytest.raises(CloseAIError) as caught:
        run(origin, clock)
    return str(caught.value)


def test_a_create_that_was_declined_and_done_in_part() -> None:
    there = Platform()
    there.answers = [lambda asked: there.is_silent_then(NO) if there.make(1) else None]
    text = told(
        there,
        lambda origin, clock: runner.create(
            fixed_client(origin, clock=clock), CreateRequest.parse("a", GPT4, 1, 3)
        ),
    )
    assert "no money" in text
    assert "Then 'list' failed, too" in text
    assert "Nothing was changed" not in text


def test_a_deletion_that_was_declined_and_done_in_part() -> None:
    there = Platform(item(1), item(2))
    there.answers = [lambda asked: there.is_silent_then(NO) if there.items.pop() else None]
    text = told(
        there,
        lambda origin, clock: runner.delete(
            fixed_client(origin, clock=clock), DeleteRequest.parse(alias="a")
        ),
    )
    assert "no money" in text
    assert "Then 'list' failed, too" in text
    assert "Nothing was changed" not in text


def test_a_deletion_that_was_declined_and_done_and_then_nobody_could_look() -> None:
    there = Platform(item(1), item(2))

    def delete_all(asked: Asked) -> Answer:
        there.items.clear()
        there.hears_whole = False
        return NO

    there.answers = [delete_all]
    text = told(
        there,
        lambda origin, clock: runner.delete(
            fixed_client(origin, clock=clock), DeleteRequest.parse(alias="a")
        ),
    )
    assert "no money" in text
    assert "Nothing was changed" not in text


def test_a_batch_that_was_refused_before_another_one_failed(caplog: pytest.LogCaptureFixture) -> None:
    there = Platform(*map(item, (1, 2, 3, 4)))
    there.answers = [
        lambda asked: (400, {"message": "locked"}),
        lambda asked: (400, {"message": "unknown"}) if there.items.pop(2) else None,  # 3 is gone by then
        lambda asked: (429, {"message": "slow"}, {"Retry-After": "9999"}),
    ]
    request = DeleteRequest.parse(sub_accounts=[1, 2, 3, 4], batch_size=2)
    text = told(there, lambda origin, clock: runner.delete(fixed_client(origin, clock=clock), request))
    assert "status 429" in text
    assert "Sub-accounts [1, 2] are not deleted" in caplog.text


@pytest.mark.parametrize("last", ["throttled", "silent"])
def test_prices_of_which_some_were_declined(last: str) -> None:
    there = Platform(item(1), item(2))
    throttled = (429, {"message": "slow"}, {"Retry-After": "9999"})
    there.answers = [
        lambda asked: NO,
        lambda asked: throttled if last == "throttled" else there.is_silent_then((200, {"success": True})),
    ]
    request = RepriceRequest.parse({"m2": 1}, alias="a", batch_size=1)
    text = told(there, lambda origin, clock: runner.reprice(fixed_client(origin, clock=clock), request))
    assert "no money" in text
    assert ("Before that call the platform accepted new prices for ids [2]" in text) is (last == "silent")


def test_what_was_created_before_prices_were_refused() -> None:
    there = Platform(item(1) | {"model_pricing": [{"model": "old", "pricing_factor": 1}]})
    there.answers = [
        lambda asked: (200, {"items": there.make(2), "success": True}),
        lambda asked: (400, {"message": "no such model"}),
    ]
    request = CreateRequest.parse("a", GPT4, 1, 3, if_exists="update")
    text = told(there, lambda origin, clock: runner.create(fixed_client(origin, clock=clock), request))
    assert "no such model" in text
    assert "Before that call ids [2, 3] of alias 'a' were created" in text


def test_a_round_of_prices_that_ended_since_a_call_took_long() -> None:
    there, names = Platform(item(1), item(2, "b")), Names()

    def run(origin: str, clock: Clock) -> None:
        def accept_slowly(asked: Asked) -> Answer:
            clock.sleep(40)  # longer than a claim lasts
            return there.is_silent_then((200, {"success": True}))

        there.answers = [accept_slowly]
        request = RepriceRequest.parse({"m2": 1}, sub_accounts=[1, 2])
        runner.reprice(fixed_client(origin, clock=clock, lock="deployment"), request, names)

    assert "Before that call the platform accepted new prices for ids [1]" in told(there, run)


def test_what_was_created_before_nothing_more_could_be_noted() -> None:
    there, names = Platform(), Names()

    def make_and_break(asked: Asked) -> Answer:
        names.problem = OSError("down")
        return 200, {"items": there.make(1), "success": True}

    there.answers = [make_and_break]
    request = CreateRequest.parse("a", GPT4, 1, 2, batch_size=1)
    text = told(
        there,
        lambda origin, clock: runner.create(
            fixed_client(origin, clock=clock), request, runner.Try(names=names)
        ),
    )
    assert "nothing more was sent" in text
    assert "Before that call ids [1] of alias 'a' were created" in text
