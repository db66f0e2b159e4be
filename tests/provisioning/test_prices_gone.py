"""Accounts that are gone, or seem to be, while their prices are set: none is left out without a word."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from shared_names import Names
from support import Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError, UnreadableAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import NotConfirmed
from airflow_provider_closeai.provisioning.requests import RepriceRequest

FIVE = [{"model": "gpt-4", "pricing_factor": 5}]
FROZEN = 400, {"message": "frozen"}


def page(items: Sequence[dict[str, Any]]) -> tuple[int, Any]:
    return 200, {"items": items, "total": len(items), "page": 1, "pageSize": 500}


class Platform:
    """
    Refuses a whole call for one key that is gone.

    :param gone: which accounts are gone: the n-th is listed for ``lag`` times n seconds from the first call.
    """

    def __init__(self, clock: Clock, number: int, *, gone: Sequence[int] = (), lag: float = 0) -> None:
        self.items = [item(each) for each in range(1, number + 1)]
        self._clock, self._gone, self._lag = clock, list(gone), lag
        self._began: float | None = None
        #: Its first answers to updates; afterwards the request itself says.
        self.answers: list[tuple[Any, ...]] = []
        #: Whether it lists nothing any more once it was asked to update.
        self.falls_silent = False

    def __call__(self, asked: Asked) -> tuple[Any, ...]:
        if asked.method == "GET":
            is_silent = self.falls_silent and self._began is not None
            return (502, b"") if is_silent else page([each for each in self.items if self._is_listed(each)])
        if self._began is None:
            self._began = self._clock.monotonic()
        if self.answers:
            return self.answers.pop(0)
        named = [each for each in self.items if each["token"] in asked.body["sks"]]
        if any(each["id"] in self._gone for each in named):
            return 400, {"message": "unknown sk"}
        for each in named:
            each["model_pricing"] = asked.body["model_pricing"]
        return 200, {"success": True}

    def _is_listed(self, account: dict[str, Any]) -> bool:
        if account["id"] not in self._gone or self._began is None:
            return True
        return self._clock.monotonic() < self._began + self._lag * (self._gone.index(account["id"]) + 1)


def reprice(client: Any, names: Names | None = None, **options: Any) -> list[int]:
    request = RepriceRequest.parse({"gpt-4": 5}, alias="a", **options)
    return [account.id for account in runner.reprice(client, request, names)]


@pytest.mark.parametrize("batch_size", [1, 100])
def test_a_key_that_is_gone_stops_no_other_however_they_are_sent(batch_size: int) -> None:
    there = Platform(clock := jumping_clock(), 2, gone=[1])
    with platform(there) as (origin, _):
        assert reprice(fixed_client(origin, clock=clock), batch_size=batch_size) == [2]
    assert there.items[1]["model_pricing"] == FIVE


def test_keys_that_go_one_after_the_other_are_no_other_tasks() -> None:
    there = Platform(clock := jumping_clock(), 8, gone=range(1, 8), lag=10)
    with platform(there) as (origin, _):
        assert reprice(fixed_client(origin, clock=clock)) == [8]
    assert there.items[7]["model_pricing"] == FIVE


@pytest.mark.parametrize("after", ["a later call is throttled", "nobody can look"])
def test_what_was_refused_is_told_where_something_else_ends_the_task(
    after: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = Platform(clock := jumping_clock(), 2)
    there.answers = [FROZEN]
    there.falls_silent = after == "nobody can look"
    if not there.falls_silent:
        there.answers.append((429, {"message": "slow"}, {"Retry-After": "9999"}))
    with platform(there) as (origin, _), pytest.raises(CloseAIError) as caught:
        reprice(fixed_client(origin, clock=clock), batch_size=1)
    assert "frozen" in caplog.text + str(caught.value)


@pytest.mark.parametrize("is_young", [True, False], ids=["young", "of unknown age"])
@pytest.mark.parametrize("goes_with", ["closeai_lock", "closeai_prices"])
def test_a_base_that_does_not_list_an_account_yet_is_no_proof_that_it_is_gone(
    is_young: bool, goes_with: str
) -> None:
    """The base that listed it goes down before the alias is claimed, or before the call; the other lags."""
    clock, names = jumping_clock(), Names()
    created_at = datetime.now(UTC).isoformat() if is_young else None
    items, begun = [item(1), item(2, created_at=created_at)], clock.monotonic()

    def second(asked: Asked) -> tuple[int, Any]:
        known = items if clock.monotonic() - begun > 20 else items[:1]
        if asked.method == "GET":
            return page(known)
        named = [each for each in known if each["token"] in asked.body["sks"]]
        if len(named) < len(asked.body["sks"]):
            return 400, {"message": "unknown sk"}
        for each in named:
            each["model_pricing"] = asked.body["model_pricing"]
        return 200, {"success": True}

    with contextlib.ExitStack() as one, platform(second) as (other, _):
        origin, _ = one.enter_context(platform(lambda asked: (*page(items), {"Connection": "close"})))
        names.on_add = lambda name: one.close() if name.startswith(goes_with) else None
        assert reprice(fixed_client(origin, other, clock=clock), names) == [1, 2]
    assert [each["model_pricing"] for each in items] == [FIVE, FIVE]


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        (lambda items: items.pop(), r"does not show the sub-accounts \[2\] any more"),
        (
            lambda items: items[1].update(model_pricing=[{"model": "console", "pricing_factor": 1}]),
            r"shows neither these nor the old ones for the sub-accounts \[2\]",
        ),
        (lambda items: items[1].update(item(2)), r"does not show them for the sub-accounts \[2\]"),
    ],
    ids=["deleted", "edited", "ignored"],
)
def test_who_is_asked_why_accepted_prices_are_not_listed(meanwhile: Any, told: str) -> None:
    clock = jumping_clock()
    there = Platform(clock, 2)

    def reply(asked: Asked) -> tuple[Any, ...]:
        answer = there(asked)
        if asked.method != "GET":
            meanwhile(there.items)
        return answer

    with platform(reply) as (origin, _), pytest.raises(NotConfirmed, match=told):
        runner.reprice(fixed_client(origin, clock=clock), RepriceRequest.parse({"gpt-4": 5}, alias="a"))


def test_what_was_set_before_an_entry_could_not_be_read_is_told() -> None:
    clock = jumping_clock()
    there = Platform(clock, 3, gone=[2])

    def reply(asked: Asked) -> tuple[Any, ...]:
        answer = there(asked)
        if answer[0] == 400:
            there.items[2]["balance"] = ""
        return answer

    request = RepriceRequest.parse({"gpt-4": 5}, alias="a", batch_size=1)
    with platform(reply) as (origin, _), pytest.raises(UnreadableAccount, match=r"for ids \[1, 3\]"):
        runner.reprice(fixed_client(origin, clock=clock), request)
