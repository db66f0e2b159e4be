"""An attempt of an update that may still come: no later merge loses what it sets, whatever became of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from shared_names import Names
from support import Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError, Declined
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import NotConfirmed
from airflow_provider_closeai.provisioning.requests import RepriceRequest

LATE = 55.0  # seconds: below ``max_late``


class Platform:
    """
    Executes some updates late.

    :param answers: to the updates of account 1, one after the other, then all are served. ``late``: 502, and
        executed later; ``done``: 502, and executed; ``no``: a 200 that says no; else a status.
    :param lag: seconds that listings are behind.
    """

    def __init__(self, clock: Clock, answers: Iterable[Any], lag: float = 0.0) -> None:
        self.clock, self.answers, self.lag = clock, list(answers), lag
        self.items = {number: item(number, alias) for number, alias in ((1, "a"), (2, "b"))}
        self.to_come: list[tuple[float, list[Any]]] = []
        self.shown = [(clock.monotonic(), self.items[1])]
        self.hides_what_is_to_come = False

    def models(self) -> set[str]:
        self.execute()
        return {price["model"] for price in self.items[1]["model_pricing"]}

    def execute(self) -> None:
        for each in [each for each in self.to_come if each[0] <= self.clock.monotonic()]:
            self.to_come.remove(each)
            self.set_prices(each[1])

    def set_prices(self, pricing: list[Any]) -> None:
        self.items[1] = self.items[1] | {"model_pricing": pricing}
        self.shown.append((self.clock.monotonic() + self.lag, self.items[1]))

    def __call__(self, asked: Asked) -> Any:
        self.execute()
        if asked.method == "GET":
            if self.hides_what_is_to_come and self.to_come:
                return 400, {"message": "bad"}
            [*_, seen] = [each for at, each in self.shown if at <= self.clock.monotonic()]
            found = [seen, self.items[2]]
            return 200, {"items": found, "total": 2, "page": 1, "pageSize": int(asked.query["page_size"])}
        is_first = asked.body["sks"] == [self.items[1]["token"]]
        answer = self.answers.pop(0) if self.answers and (is_first or self.answers[0] != "late") else "served"
        if answer == "late":
            self.to_come.append((self.clock.monotonic() + LATE, asked.body["model_pricing"]))
        if answer in ("done", "served") and is_first:
            self.set_prices(asked.body["model_pricing"])
        if answer == "no":
            return 200, {"success": False, "message": "busy"}
        if isinstance(answer, int):
            return answer, {"message": "refused"}, {"Retry-After": "9999"}
        return (200, {"success": True}) if answer == "served" else (502, b"")


def merge(client: Any, model: str, names: Names | None = None, ids: Sequence[int] = (1,)) -> None:
    runner.reprice(client, RepriceRequest.parse({model: 1}, sub_accounts=list(ids)), names)


@pytest.mark.parametrize("names", [None, Names()], ids=["one host", "hosts"])
@pytest.mark.parametrize(
    "answers",
    [("late",), ("late", "done", "no"), ("late", "no"), ("late", 403), ("late", 401), ("late", 400)],
    ids=str,
)
def test_whatever_the_last_attempt_says(answers: tuple[Any, ...], names: Names | None) -> None:
    clock = jumping_clock()
    there = Platform(clock, answers)
    with platform(there) as (origin, _):
        client = fixed_client(origin, clock=clock, max_late=60)
        with contextlib.suppress(CloseAIError):
            merge(client, "m2", names)
        there.answers.clear()
        merge(fixed_client(origin, clock=clock, max_late=60), "m3", names)
        clock.sleep(120)
        assert there.models() >= {"gpt-4", "m3"}


@pytest.mark.parametrize("ends", ["a later batch is throttled", "no listing answers"])
def test_a_task_that_ends_before_it_has_read_back(ends: str) -> None:
    clock = jumping_clock()
    is_throttled = ends == "a later batch is throttled"
    there = Platform(clock, ["late", "served", 429] if is_throttled else ["late"])
    there.hides_what_is_to_come = not is_throttled
    with platform(there) as (origin, _):
        with pytest.raises(CloseAIError):
            merge(fixed_client(origin, clock=clock, max_late=60), "m2", ids=[1, 2] if is_throttled else [1])
        assert there.to_come
        there.hides_what_is_to_come = False
        there.answers.clear()
        merge(fixed_client(origin, clock=clock, max_late=60), "m3")
        clock.sleep(120)
        assert there.models() >= {"gpt-4", "m3"}


def test_a_batch_that_is_declined_makes_nobody_forget_the_one_before_it() -> None:
    clock = jumping_clock()
    there = Platform(clock, ["served", "no"], lag=10)
    with platform(there) as (origin, _):
        with pytest.raises(Declined, match=r"ids \[2\].*busy.*Before that call .* new prices for ids \[1\]"):
            merge(fixed_client(origin, clock=clock), "m2", ids=[1, 2])
        merge(fixed_client(origin, clock=clock), "m3")
        assert there.models() == {"gpt-4", "m2", "m3"}


class FailsOnce(Names):
    """A store that cannot be listed once, while something is to come."""

    def __init__(self, there: Platform) -> None:
        super().__init__()
        self._there, self._has_failed = there, False

    def list(self, prefix: str) -> Sequence[str]:
        if self._there.to_come and not self._has_failed:
            self._has_failed = True
            raise OSError("down")
        return super().list(prefix)


def test_a_store_that_fails_before_the_second_attempt() -> None:
    clock = jumping_clock()
    there = Platform(clock, ["late"])
    names = FailsOnce(there)
    with platform(there) as (origin, _):
        with contextlib.suppress(CloseAIError):
            merge(fixed_client(origin, clock=clock, max_late=60), "m2", names)
        merge(fixed_client(origin, clock=clock, max_late=60), "m3", names)
        clock.sleep(120)
        assert there.models() >= {"gpt-4", "m3"}


def test_prices_that_somebody_set_by_hand_before_they_were_read_back() -> None:
    clock = jumping_clock()
    there = Platform(clock, ["late", "served"])
    by_hand = [{"model": "gpt-4", "pricing_factor": 1}, {"model": "by hand", "pricing_factor": 1}]

    def answer(asked: Asked) -> Any:
        answered = there(asked)
        if asked.method == "POST" and there.to_come and not there.answers:
            there.set_prices(by_hand)
        return answered

    with platform(answer) as (origin, _):
        with pytest.raises(NotConfirmed):
            merge(fixed_client(origin, clock=clock, max_late=60), "m2")
        assert there.to_come
        merge(fixed_client(origin, clock=clock, max_late=60), "m3")
        clock.sleep(120)
        assert there.models() >= {"gpt-4", "m3"}


def test_a_reading_that_takes_long_shows_what_was_so_when_it_began() -> None:
    clock = jumping_clock()
    there = Platform(clock, [], lag=3)

    def answer(asked: Asked) -> Any:
        answered = there(asked)
        if asked.method == "GET" and len(there.shown) > 1:
            clock.sleep(31)
        return answered

    with platform(answer) as (origin, _):
        merge(fixed_client(origin, clock=clock), "m2")
        assert there.models() == {"gpt-4", "m2"}


def test_a_merge_into_a_listing_that_was_begun_too_early_and_took_long() -> None:
    clock = jumping_clock()
    there = Platform(clock, [], lag=29)
    is_slow = False

    def answer(asked: Asked) -> Any:
        answered = there(asked)
        if asked.method == "GET" and is_slow:
            clock.sleep(31)
        return answered

    with platform(answer) as (origin, _):
        there.lag = 0
        merge(fixed_client(origin, clock=clock), "m2")
        there.shown[-1] = (clock.monotonic() + 29, there.items[1])  # other bases show it later
        is_slow = True
        merge(fixed_client(origin, clock=clock), "m3")
        assert there.models() == {"gpt-4", "m2", "m3"}


@pytest.mark.parametrize("answer_of", ["lost", "done"])
def test_a_base_that_hangs_longer_than_a_claim_lasts_costs_a_round_and_no_retry(
    answer_of: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock, names = jumping_clock(), Names()
    there = Platform(clock, [answer_of])

    def answer(asked: Asked) -> Any:
        if asked.method == "POST" and there.answers:
            clock.sleep(60)
        return there(asked)

    with platform(answer) as (one, _), platform(there) as (two, _):
        merge(fixed_client(one, two, clock=clock, max_late=60), "m2", names)
        assert there.models() == {"gpt-4", "m2"}
    assert "(1 changed now)" in caplog.text
