"""Applying a roster to a simulated platform: what is sent, in which order, and what an approval covers."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from shared_names import Names
from support import Asked, client_of, config_of, fixed_client, item, jumping_clock, platform

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.errors import (
    CloseAIError,
    ListingUnstable,
    MaskedKeys,
    OutcomeUnknown,
    Rejected,
)
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning.errors import ClockDisagrees
from airflow_provider_closeai.provisioning.runner import Try
from airflow_provider_closeai.roster import Applied, Options, Plan, PlanRefused, apply, make_plan, read_roster
from airflow_provider_closeai.roster.checks import check_time
from airflow_provider_closeai.simulator import Request, Simulator
from airflow_provider_closeai.sinks.base import DeliveryFailed, SinkKeys

PRUNE = Options(prune=True, max_delete="100%")


class Sink:
    """Notes what it is given, and what of the platform was done before."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.keys: dict[int, str] = {}
        self.deleted_before: dict[int, int] = {}
        self.trouble: Exception | None = None
        self.is_silent = False
        self.since: datetime | None = None

    def deliver(self, account: SubAccount) -> str:
        if self.trouble:
            raise self.trouble
        self.deleted_before.setdefault(account.id, self.sim.count("delete"))
        self.keys[account.id] = account.token.reveal()
        return f"key-{account.id}"

    def held(self, accounts: Sequence[SubAccount]) -> dict[int, datetime | None]:
        if self.is_silent:
            raise RuntimeError
        return {each.id: self.since for each in accounts if self.keys.get(each.id) == each.token.reveal()}


def tree(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    defaults = {"balance": 1, "model_pricing": {"gpt-4": 1}}
    return {"version": 1, "owns": ["team-*"], "defaults": defaults, "accounts": list(entries), **fields}


def sync(
    client: CloseAIClient, *entries: dict[str, Any], options: Options = PRUNE, sink: Sink | None = None
) -> Applied:
    roster = read_roster(tree(*entries))
    return apply(client, roster, options, keys=None if sink is None else SinkKeys(sink, {}, str))


def plan_of(client: CloseAIClient, *entries: dict[str, Any], options: Options = PRUNE, **fields: Any) -> Plan:
    return make_plan(client, read_roster(tree(*entries, **fields)), options, keys=None, books=None)


def pages(sim: Simulator, since: int) -> Counter[str]:
    return Counter(request.call for request in sim.requests[since:])


@pytest.mark.parametrize("count", [1, 10, 60])
def test_one_listing_before_and_one_after_whatever_the_number_of_aliases(sim: Simulator, count: int) -> None:
    sim.add_account("team-0")
    client = client_of(sim, page_size=500)
    client.list_bases()
    entries = [{"alias": f"team-{number}", "count": 2} for number in range(1, count + 1)]
    started = len(sim.requests)
    sync(client, *entries, options=Options())
    assert pages(sim, started)["create"] == count
    assert pages(sim, started)["list"] == 2
    started = len(sim.requests)
    dearer = [{**entry, "model_pricing": {"gpt-4": 2}} for entry in entries]
    sync(client, *dearer, options=Options())
    assert pages(sim, started) == {"list": 2, "update": count}
    started = len(sim.requests)
    sync(client, *dearer, options=Options())
    assert pages(sim, started) == {"list": 1}


def test_keys_are_delivered_before_anything_goes_also_with_nothing_to_do(sim: Simulator) -> None:
    sim.add_account("team-old")
    kept = sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 1}])
    sink, client = Sink(sim), client_of(sim)
    sync(client, {"alias": "team-a"}, sink=sink)
    assert sim.count("delete") == 1
    assert sink.deleted_before[kept["id"]] == 0
    sink.keys.clear()
    done = sync(client, {"alias": "team-a"}, sink=sink)
    assert (done.has_changed, done.references) == (False, {kept["id"]: f"key-{kept['id']}"})


@pytest.mark.parametrize("is_silent", [False, True], ids=["takes nothing", "says nothing"])
def test_a_sink_that_is_down_stops_deletions_and_creations_but_no_price(
    sim: Simulator, is_silent: bool
) -> None:
    sim.add_account("team-old")
    sim.add_account("team-a")
    sink, client = Sink(sim), client_of(sim)
    sink.trouble, sink.is_silent = RuntimeError(), is_silent
    entries = {"alias": "team-a"}, {"alias": "team-b"}
    plan = make_plan(client, read_roster(tree(*entries)), PRUNE, keys=SinkKeys(sink, {}, str), books=None)
    told = [note.text for note in plan.notes if "Sink could not say which keys it holds" in note.text]
    assert (plan.counts, len(told)) == ({"create": 1, "reprice": 1, "delete": 1}, is_silent)
    for wanted in (read_roster(tree(*entries)), plan):
        with pytest.raises(DeliveryFailed, match="Sink "):
            apply(client, wanted, PRUNE, keys=SinkKeys(sink, {}, str))
    calls = pages(sim, 0)
    assert (calls["update"], calls["create"], calls["delete"]) == (1, 0, 0)
    sink.trouble, sink.is_silent = None, False
    assert sync(client, *entries, sink=sink).counts | {"delivered": 2} == {
        "aliases": 2, "sub_accounts": 2, "created": 1, "repriced": 0, "deleted": 1, "delivered": 2
    }  # fmt: skip


def test_only_what_was_approved_and_is_still_wanted_is_done(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(sim)
    for alias in ("team-old", "team-gone", "team-a", "team-b"):
        sim.add_account(alias)
    sim.clock.advance(minutes=1)
    entries: list[dict[str, Any]] = [
        {"alias": "team-a"}, {"alias": "team-b", "count": 3}, {"alias": "team-c", "count": 2}
    ]  # fmt: skip
    approved = Plan.parse(msgspec.json.decode(msgspec.json.encode(plan_of(client, *entries).record())))
    assert approved.counts == {"create": 4, "reprice": 2, "delete": 2}
    # Meanwhile somebody works in the console.
    sim.delete_account(2)  # team-gone: done already
    sim.spoil(3, "model_pricing", '[{"model":"gpt-4","pricing_factor":7}]')  # team-a: other prices than shown
    sim.add_account("team-b", [{"model": "gpt-4", "pricing_factor": 1}])  # of two to create, one is left
    sim.add_account("team-new-and-old")
    caplog.set_level(logging.INFO)
    done = apply(client, approved, Options())
    assert sorted((action.kind, action.alias, action.number) for action in done.matched.todo) == [
        ("create", "team-b", 1), ("create", "team-c", 2), ("delete", "team-old", 0), ("reprice", "team-b", 0)
    ]  # fmt: skip
    assert [
        (each.action.alias, each.because) for each in done.matched.skipped if each.action.kind == "delete"
    ] == [("team-gone", "done already")]
    assert sorted(action.alias for action in done.matched.unapproved) == ["team-a", "team-new-and-old"]
    assert [request.body["alias"] for request in sim.requests if request.call == "update"] == ["team-b"]
    assert len(sim.accounts("team-new-and-old")) == 1
    assert "Not approved, left: delete" in caplog.text
    assert "Approved, and done already: delete 2 of 'team-gone'" in caplog.text
    assert apply(client, approved, Options()).has_changed is False, "it may be run again"


def test_what_cannot_be_read_is_not_called_done(sim: Simulator) -> None:
    gone, hidden, kept = (sim.add_account(alias) for alias in ("team-old", "team-older", "team-a"))
    client = client_of(sim)
    plan = plan_of(client, {"alias": "team-a", "count": 2})
    assert plan.counts == {"create": 1, "reprice": 1, "delete": 2}
    sim.delete_account(gone["id"])
    for account in (hidden, kept):
        sim.spoil(account["id"], "model_pricing", '"x"')
    done = apply(client, plan, PRUNE)
    assert [(each.action.kind, each.action.alias, each.because) for each in done.matched.skipped] == [
        ("reprice", "team-a", "it cannot be read now"),
        ("create", "team-a", "it cannot be read now"),
        ("delete", "team-old", "done already"),
        ("delete", "team-older", "it cannot be read now"),
    ]
    assert [account["alias"] for account in sim.accounts()] == ["team-older", "team-a"]


def test_of_a_creation_the_smaller_number_counts(sim: Simulator) -> None:
    client = client_of(sim)
    for _ in range(2):
        sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 1}])
    sim.clock.advance(minutes=1)
    approved = plan_of(client, {"alias": "team-a", "count": 3})
    sim.delete_account(1)
    done = apply(client, approved, Options())
    assert len(sim.accounts("team-a")) == 2, "one was approved"
    assert [action.number for action in done.matched.unapproved] == [1]


def test_no_more_is_created_than_was_approved_whatever_goes_meanwhile(sim: Simulator) -> None:
    for _ in range(2):
        sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 1}])
    clock = jumping_clock()
    client = client_of(sim, clock=clock)

    class Slow(Sink):
        def deliver(self, account: SubAccount) -> str:
            if sim.count("create") == 0 and len(sim.accounts()) == 2:
                clock.sleep(31)  # the look is too old by then
                sim.delete_account(1)
            return super().deliver(account)

    keys = SinkKeys(Slow(sim), {}, str)
    options = Options(max_create=1)
    approved = make_plan(
        client, read_roster(tree({"alias": "team-a", "count": 3})), options, keys=keys, books=None
    )
    apply(client, approved, options, keys=keys)
    assert [account["id"] for account in sim.accounts()] == [2, 3]


def test_a_plan_that_is_too_old_or_of_another_account_is_refused(sim: Simulator) -> None:
    client = client_of(sim)
    sim.add_account("team-a")
    plan = plan_of(client, {"alias": "team-a"})
    for age in (timedelta(hours=24, minutes=1), timedelta(minutes=-11)):
        with pytest.raises(PlanRefused, match="a plan is valid for 24 h"):
            apply(client, msgspec.structs.replace(plan, made_at=datetime.now(UTC) - age), Options())
    with pytest.raises(PlanRefused, match="have user_id 1001, and main account 7 is meant"):
        apply(client, msgspec.structs.replace(plan, main_account=7), Options())
    with pytest.raises(PlanRefused, match="correct main_account in the roster"):
        plan_of(client, {"alias": "team-a"}, main_account=7)
    assert not sim.count("update")
    assert apply(client, plan, Options()).has_changed


def test_an_account_that_does_not_say_whose_it_is_takes_no_protection_from_a_plan(sim: Simulator) -> None:
    client = client_of(sim)
    sim.spoil(sim.add_account("team-b")["id"], "user_id", "null")
    first = sim.add_account("team-a")["id"]
    plan = plan_of(client, {"alias": "team-a", "count": 2}, options=Options())
    assert plan.main_account == 1001
    sim.spoil(first, "user_id", "4242")
    with pytest.raises(PlanRefused, match="have user_id 4242, and main account 1001 is meant"):
        apply(client, plan, Options())
    sim.spoil(first, "user_id", "null")
    with pytest.raises(PlanRefused, match="have user_id None"):
        apply(client, plan, Options())


def test_what_cannot_be_trusted_changes_nothing(sim: Simulator) -> None:
    for number in range(5):
        sim.add_account(f"team-{number}")
    before = sim.accounts()
    sim.settings.mask_tokens = True
    with pytest.raises(MaskedKeys):
        sync(client_of(sim), {"alias": "team-0"}, {"alias": "team-1"})
    sim.settings.mask_tokens = False
    sim.spoil(1, "balance", "[]")
    done = sync(client_of(sim), {"alias": "team-0"}, options=Options())
    [note] = [note for note in done.plan.notes if note.alias == "team-0"]
    assert "left alone, since entries of it cannot be read: id 1" in note.text
    assert [account["token"] for account in sim.accounts()] == [account["token"] for account in before]


def test_an_unstable_listing_plans_nothing() -> None:
    def reply(asked: Asked) -> tuple[int, Any]:
        items = [item(number, "team-a") for number in range(3)]
        return 200, {"items": items if asked.query["page"] in ("1", "-1") else [], "total": 7, "page": 1}

    with platform(reply) as (base, asked), pytest.raises(ListingUnstable):
        sync(fixed_client(base), {"alias": "team-a", "model_pricing": {"gpt-4": 3}})
    assert {each.method for each in asked} == {"GET"}


def test_what_the_api_cannot_change_is_told(sim: Simulator) -> None:
    client = client_of(sim)
    for _ in range(2):
        sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 1}], balance=7, enabled=False)
    notes = {note.text.partition(":")[0] for note in plan_of(client, {"alias": "team-a"}).notes}
    assert "balance is 7, and 1 is wanted" in notes
    assert "has 2 sub-accounts, and 1 are wanted" in notes
    assert any(text.startswith("ids [1, 2] are disabled") for text in notes)
    assert sync(client, {"alias": "team-a"}).has_changed is False
    assert len(sim.accounts()) == 2


def test_a_balance_that_fell_by_what_was_spent_is_no_difference(sim: Simulator) -> None:
    client = client_of(sim)
    prices = [{"model": "gpt-4", "pricing_factor": 1}]
    sim.set_rate(sim.add_account("team-a", prices, balance=100)["id"], 1)
    sim.clock.advance(hours=3)
    assert sim.accounts("team-a")[0]["balance"] == "97"
    wanted = {"alias": "team-a", "balance": 100}
    assert plan_of(client, wanted).notes == ()
    [raised] = plan_of(client, {**wanted, "balance": 200}).notes
    assert raised.alias == "team-a"
    assert "1 sub-account of 'team-a' has a lower balance than is wanted" in raised.text
    for number in range(3):
        sim.add_account(f"team-{number}", prices, balance=1)
    entries = [{**wanted, "alias": f"team-{number}"} for number in range(3)]
    [all_of_them] = plan_of(client, *entries, options=Options()).notes[1:]
    assert "3 sub-accounts of 'team-0', 'team-1', 'team-2' have a lower balance" in all_of_them.text
    sim.clock.advance(hours=2)  # an exported roster has what was left then: this month's costs are above that
    assert plan_of(client, {**wanted, "balance": 97}).notes == ()


def test_what_another_host_made_at_the_same_time_is_not_counted(
    sim: Simulator, host: Callable[[str], Clock], caplog: pytest.LogCaptureFixture
) -> None:
    """Both have the keys, and the counts of both add up."""
    sim.add_account("other")
    names, roster = Names(), read_roster(tree({"alias": "team-a", "count": 2}, {"alias": "team-b"}))
    done: dict[str, Applied] = {}

    def run(name: str) -> None:
        client = CloseAIClient(config_of(sim), clock=host(name))
        keys = SinkKeys(Sink(sim), {}, str)
        done[name] = apply(client, roster, Options(settle=0.6), keys=keys, this_try=Try(names=names))

    def other(name: str) -> None:
        names.on_add = lambda name: None
        run("b")
        host("a")

    names.on_add = other  # after the first one has listed, before it claims
    caplog.set_level(logging.INFO)
    run("a")
    assert len(sim.accounts()) == 4
    assert [done[name].counts["created"] for name in "ab"] == [0, 3]
    assert [done[name].counts["delivered"] for name in "ab"] == [3, 3]
    assert not done["a"].has_changed
    assert "0 created, 0 repriced" in caplog.text
    assert "Alias 'team-b' has 1 sub-account (0 created now)" in caplog.text


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
def test_only_a_key_that_is_gone_gets_a_successor(sim: Simulator, kind: str) -> None:
    """Never more than twice as many as wanted, and none too few, whatever becomes of the answers."""
    now, jumping, sink = sim.clock.now(), jumping_clock(), Sink(sim)
    sink.since = now - timedelta(days=80)
    clock = Clock(now=now.timestamp, monotonic=jumping.monotonic, sleep=jumping.sleep)
    for days in (200, 190, 100, 95):
        account = sim.add_account("team-a", created_at=now - timedelta(days=days))
        sink.keys[account["id"]] = account["token"]
    sim.fault("delete", kind, times=None)
    is_done = kind == "cut_after"
    for _ in range(2):
        with contextlib.nullcontext() if is_done else pytest.raises(OutcomeUnknown, match="still listed"):
            sync(
                client_of(sim, clock=clock),
                {"alias": "team-a", "count": 2, "rotate": {"every": "90d", "grace": "7d"}},
                sink=sink,
            )
        assert [each["id"] for each in sim.accounts("team-a")] == ([3, 4, 5, 6] if is_done else [1, 2, 3, 4])


def test_what_goes_wrong_with_one_alias_does_not_stop_the_others(sim: Simulator) -> None:
    client = client_of(sim)
    sim.add_account("team-old")
    sim.fault("create", "decline", times=1, form="success")
    with pytest.raises(CloseAIError):
        sync(client, {"alias": "team-a"}, {"alias": "team-b"})
    assert [account["alias"] for account in sim.accounts()] == ["team-b"]
    # What was declined may have happened: it is waited for.
    sync(client, {"alias": "team-a"}, {"alias": "team-b"}, options=msgspec.structs.replace(PRUNE, settle=0.2))
    assert sorted(account["alias"] for account in sim.accounts()) == ["team-a", "team-b"]


def test_what_was_deleted_before_a_refusal_is_told_in_the_closing_line(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for alias in ("team-a", "team-b", "team-c"):
        sim.add_account(alias)
    sim.fault("delete", "status", status=400, body={"error": {"message": "frozen"}}, times=2)
    with pytest.raises(Rejected, match=r"\[1\] are not deleted"):
        sync(client_of(sim, clock=jumping_clock()))
    assert [account["id"] for account in sim.accounts()] == [1]
    assert "0 aliases have 0 sub-accounts; 0 created, 0 repriced, 2 deleted" in caplog.text


@pytest.mark.parametrize("month", [11, 12])
def test_clocks_that_differ_by_days_stop_a_budget_only_where_the_month_differs(month: int) -> None:
    roster = read_roster(tree({"alias": "team-a", "budget": 5, "over_budget": {}}))
    now, theirs = datetime(2026, 11, 15, tzinfo=UTC), datetime(2026, month, 20, tzinfo=UTC)
    with contextlib.nullcontext() if month == 11 else pytest.raises(ClockDisagrees):
        check_time(roster, [], theirs.timestamp(), now)


def test_an_account_that_vanishes_while_its_price_is_set_is_not_called_there(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.settings.delete_missing = "error"
    for _ in range(2):
        sim.add_account("team-a", [{"model": "gpt-4", "pricing_factor": 9}])

    def delete(request: Request) -> None:
        if request.call == "update" and len(sim.accounts()) == 2:
            sim.delete_account(1)

    sim.on_request = delete
    done = sync(client_of(sim), {"alias": "team-a", "count": 2})
    assert [account.id for account in done.accounts] == [2]
    assert [account.id for account in done.repriced] == [2]
    assert "Not repriced, since not listed any more: ids [1]" in caplog.text
