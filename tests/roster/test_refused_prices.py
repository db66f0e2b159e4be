"""Prices that the platform refuses, or that somebody sets meanwhile: the others are set, and each is told."""

from __future__ import annotations

from typing import Any

import pytest
from support import Asked, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.requests import RepriceRequest
from airflow_provider_closeai.roster import Options, apply, make_plan, read_roster

REFUSALS: list[tuple[int, Any]] = [
    (400, {"message": "unknown model"}),
    (200, {"success": False, "message": "unknown model"}),
]


class Platform:
    """Refuses prices of a model that it does not know."""

    def __init__(self, refusal: tuple[int, Any] = REFUSALS[0]) -> None:
        self.items = [item(number, f"team-{name}", model_pricing=[]) for number, name in enumerate("abc", 1)]
        self.refusal = refusal

    def models(self) -> dict[str, list[str]]:
        return {each["alias"]: [price["model"] for price in each["model_pricing"]] for each in self.items}

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "POST":
            if any(price["model"] == "gpt-typo" for price in asked.body["model_pricing"]):
                return self.refusal
            for each in self.items:
                if each["token"] in asked.body["sks"]:
                    each["model_pricing"] = asked.body["model_pricing"]
            return 200, {"success": True}
        wanted = asked.query.get("alias")
        found = [dict(each) for each in self.items if wanted in (None, each["alias"])]
        return 200, {
            "items": found,
            "total": len(found),
            "page": 1,
            "pageSize": int(asked.query["page_size"]),
        }


def roster_of(**models: str) -> Any:
    accounts = [{"alias": f"team-{name}", "model_pricing": {model: 2}} for name, model in models.items()]
    return read_roster({"version": 1, "owns": ["team-*"], "defaults": {"balance": 1}, "accounts": accounts})


@pytest.mark.parametrize("refusal", REFUSALS, ids=["400", "a 200 that says no"])
def test_one_alias_whose_prices_are_refused_stops_no_other(refusal: tuple[int, Any]) -> None:
    there = Platform(refusal)
    told = pytest.raises(CloseAIError, match=r"Alias 'team-a', ids \[1\]: .*unknown model")
    with platform(there) as (origin, _), told:
        apply(
            fixed_client(origin, clock=jumping_clock()),
            roster_of(a="gpt-typo", b="gpt-4", c="gpt-4"),
            Options(),
        )
    assert there.models() == {"team-a": [], "team-b": ["gpt-4"], "team-c": ["gpt-4"]}


def test_all_that_is_refused_is_told(caplog: pytest.LogCaptureFixture) -> None:
    there = Platform()
    with platform(there) as (origin, _), pytest.raises(CloseAIError, match="'team-a'"):
        apply(
            fixed_client(origin, clock=jumping_clock()),
            roster_of(a="gpt-typo", b="gpt-typo", c="gpt-4"),
            Options(),
        )
    assert "Alias 'team-b', ids [2]: " in caplog.text


def test_prices_that_somebody_sets_while_an_approved_plan_is_applied_are_left() -> None:
    there, clock = Platform(), jumping_clock()
    roster = roster_of(a="gpt-4", b="gpt-4", c="gpt-4")
    is_applied = False

    def reply(asked: Asked) -> tuple[int, Any]:
        nonlocal is_applied
        answer = there(asked)
        if is_applied and asked.method == "GET" and "alias" not in asked.query:
            is_applied = False  # after the look, and before the prices are sent
            by_hand = RepriceRequest.parse({"gpt-3.5": 7}, sub_accounts=[{"id": 1, "alias": "team-a"}])
            runner.reprice(fixed_client(origin, clock=clock), by_hand)
        return answer

    with platform(reply) as (origin, _):
        plan = make_plan(fixed_client(origin, clock=clock), roster, Options(), keys=None, books=None)
        is_applied = True
        applied = apply(fixed_client(origin, clock=clock), plan, Options())
    assert there.models() == {"team-a": ["gpt-3.5"], "team-b": ["gpt-4"], "team-c": ["gpt-4"]}
    assert [account.id for account in applied.repriced] == [2, 3]
    [skipped] = applied.matched.skipped
    assert (skipped.action.id, skipped.because) == (1, "its prices were changed meanwhile")
