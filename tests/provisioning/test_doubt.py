"""A platform that says no, hides keys, or lists what cannot be read: nothing is guessed from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from support import Asked, fixed_client, item, jumping_clock, platform, run_create

from airflow_provider_closeai import local_state
from airflow_provider_closeai.client.errors import Declined, MaskedKeys, OutcomeUnknown, UnreadableAccount
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import MissingAccounts, NotConfirmed
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.provisioning.runner import locking

GPT4 = {"gpt-4": 1}
NO = [
    {"success": False, "message": "quota exceeded"},
    {"success": False, "error": {"message": "quota exceeded"}},
    {"error": {"message": "quota exceeded"}, "items": []},
    {"items": [], "success": False, "detail": "quota exceeded"},
]


class Platform:
    """
    A platform whose answers a test chooses.

    :param declines: how many writes it says no to, and with what.
    :param does: how much of a write that it declines is done all the same.
    :param masks: whether its listing hides keys.
    """

    def __init__(
        self, *items: dict[str, Any], declines: int = 0, no: Any = NO[0], does: int = 0, masks: bool = False
    ) -> None:
        self.items = list(items)
        self.declines = declines
        self.no = no
        self.does = does
        self.masks = masks
        self.asked: list[Asked] = []

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        self.asked.append(asked)
        if asked.method == "GET":
            shown = [self._masked(each) for each in self.items] if self.masks else self.items
            answer = {"items": shown, "total": len(shown), "page": 1, "pageSize": 500}
            return 200, json.dumps(answer).encode()
        no = self.declines > 0
        self.declines -= no
        limit = self.does if no else 10**6
        if asked.method == "DELETE":
            gone = asked.body["sks"][:limit]
            self.items = [each for each in self.items if each["token"] not in gone]
            return 200, self.no if no else {"success": True}
        if "sks" in asked.body:
            for each in self.items:
                if each.get("token") in asked.body["sks"][:limit]:
                    each["model_pricing"] = asked.body["model_pricing"]
            return 200, self.no if no else {"success": True}
        first = max((each["id"] for each in self.items), default=0) + 1
        made = [
            item(first + number, asked.body["alias"], model_pricing=asked.body["model_pricing"])
            for number in range(min(asked.body["count"], limit))
        ]
        self.items += made
        return 200, self.no if no else {"items": made, "success": True}

    @staticmethod
    def _masked(each: dict[str, Any]) -> dict[str, Any]:
        return {**each, "token": each["token"][:6] + "****" + each["token"][-4:]}

    def count(self, method: str, *, update: bool = False) -> int:
        return sum(
            asked.method == method and (method != "POST" or ("sks" in asked.body) == update)
            for asked in self.asked
        )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "CONFIRM_WITHIN", 0.2)


def ensure(
    origin: str, count: int = 2, *, clock: local_state.Clock | None = None, **options: Any
) -> list[SubAccount]:
    tries = {name: options.pop(name) for name in ("first_try", "task", "needs_keys") if name in options}
    want = CreateRequest.parse("a", GPT4, 1, count, **{"settle": 0.2, **options})
    return run_create(fixed_client(origin, clock=clock), want, **tries)


# --- It says no ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("no", NO, ids=json.dumps)
def test_a_create_that_is_declined_looks_once_and_says_why(no: Any) -> None:
    there = Platform(declines=9, no=no)
    with platform(there) as (origin, _):
        with pytest.raises(Declined, match="quota exceeded") as caught:
            ensure(origin, settle=30)
        assert "0 of 2 sub-accounts" in str(caught.value)
        assert not caught.value.permanent
        assert (there.count("POST"), there.count("GET")) == (1, 2)


def test_a_create_that_is_declined_and_was_done_in_part_is_completed_by_the_retry() -> None:
    there, clock = Platform(declines=1, does=2), jumping_clock()
    with platform(there) as (origin, _):
        with pytest.raises(Declined, match="2 of 3 sub-accounts"):
            ensure(origin, 3, task="t", if_exists="fail", clock=clock)
        assert len(ensure(origin, 3, task="t", if_exists="fail", first_try=False, clock=clock)) == 3
        assert len(there.items) == 3


def test_a_create_that_is_declined_and_was_done_all_the_same_ends_well() -> None:
    there = Platform(declines=1, does=3)
    with platform(there) as (origin, _):
        assert len(ensure(origin, 3)) == 3
        assert (there.count("POST"), len(there.items)) == (1, 3)


def test_the_try_after_a_declined_create_waits_before_it_believes_in_absence() -> None:
    """What was declined may have been done all the same, and show late."""
    there = Platform(declines=1, does=2)
    hidden: list[dict[str, Any]] = []

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET" and there.declines == 0 and not hidden:
            hidden.extend(there.items)
            there.items = []
        elif asked.method == "GET" and hidden and there.count("GET") >= 4:
            there.items = hidden[:]
        return there(asked)

    with platform(reply) as (origin, _):
        with pytest.raises(Declined):
            ensure(origin)
        assert len(ensure(origin)) == 2  # another task, too
        assert there.count("POST") == 1


def test_an_update_that_is_declined_is_told_and_not_repeated(impatient: None) -> None:
    there = Platform(item(1), item(2), declines=9)
    with platform(there) as (origin, _):
        with pytest.raises(Declined, match=r"Alias 'a', ids \[1\].*quota exceeded") as caught:
            runner.reprice(fixed_client(origin), RepriceRequest.parse({"gpt-4": 5}, alias="a", batch_size=1))
        assert not caught.value.permanent
        assert there.count("POST", update=True) == 2, "one for each of two batches"


def test_an_update_that_is_declined_and_done_all_the_same_ends_well() -> None:
    there = Platform(item(1), declines=1, does=1)
    with platform(there) as (origin, _):
        [after] = runner.reprice(fixed_client(origin), RepriceRequest.parse({"gpt-4": 5}, alias="a"))
        assert after.pricing == {"gpt-4": 5}
        assert there.count("POST", update=True) == 1


def test_a_retry_after_a_declined_update_does_not_wait() -> None:
    there = Platform(item(1), declines=1)

    def never(seconds: float) -> None:
        raise AssertionError("it waited")

    with platform(there) as (origin, _):
        with pytest.raises(Declined):
            runner.reprice(fixed_client(origin), RepriceRequest.parse({"gpt-4": 5}, alias="a"))
        runner.reprice(fixed_client(origin, sleep=never), RepriceRequest.parse({"gpt-4": 5}, alias="a"))


def test_a_delete_that_is_declined_is_told_and_not_repeated(impatient: None) -> None:
    there = Platform(item(1), declines=9)
    with platform(there) as (origin, _):
        with pytest.raises(Declined, match="quota exceeded") as caught:
            runner.delete(fixed_client(origin), DeleteRequest.parse(alias="a"))
        assert not caught.value.permanent
        assert there.count("DELETE") == 1


@pytest.mark.parametrize("does", [1, 2, 3])
def test_a_delete_that_is_declined_since_keys_are_gone_ends_well(does: int) -> None:
    there = Platform(item(1), item(2), item(3), declines=1, does=does)
    with platform(there) as (origin, _):
        assert len(runner.delete(fixed_client(origin), DeleteRequest.parse(alias="a"))) == 3
        assert there.items == []


# --- It hides keys -----------------------------------------------------------------------------------------


def test_keys_that_are_hidden_change_and_record_nothing() -> None:
    there = Platform(item(1), item(2), masks=True)
    recorded: list[Any] = []

    def record(*given: Any) -> None:
        recorded.append(given)

    with platform(there) as (origin, _):
        client = fixed_client(origin)
        key = there.items[0]["token"]
        tries: list[Callable[[], object]] = [
            lambda: runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias="a")),
            lambda: runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, sub_accounts=[1])),
            lambda: runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, sks=[key])),
            lambda: runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, sks=[key], dry_run=True)),
            lambda: runner.delete(client, DeleteRequest.parse(alias="a"), record),
            lambda: runner.delete(client, DeleteRequest.parse(sub_accounts=[1, 77]), record),
            lambda: runner.delete(client, DeleteRequest.parse(sks=[key]), record),
            lambda: runner.delete(client, DeleteRequest.parse(sks=[key], dry_run=True)),
            lambda: ensure(origin, needs_keys=True),
            lambda: ensure(origin, 3, needs_keys=True),
            lambda: ensure(origin, 3, needs_keys=True, first_try=False),
            lambda: run_create(
                client, CreateRequest.parse("a", {"gpt-4": 5}, 1, 3, if_exists="update", settle=0.1)
            ),
        ]
        for number, act in enumerate(tries):
            with pytest.raises(MaskedKeys, match="hides") as caught:
                act()
            assert caught.value.permanent, number
    assert {asked.method for asked in there.asked} == {"GET"}
    assert recorded == []


def test_what_needs_no_key_goes_on_where_keys_are_hidden() -> None:
    there = Platform(item(1), item(2), masks=True)
    with platform(there) as (origin, _):
        client = fixed_client(origin)
        assert len(runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias="a", dry_run=True))) == 2
        assert len(runner.reprice(client, RepriceRequest.parse(GPT4, alias="a"))) == 2  # right already
        assert len(runner.delete(client, DeleteRequest.parse(alias="a", dry_run=True))) == 2
        assert runner.delete(client, DeleteRequest.parse(alias="nobody")) == []
        assert len(ensure(origin, 3)) == 3
        assert len(ensure(origin, 3, if_exists="update")) == 3


def test_the_answer_of_a_create_has_the_keys_that_the_listing_hides() -> None:
    there = Platform(masks=True)
    with platform(there) as (origin, _):
        made = ensure(origin, needs_keys=True, if_exists="update")
        assert [each.token.reveal() for each in made] == [each["token"] for each in there.items]


# --- It lists what cannot be read --------------------------------------------------------------------------

BROKEN = [{"token": None}, {"token": ""}, {"balance": ""}, {"monthly_cost": "much"}, {"model_pricing": 5}]


@pytest.mark.parametrize("broken", BROKEN, ids=json.dumps)
def test_an_unreadable_account_costs_what_selects_it_and_nothing_else(broken: dict[str, Any]) -> None:
    there = Platform(item(1, "x", **broken), item(2, "b"), item(3, "b"))
    with platform(there) as (origin, _):
        client = fixed_client(origin)
        for selection in ({"alias": "x"}, {"sub_accounts": [1]}, {"sub_accounts": [2, 1]}):
            with pytest.raises(UnreadableAccount, match="id 1"):
                runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, **selection))
            with pytest.raises(UnreadableAccount, match="id 1"):
                runner.delete(client, DeleteRequest.parse(**selection))
        with pytest.raises(UnreadableAccount, match="id 1"):
            run_create(client, CreateRequest.parse("x", GPT4, 1, 2, settle=0.1))
        assert {asked.method for asked in there.asked} == {"GET"}
        assert len(runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias="b"))) == 2
        assert len(runner.delete(client, DeleteRequest.parse(sub_accounts=[2]))) == 1
        assert len(ensure(origin, 2)) == 2
        assert [each["id"] for each in there.items] == [1, 3, 4, 5]


def test_a_key_that_may_be_that_of_an_unreadable_account_is_not_gone() -> None:
    there = Platform(item(1, token=None), item(2))
    with platform(there) as (origin, _):
        client = fixed_client(origin)
        with pytest.raises(UnreadableAccount):
            runner.delete(client, DeleteRequest.parse(sks=["sk-looked-for-1234"]))
        assert len(runner.delete(client, DeleteRequest.parse(sks=[there.items[1]["token"]]))) == 1


def test_an_entry_without_an_id_is_in_doubt_only_where_an_id_is_missing() -> None:
    there = Platform(item(2), {"what": "ever"})
    with platform(there) as (origin, _):
        client = fixed_client(origin)
        with pytest.raises(UnreadableAccount, match="no id"):
            runner.delete(client, DeleteRequest.parse(sub_accounts=[2, 9]))
        assert len(runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, sub_accounts=[2]))) == 1


def test_an_entry_without_an_id_is_never_called_none(caplog: pytest.LogCaptureFixture) -> None:
    there = Platform(item(2, "b"), {"alias": "x"}, {"what": "ever"})
    with platform(there) as (origin, _):
        client = fixed_client(origin)
        selections: list[dict[str, Any]] = [{"alias": "x"}, {"sub_accounts": [2, 9]}]
        for selection in selections:
            with pytest.raises(UnreadableAccount, match="no id:") as caught:
                runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, **selection))
            assert "None" not in str(caught.value)
        with pytest.raises(UnreadableAccount, match="no id:") as caught:
            run_create(client, CreateRequest.parse("x", GPT4, 1, 1, settle=0.1))
        assert "None" not in str(caught.value)
        assert [account.id for account in client.iter_sub_accounts()] == [2]
        assert [account.id for account in runner.reprice(client, RepriceRequest.parse(GPT4, alias="b"))] == [
            2
        ]
    assert "left out: it cannot be read (no id: " in caplog.text
    assert "None" not in caplog.text


@pytest.mark.parametrize(
    ("ids", "said"), [([8, 9], "2 of the selected sub-accounts are not"), ([9], "is not")]
)
def test_one_is_and_two_are(ids: list[int], said: str) -> None:
    with platform(Platform(item(2))) as (origin, _), pytest.raises(MissingAccounts, match=said):
        runner.reprice(fixed_client(origin), RepriceRequest.parse({"gpt-4": 5}, sub_accounts=ids))


def test_a_deleted_account_that_is_listed_unreadably_is_not_gone(impatient: None) -> None:
    there = Platform(item(1))

    def reply(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            there.items[0]["token"] = None
            return 200, {"success": True}
        return there(asked)

    with platform(reply) as (origin, _), pytest.raises(Exception, match=r"still lists \[1\]"):
        runner.delete(fixed_client(origin), DeleteRequest.parse(alias="a"))


def test_an_account_that_a_create_made_and_cannot_be_read_is_not_made_again() -> None:
    there = Platform()

    def reply(asked: Asked) -> tuple[int, Any]:
        answer = there(asked)
        for each in there.items:
            each["token"] = None
        return answer

    with platform(reply) as (origin, _):
        for first_try in (True, False):
            with pytest.raises(UnreadableAccount, match="id 1"):
                ensure(origin, 1, first_try=first_try)
    assert there.count("POST") == 1


# --- Any alias that exists ---------------------------------------------------------------------------------

ODD = [
    "\u3000全角\u3000",
    "a\xa0b",
    "👩\u200d💻",
    " a ",
    "a ",
    "tab\there",
    "字" * 400,
    "x\u200by",
    "\u202edcba",
]


@pytest.mark.parametrize(
    "alias", [*ODD[:4], *(pytest.param(alias, marks=pytest.mark.slow) for alias in ODD[4:])], ids=ascii
)
def test_any_alias_that_exists_is_repriced_and_deleted_by_its_name(alias: str) -> None:
    there = Platform(item(1, alias), item(2, alias.strip() + "!"), item(3, "a"))

    def trimming(asked: Asked) -> tuple[int, Any]:
        """Filter as some platforms do: exactly, but for the spaces around it."""
        if asked.method == "GET" and "alias" in asked.query:
            shown = [each for each in there.items if each["alias"] == asked.query["alias"].strip()]
            return 200, {"items": shown, "total": len(shown), "page": 1, "pageSize": 500}
        return there(asked)

    with platform(trimming) as (origin, _):
        client = fixed_client(origin)
        assert [
            each.id for each in runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias=alias))
        ] == [1]
        assert [each.id for each in client.iter_sub_accounts(alias=alias)] == [1]
        assert [each.id for each in runner.delete(client, DeleteRequest.parse(alias=alias))] == [1]
        assert [each["id"] for each in there.items] == [2, 3]
        with pytest.raises(MissingAccounts):
            runner.reprice(client, RepriceRequest.parse({"gpt-4": 5}, alias=alias))


@pytest.mark.parametrize("answer", [(404, {"message": "unknown sk"}), (200, {"success": True})], ids=repr)
@pytest.mark.parametrize("is_young", [True, False], ids=["young", "of unknown age"])
def test_a_base_that_does_not_know_accounts_yet_is_no_proof_of_their_deletion(
    is_young: bool, answer: tuple[int, Any]
) -> None:
    """The base that listed them is down; the other one lags, and says no, or yes to what it lacks."""
    clock = jumping_clock()
    created_at = datetime.now(UTC).isoformat() if is_young else None
    items, begun = [item(number, created_at=created_at) for number in (1, 2)], clock.monotonic()
    is_down: list[bool] = []

    def page(found: list[dict[str, Any]]) -> tuple[int, Any]:
        return 200, {"items": found, "total": len(found), "page": 1, "pageSize": 500}

    def first(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            is_down.append(True)
        return (502, b"") if is_down else page(items)

    def second(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            return answer
        return page(items if clock.monotonic() - begun > 20 else [])

    with platform(first) as (one, _), platform(second) as (other, _):
        client = fixed_client(one, other, clock=clock)
        with pytest.raises((OutcomeUnknown, NotConfirmed), match=r"\[1, 2\]"):
            runner.delete(client, DeleteRequest.parse(alias="a"))


def test_a_base_that_listed_only_some_of_them_is_no_proof_either() -> None:
    """The first base lists one alias, and is down then; the other one lists the second, and lags behind."""
    clock, young = jumping_clock(), item(1, "a", created_at=datetime.now(UTC).isoformat())
    begun, asked_of_first, there = clock.monotonic(), [], [item(2, "b")]

    def page(*found: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"items": found, "total": len(found), "page": 1, "pageSize": 500}

    def first(asked: Asked) -> tuple[int, Any]:
        asked_of_first.append(asked)
        return page(young) if len(asked_of_first) == 1 and asked.method == "GET" else (502, b"")

    def second(asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE" and asked.body["sks"] == [young["token"]]:
            return 502, b""
        if asked.method == "DELETE":
            there.clear()
            return 200, {"success": True}
        listed = there + [young] * (clock.monotonic() - begun > 20)
        return page(*(each for each in listed if asked.query.get("alias") in (None, each["alias"])))

    records = [{"id": 1, "alias": "a"}, {"id": 2, "alias": "b"}]
    with platform(first) as (one, _), platform(second) as (other, _):
        client = fixed_client(one, other, clock=clock)
        with pytest.raises(OutcomeUnknown, match=r"Sub-accounts \[1\] are still listed"):
            runner.delete(client, DeleteRequest.parse(sub_accounts=records, batch_size=1))
