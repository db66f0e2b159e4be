"""Guarded delete: looks first, keeps the last amounts, refuses what was not meant, reads back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support import Asked, client_of, fixed_client, item, jumping_clock, platform, process, run_and_kill

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import (
    AuthenticationFailed,
    Declined,
    OutcomeUnknown,
    RateLimited,
    Rejected,
)
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import (
    MissingAccounts,
    NotASubAccount,
    NotConfirmed,
    TooManySelected,
)
from airflow_provider_closeai.provisioning.requests import DeleteRequest
from airflow_provider_closeai.provisioning.runner import locking
from airflow_provider_closeai.provisioning.runner.deleting import send_deletions
from airflow_provider_closeai.provisioning.runner.listings import Listings
from airflow_provider_closeai.simulator import Request, Simulator


def delete(client: CloseAIClient, **options: Any) -> list[SubAccount]:
    return runner.delete(client, DeleteRequest.parse(**options))


def fill(sim: Simulator, number: int, alias: str = "a") -> list[int]:
    return [sim.add_account(alias, monthly_cost="0.44000013")["id"] for _ in range(number)]


def left(sim: Simulator) -> list[int]:
    return [account["id"] for account in sim.accounts()]


def posts(sim: Simulator) -> list[int]:
    return [len(request.body["sks"]) for request in sim.requests if request.call == "delete"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "CONFIRM_WITHIN", 0.2)


def test_it_returns_the_last_amounts(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sim.add_account("a", balance="7.5", monthly_cost="0.44000013")
    fill(sim, 1, "b")
    [gone] = delete(client_of(sim), alias="a")
    assert (gone.id, gone.alias, gone.monthly_cost, gone.balance) == (
        1,
        "a",
        Decimal("0.44000013"),
        Decimal("7.5"),
    )
    assert left(sim) == [2]
    assert "monthly_cost 0.44000013" in caplog.text
    assert sim.counts() == {"links": 1, "list": 2, "delete": 1}


def test_what_was_logged_first_is_not_lost_in_a_crash(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fill(sim, 1)
    seen: list[bool] = []

    def hook(request: Request) -> None:
        if request.call == "delete":
            seen.append("0.44000013" in caplog.text)

    sim.on_request = hook
    delete(client_of(sim), alias="a")
    assert seen == [True]


def test_batches_are_counted(sim: Simulator) -> None:
    fill(sim, 25)
    assert len(delete(client_of(sim), alias="a", batch_size=10)) == 25
    assert posts(sim) == [10, 10, 5]
    assert left(sim) == []


def test_selection_by_ids_records_and_keys(sim: Simulator) -> None:
    fill(sim, 5)
    client = client_of(sim)
    records = [account.record() for account in client.iter_sub_accounts()]
    delete(client, sub_accounts=records[:1])
    delete(client, sub_accounts=[2])
    delete(client, sks=[sim.accounts()[0]["token"]])
    assert left(sim) == [4, 5]


@pytest.mark.parametrize("alias_filter", ["exact", "substring", "ignored"])
def test_only_exactly_that_alias(alias_filter: str) -> None:
    with Simulator(alias_filter=alias_filter) as sim:
        fill(sim, 2, "team")
        others = fill(sim, 1, "team2") + fill(sim, 1, "Team") + fill(sim, 1, "x")
        assert len(delete(client_of(sim), alias="team")) == 2
        assert left(sim) == others


@pytest.mark.parametrize("number", [0, 2, "2"])
def test_more_than_max_delete_is_refused(sim: Simulator, number: Any) -> None:
    ids = fill(sim, 3)
    with pytest.raises(TooManySelected, match="max_delete") as caught:
        delete(client_of(sim), alias="a", max_delete=number)
    assert str(ids) in str(caught.value)
    assert caught.value.permanent
    assert sim.count("delete") == 0
    assert len(delete(client_of(sim), alias="a", max_delete=3)) == 3


@pytest.mark.parametrize("kind", ["master", "", "Slave"])
def test_what_is_no_sub_account_is_refused(sim: Simulator, kind: str) -> None:
    fill(sim, 1)
    other = sim.add_account("a", token_type=kind)
    with pytest.raises(NotASubAccount, match=rf"{other['id']} \({kind!r}\)") as caught:
        delete(client_of(sim), alias="a")
    assert caught.value.permanent
    assert sim.count("delete") == 0


def test_dry_run_sends_nothing(sim: Simulator) -> None:
    fill(sim, 3)
    assert len(delete(client_of(sim), alias="a", dry_run="True")) == 3
    with pytest.raises(TooManySelected):
        delete(client_of(sim), alias="a", dry_run=True, max_delete=2)
    assert sim.count("delete") == 0


def test_missing_both_ways(sim: Simulator) -> None:
    [account_id] = fill(sim, 1)
    client = client_of(sim)
    for selection in ({"alias": "nobody"}, {"sub_accounts": [account_id, 77]}, {"sks": ["sk-unknown"]}):
        with pytest.raises(MissingAccounts):
            delete(client, missing="fail", **selection)
    assert sim.count("delete") == 0
    assert delete(client, alias="nobody") == []
    assert delete(client, sks=["sk-unknown"]) == []
    assert sim.count("delete") == 0
    assert [account.id for account in delete(client, sub_accounts=[account_id, 77])] == [account_id]
    assert posts(sim) == [1]


def test_again_is_no_error(sim: Simulator) -> None:
    ids = fill(sim, 2)
    assert len(delete(client_of(sim), sub_accounts=ids)) == 2
    assert delete(client_of(sim), sub_accounts=ids) == []
    assert sim.count("delete") == 1


@pytest.mark.parametrize("missing", ["error", pytest.param("ok", marks=pytest.mark.slow)])
@pytest.mark.parametrize("lag", [0.3, pytest.param(0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "error_after", "garbage", "error_before"])
def test_after_an_unknown_outcome_all_are_gone(missing: str, lag: float, kind: str) -> None:
    with Simulator(delete_missing=missing, list_lag=lag) as sim:
        fill(sim, 5)
        fault = sim.fault("delete", kind)
        gone = delete(client_of(sim), alias="a", batch_size=3)
        assert fault.hits == 1
        assert len(gone) == 5
        assert all(account.monthly_cost == Decimal("0.44000013") for account in gone)
        assert left(sim) == []


@pytest.mark.parametrize("lag", [0, 0.3])
def test_some_that_somebody_else_deletes_meanwhile(lag: float) -> None:
    with Simulator(delete_missing="error", list_lag=lag) as sim:
        ids = fill(sim, 4)

        def hook(request: Request) -> None:
            if request.call == "delete":
                sim.on_request = None
                sim.delete_account(ids[1])

        sim.on_request = hook
        assert len(delete(client_of(sim), alias="a")) == 4
        assert left(sim) == []
        assert posts(sim) == [4, 4, 3], "the other base says so too"


def test_unknown_on_every_try_and_not_executed(sim: Simulator, impatient: None) -> None:
    fill(sim, 1)
    sim.fault("delete", "cut_before", times=None)
    with pytest.raises(OutcomeUnknown):
        delete(client_of(sim, max_attempts=2), alias="a")
    assert left(sim) == [1]


def test_unknown_on_every_try_and_executed(sim: Simulator) -> None:
    fill(sim, 2)
    sim.fault("delete", "cut_after", times=None)
    assert len(delete(client_of(sim, max_attempts=2), alias="a")) == 2


def test_executed_and_then_rate_limited_still_returns_the_last_amounts(sim: Simulator) -> None:
    fill(sim, 2)
    sim.fault("delete", "cut_after")
    sim.fault("delete", "rate_limit", retry_after=900)
    assert len(delete(client_of(sim), alias="a")) == 2
    assert left(sim) == []


def test_a_refusal_is_final(sim: Simulator, impatient: None) -> None:
    fill(sim, 2)
    sim.fault("delete", "status", status=400, body={"error": {"message": "no"}}, times=None)
    with pytest.raises(Rejected) as caught:
        delete(client_of(sim), alias="a")
    assert caught.value.permanent
    assert sim.count("delete") == 1


def test_a_refused_batch_stops_no_other(
    sim: Simulator, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    fill(sim, 8)
    sim.fault("delete", "status", status=400, body={"error": {"message": "no"}}, skip=1, times=1)
    sim.fault("delete", "decline", skip=1, times=1)
    with pytest.raises(Declined) as caught:  # which a retry may mend
        delete(client_of(sim), alias="a", batch_size=2)
    assert "[5, 6] are not deleted" in str(caught.value)
    assert "ids [1, 2, 7, 8] were deleted" in str(caught.value)
    assert "[3, 4] are not deleted" in caplog.text
    assert left(sim) == [3, 4, 5, 6]
    assert posts(sim) == [2, 2, 2, 2]


class Frozen:
    """
    A platform that refuses any call that names a frozen account; ``lost`` ones are deleted without an answer.

    :param lag: seconds for which a deleted account is listed still.
    """

    def __init__(self, clock: Clock, *aliases: str, frozen: int = 0, lost: int = 0, lag: float = 0) -> None:
        self.items = [item(number, alias) for number, alias in enumerate(aliases, 1)]
        self.calls: list[list[int]] = []
        self._clock, self._frozen, self._lost, self._lag = clock, frozen, lost, lag
        self._deleted_at: dict[int, float] = {}

    @property
    def there(self) -> list[int]:
        """Say which accounts are there."""
        return [each["id"] for each in self.items if each["id"] not in self._deleted_at]

    def __call__(self, asked: Asked) -> tuple[int, Any]:
        now = self._clock.monotonic()
        if asked.method == "GET":
            shown = [each for each in self.items if now < self._deleted_at.get(each["id"], now) + self._lag]
            shown += [each for each in self.items if each["id"] in self.there and each not in shown]
            return 200, {"items": shown, "total": len(shown), "page": 1, "pageSize": 500}
        named = [each["id"] for each in self.items if each["token"] in asked.body["sks"]]
        self.calls.append(named)
        if not {self._frozen, *self._deleted_at}.isdisjoint(named):
            return 400, {"message": "frozen"}
        if self._lost in named:
            return 502, b""
        self._deleted_at |= dict.fromkeys(named, now)
        return 200, {"success": True}


def test_what_is_refused_of_one_alias_holds_back_no_other() -> None:
    clock = jumping_clock()
    there = Frozen(clock, "a", "b", "b", "c", frozen=2)
    with platform(there) as (origin, _), pytest.raises(Rejected, match=r"\[2, 3\] are not deleted") as caught:
        delete(fixed_client(origin, clock=clock), sub_accounts=[1, 2, 3, 4])
    assert "ids [1, 4] were deleted" in str(caught.value)
    assert there.there == [2, 3]
    assert there.calls == [[1, 2, 3, 4], [1], [2, 3], [4]]


def test_a_refusal_hides_no_outcome_that_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    clock = jumping_clock()
    there = Frozen(clock, "a", "a", "a", frozen=2, lost=1)
    with (
        platform(there) as (origin, _),
        pytest.raises(OutcomeUnknown, match=r"\[1\] are still list") as caught,
    ):
        delete(fixed_client(origin, clock=clock), alias="a", batch_size=1)
    assert "ids [3] were deleted" in str(caught.value)
    assert not caught.value.permanent
    assert "[2] are not deleted" in caplog.text


def test_what_was_accepted_and_is_listed_still_was_not_refused() -> None:
    clock = jumping_clock()
    there = Frozen(clock, "a", "a", lag=40)
    with platform(there) as (origin, _):
        first = fixed_client(origin, clock=clock)
        with pytest.raises(NotConfirmed, match="accepted the deletion"):
            delete(first, sub_accounts=[1])
        # 1 goes from the listing while the call that names both is refused.
        with pytest.raises(NotConfirmed, match=r"accepted the deletion.* lists \[2\]"):
            delete(first, sub_accounts=[1, 2])


def test_what_was_deleted_before_a_call_that_changed_nothing_is_told(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fill(sim, 4)
    sim.fault("delete", "rate_limit", times=None, skip=1, retry_after=600)
    with pytest.raises(RateLimited, match=r"Before that call ids \[1, 2\] were deleted\."):
        delete(client_of(sim), alias="a", batch_size=2)
    assert left(sim) == [3, 4]
    assert "is deleted" not in caplog.text


def test_a_refused_key_is_told_at_once(sim: Simulator) -> None:
    fill(sim, 1)
    sim.fault("delete", "status", status=401, body={"error": {"message": "no"}}, times=None)
    with pytest.raises(AuthenticationFailed):
        delete(client_of(sim), alias="a")
    assert sim.counts() == {"links": 1, "list": 1, "delete": 1}


def test_what_is_still_listed_is_not_confirmed(impatient: None) -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        return 200, {"items": [item(1)], "total": 1} if asked.method == "GET" else {"success": True}

    with platform(reply) as (origin, asked):
        with pytest.raises(NotConfirmed, match=r"\[1\]"):
            delete(fixed_client(origin), alias="a")
        assert sum(request.method == "DELETE" for request in asked) == 1


def test_a_lagging_listing_is_waited_for() -> None:
    with Simulator(list_lag=0.3) as sim:
        fill(sim, 2)
        assert len(delete(client_of(sim), alias="a")) == 2
        assert sim.count("delete") == 1
        assert list(client_of(sim).iter_sub_accounts()) == []


def _delete_in_process(key: str, host: str, ids: list[int]) -> None:
    delete(CloseAIClient(config_from(password=key, host=host)), sub_accounts=ids, batch_size=2)


@pytest.mark.parametrize("missing", ["ok", "error"])
def test_a_retry_after_a_crash_deletes_the_rest(missing: str) -> None:
    with Simulator(delete_missing=missing) as sim:
        ids = fill(sim, 6)
        victim = process(_delete_in_process, sim.key, sim.discovery_url, ids)
        run_and_kill(sim, victim, lambda request: request.call == "delete" and sim.count("delete") == 2)
        gone = delete(client_of(sim), sub_accounts=ids, batch_size=2)
        assert {account.id for account in gone} <= set(ids[2:])
        assert left(sim) == []


def test_no_error_and_no_log_shows_a_token(
    sim: Simulator, caplog: pytest.LogCaptureFixture, impatient: None
) -> None:
    caplog.set_level("DEBUG")
    fill(sim, 2)
    tokens = [account["token"] for account in sim.accounts()]
    told = ""
    for options in (
        {"max_delete": 1},
        {"sks": [*tokens, "sk-unknown-secret"], "alias": None, "missing": "fail"},
    ):
        with pytest.raises((TooManySelected, MissingAccounts)) as caught:
            delete(client_of(sim), **{"alias": "a", **options})
        told += str(caught.value)
    delete(client_of(sim), alias="a")
    for secret in (sim.key, *tokens, "unknown-secret"):
        assert secret not in told + caplog.text


def test_what_a_later_listing_shows_was_deleted_although_nobody_could_look_before(sim: Simulator) -> None:
    """As in a roster, which lists again after it created."""
    fill(sim, 2)
    client = client_of(sim, clock=jumping_clock())
    sent = send_deletions(client, [list(client.iter_sub_accounts("a"))], client.clock.utc_now(), None)
    listings = Listings(client)
    listings.watch(sent)
    sim.fault("list", "error_before", times=None)
    listings.read_back()
    with pytest.raises(OutcomeUnknown):
        sent.conclude()
    sim.clear_faults()
    listings.read(["a"])
    assert len(sent.conclude()) == 2
