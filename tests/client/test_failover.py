"""A call over all bases: where it goes next, when it stops, and by which error."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from support import Sleeps, client_of, fixed_client, in_a_fork, in_threads

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.simulator import Simulator


def hosts(sim: Simulator, call: str) -> list[str]:
    return [request.host for request in sim.requests if request.call == call]


def test_failover_goes_best_first_and_then_round() -> None:
    with Simulator(bases=3) as sim:
        sim.fault("list", "error_before", times=None)
        sleeps = Sleeps()
        with pytest.raises(errors.OutcomeUnknown) as caught:
            list(client_of(sim, sleeps).iter_sub_accounts())
        assert hosts(sim, "list")[:3] == ["base-0", "base-1", "base-2"]
        assert len(hosts(sim, "list")) == 5
        assert sleeps.asked[:2] == [0, 0]
        assert sleeps.asked[2] > 0
        assert "5 attempts" in str(caught.value)


def test_rate_limited_waits_and_asks_the_same_base(sim: Simulator) -> None:
    sim.fault("list", "rate_limit", retry_after=7)
    sleeps = Sleeps()
    assert list(client_of(sim, sleeps).iter_sub_accounts()) == []
    assert hosts(sim, "list") == ["base-0", "base-0"]
    assert sleeps.asked == [7]


def test_rate_limited_beyond_the_deadline_is_told_at_once(sim: Simulator) -> None:
    sim.fault("list", "rate_limit", retry_after=200, times=None)
    sleeps = Sleeps()
    with pytest.raises(errors.RateLimited, match="'deadline'") as caught:
        list(client_of(sim, sleeps).iter_sub_accounts())
    assert (caught.value.retry_after, caught.value.status, caught.value.permanent) == (200, 429, False)
    assert sleeps.asked == []
    assert sim.count("list") == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles"])
@pytest.mark.parametrize("form", ["%a, %d %b %Y %X GMT", "%a %b %d %X %Y", "%a, %d %b %Y %X -0000"])
def test_a_retry_after_as_a_date(
    sim: Simulator, form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9110's own form, C's asctime, and the ``-0000`` of mail, wherever the worker is."""
    sim.fault("list", "rate_limit", retry_after=time.strftime(form, time.gmtime(time.time() + 60)))
    sleeps = Sleeps()
    try:
        with monkeypatch.context() as there:
            there.setenv("TZ", zone)
            time.tzset()
            list(client_of(sim, sleeps).iter_sub_accounts())
    finally:
        time.tzset()
    assert 50 < sleeps.asked[0] <= 60


@pytest.mark.parametrize("call", ["list", "billing"])
def test_a_read_that_fails_is_not_said_to_have_done_anything(sim: Simulator, call: str) -> None:
    sim.fault(call, "error_before", times=None)
    client = client_of(sim, Sleeps())
    with pytest.raises(errors.OutcomeUnknown, match="Nothing was changed: it only reads") as caught:
        client.main_usage() if call == "billing" else list(client.iter_sub_accounts())
    assert "executed" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "permanent"),
    [
        (400, errors.Rejected, True),
        (401, errors.AuthenticationFailed, True),
        (403, errors.PermissionDenied, True),
        (404, errors.OutcomeUnknown, False),
        (405, errors.OutcomeUnknown, False),
        (422, errors.Rejected, True),
        (408, errors.RequestTimedOut, False),
        (429, errors.RateLimited, False),
        (500, errors.OutcomeUnknown, False),
        (302, errors.OutcomeUnknown, False),
    ],
)
@pytest.mark.parametrize("call", ["list", "create"])
def test_the_error_of_each_status(
    sim: Simulator, call: str, status: int, kind: type, permanent: bool
) -> None:
    sim.fault(call, "status", status=status, times=None, body={"error": {"message": "because of this"}})
    client = client_of(sim, Sleeps(), max_attempts=2)
    calls: dict[str, Callable[[], object]] = {
        "list": lambda: list(client.iter_sub_accounts()),
        "create": lambda: client.create("a", {"m": Decimal(1)}, Decimal(1), 1),
    }
    with pytest.raises(errors.CloseAIError) as caught:
        calls[call]()
    assert type(caught.value) is kind
    assert caught.value.permanent is permanent
    assert (caught.value.call, caught.value.status) == (call, status)
    assert "because of this" in str(caught.value)
    again = not permanent and (call == "list" or status in (408, 429))
    assert sim.count(call) == 1 + again


@pytest.mark.parametrize("call", ["update", "delete"])
@pytest.mark.parametrize("kind", ["error_before", "error_after", "garbage"])
def test_updates_and_deletes_repeat_safely_elsewhere(sim: Simulator, call: str, kind: str) -> None:
    sim.add_account("a")
    client = client_of(sim)
    accounts = list(client.iter_sub_accounts())
    sim.fault(call, kind)
    if call == "update":
        client.update(accounts, "a", {"m": Decimal(1)})
    else:
        client.delete(accounts)
    assert hosts(sim, call) == ["base-0", "base-1"]


def test_a_base_that_has_said_404_is_left_alone_while_another_fails(sim: Simulator) -> None:
    sim.add_account("a")
    client = client_of(sim, Sleeps())
    accounts = list(client.iter_sub_accounts())
    sim.fault("delete", "status", base=0, status=404, body={"message": "no Route matched"}, times=None)
    sim.fault("delete", "status", base=1, status=500, times=2)
    client.delete(accounts)
    asked = [request.host for request in sim.requests if request.call == "delete"]
    assert asked == ["base-0", "base-1", "base-1", "base-1"]
    assert sim.accounts() == []


def test_a_create_goes_on_where_it_was_not_sent(sim: Simulator) -> None:
    client = client_of(sim)
    client.list_bases()
    sim.stop_base(0)
    assert len(client.create("a", {"m": Decimal(1)}, Decimal(1), 1)) == 1
    assert hosts(sim, "create") == ["base-1"]


def test_not_sent_says_that_nothing_was_sent(sim: Simulator) -> None:
    client = fixed_client("http://127.0.0.1:9", key=sim.key, sleep=Sleeps(), max_attempts=2)
    with pytest.raises(errors.NotSent, match="Nothing was sent") as caught:
        client.create("a", {"m": Decimal(1)}, Decimal(1), 1)
    assert not caught.value.permanent
    assert caught.value.base == "http://127.0.0.1:9"


def test_the_deadline_bounds_a_call_whose_answers_never_end(sim: Simulator) -> None:
    sim.fault("list", "drip", seconds=0.2, times=None)
    client = fixed_client(sim.base_urls[0], key=sim.key, deadline=1)
    started = time.monotonic()
    with pytest.raises(errors.OutcomeUnknown, match="within the deadline"):
        list(client.iter_sub_accounts())
    assert time.monotonic() - started < 15
    assert sim.count("list") == 1


def test_the_deadline_bounds_a_call_after_a_fork_too(sim: Simulator) -> None:
    """As Airflow forks its tasks: what ends a call in time must live on in the child."""
    client = fixed_client(sim.base_urls[0], key=sim.key, deadline=1)
    client.page(1, 1)
    sim.fault("list", "drip", seconds=0.2, times=None)

    def is_ended() -> bool:
        with pytest.raises(errors.OutcomeUnknown, match="within the deadline"):
            client.page(1, 1)
        return True

    assert in_a_fork(is_ended)


def test_each_call_of_many_threads_has_a_deadline_of_its_own(sim: Simulator) -> None:
    sim.fault("list", "drip", seconds=0.2, times=None)

    def work(number: int) -> None:
        client = fixed_client(sim.base_urls[0], key=sim.key, deadline=3 - 0.5 * number)
        with pytest.raises(errors.OutcomeUnknown, match="within the deadline"):
            client.page(1, 1)

    in_threads(4, work)


@pytest.mark.parametrize("status", [429, 408, 404, 400])
@pytest.mark.parametrize("call", ["update", "delete"])
def test_a_refusal_to_repeat_what_may_have_been_executed_leaves_it_unknown(
    sim: Simulator, call: str, status: int
) -> None:
    sim.add_account("a")
    client = client_of(sim, Sleeps(), max_attempts=2)
    accounts = list(client.iter_sub_accounts())
    sim.fault(call, "error_after")
    sim.fault(call, "status", status=status)
    calls: dict[str, Callable[[], object]] = {
        "update": lambda: client.update(accounts, "a", {"m": Decimal(1)}),
        "delete": lambda: client.delete(accounts),
    }
    with pytest.raises(errors.OutcomeUnknown, match="may have been executed"):
        calls[call]()


def test_a_listing_that_is_rate_limited_at_last_says_so(sim: Simulator) -> None:
    sim.fault("list", "cut_after")
    sim.fault("list", "rate_limit", retry_after=900)
    with pytest.raises(errors.RateLimited):
        list(client_of(sim, Sleeps()).iter_sub_accounts())


def test_a_failure_names_each_base_and_what_it_did_once(sim: Simulator) -> None:
    sim.fault("list", "cut_before", times=99)
    with pytest.raises(errors.CloseAIError) as told:
        client_of(sim, sleep=lambda seconds: None).page(1, 1)
    assert "after 5 attempts" in str(told.value)
    assert [str(told.value).count(base) for base in sim.base_urls] == [1, 1]
