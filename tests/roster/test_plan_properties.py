"""What a plan promises, whatever the roster, the listing, the costs and the sink are."""

from __future__ import annotations

import json
import os
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pendulum
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from roster_model import MOMENT, START, STEPS, Model, roster_of, shuffled

from airflow_provider_closeai.provisioning.errors import ClockDisagrees
from airflow_provider_closeai.roster import Plan, markdown
from airflow_provider_closeai.roster.checks import check_time
from airflow_provider_closeai.roster.decide import Options, make_plan
from airflow_provider_closeai.roster.matching import match
from airflow_provider_closeai.roster.plan import DELETE, EXPIRED, ROTATED_OUT
from airflow_provider_closeai.roster.render import log_lines

DEEP = int(os.environ.get("CLOSEAI_DEEP_EXAMPLES", "1500"))
ALIASES = ["team-a", "team-b", "team-c", "Team-a", "other", "team-|`x`|"]
PRICES: list[dict[str, Any]] = [{"m": 1}, {"m": "0.5", "n": 2}, {"old": 2}]
LIMITS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.shrink},
)
#: Draws of its own: those of 400 days are more than hypothesis takes of one example.
SEEDS = st.integers(0, 2**32).map(random.Random)
DEEPLY = settings(parent=LIMITS, max_examples=DEEP)


@st.composite
def entries(draw: st.DrawFn, alias: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"alias": alias, "count": draw(st.integers(1, 3))}
    entry["model_pricing"] = draw(st.sampled_from(PRICES[:2]))
    if draw(st.booleans()):
        entry |= {"budget": 10, "over_budget": draw(st.sampled_from([{}, {"cheap": 1}]))}
    if draw(st.booleans()):
        every = draw(st.sampled_from(["2d", "10d"]))
        entry["rotate"] = {
            "every": every,
            "grace": "1d",
            "max_rotate": draw(st.sampled_from(["10%", "100%"])),
        }
    if draw(st.integers(0, 3)) == 0:
        entry["expires"] = (START + timedelta(days=draw(st.integers(-5, 30)))).isoformat()
    return entry


@st.composite
def worlds(draw: st.DrawFn) -> Model:
    named = draw(
        st.lists(st.sampled_from(["team-a", "team-b", "team-c", "team-|`x`|"]), unique=True, max_size=3)
    )
    roster = roster_of(*[draw(entries(alias)) for alias in named])
    model = Model(roster, is_dated=draw(st.booleans()))
    model.lags = tuple(timedelta(seconds=draw(st.sampled_from([0, 5, 30]))) for _ in range(2))
    for alias in draw(st.lists(st.sampled_from(ALIASES), max_size=8)):
        # Of none a day is over within the hour that the runs take: what was not due before would be then.
        age = timedelta(days=draw(st.floats(0.1, 30).filter(lambda days: days % 1 < 0.95)))
        prices = {name: Decimal(str(factor)) for name, factor in draw(st.sampled_from(PRICES)).items()}
        account = model.add(alias, prices, age=age, was_there=True)
        if draw(st.booleans()):
            account.held = account.created
    model.spent = {alias: Decimal(draw(st.sampled_from([0, 5, 10, 11]))) for alias in named}
    model.options = {"prune": draw(st.booleans())}
    return model


def stand_still(model: Model, base: int) -> Plan:
    """Run until nothing is due at this moment: a sink that cannot say since when takes more runs."""
    for _ in range(6):
        model.settle()
        if not model.run(base).actions:
            break
    model.settle()
    return model.plan(1 - base)


def check_applying_and_planning_again(model: Model, base: int) -> None:
    before = {each.id: (each.alias, each.prices[-1][1]) for each in model.there()}
    first = model.plan(base)
    assert make_plan(model.roster, shuffled(model.look(base), 1), Options(**model.options)) == first, (
        "an order counts"
    )
    again = stand_still(model, base)
    assert again.actions == (), "applied, and not as wanted"
    assert again.deliver == ()
    assert model.touched <= {alias for alias in ALIASES if alias.startswith("team-")}, "not its own"
    for account_id, (alias, prices) in before.items():
        account = model.accounts[account_id - 1]
        if alias not in model.roster.entries and (
            not model.options["prune"] or not alias.startswith("team-")
        ):
            assert (account.gone, account.prices[-1][1]) == (None, prices), "left out is not empty"
    if not model.options["prune"]:
        assert {action.reason for action in first.actions if action.kind == DELETE} <= {EXPIRED, ROTATED_OUT}


@LIMITS
@given(model=worlds(), base=st.integers(0, 1))
def test_applying_a_plan_and_planning_again_changes_nothing(model: Model, base: int) -> None:
    check_applying_and_planning_again(model, base)


@pytest.mark.deep
@DEEPLY
@given(model=worlds(), base=st.integers(0, 1))
def test_applying_a_plan_and_planning_again_changes_nothing_deeply(model: Model, base: int) -> None:
    check_applying_and_planning_again(model, base)


@LIMITS
@given(model=worlds())
def test_a_plan_reads_back_and_shows_no_key(model: Model) -> None:
    plan = model.plan()
    text = json.dumps(plan.record())
    assert plan.record() == json.loads(text), "Airflow would keep a tuple as one"
    read = Plan.parse(json.loads(text))
    assert read == plan
    assert read.digest == plan.digest
    shown = text + markdown(plan) + "\n".join(log_lines(plan))
    assert "sk-" not in shown
    assert list(plan.actions) == sorted(plan.actions, key=lambda action: action.order)
    assert len(log_lines(plan)) == len(plan.actions) + len(plan.notes)


@LIMITS
@given(model=worlds(), days=st.integers(0, 20), money=st.sampled_from([0, 5, 10, 11]))
def test_only_what_is_approved_and_still_wanted_is_done(model: Model, days: int, money: int) -> None:
    approved = model.plan()
    model.now += timedelta(days=days)
    model.spent = dict.fromkeys(model.spent, Decimal(money))
    if model.there():
        model.there()[0].prices.append((model.now - timedelta(hours=1), {"console": Decimal(3)}))
    wanted = model.plan()
    matched = match(approved, wanted, model.look())
    may, now = (
        {action.key: action for action in approved.actions},
        {each.key: each for each in wanted.actions},
    )
    for action in matched.todo:
        assert action.number <= min(may[action.key].number, now[action.key].number)
    assert {each.action.key for each in matched.skipped} == may.keys() - now.keys()
    created = sum(action.number for action in (*matched.todo, *matched.unapproved))
    assert created == wanted.counts["create"], "something is not named"
    assert {action.key for action in (*matched.todo, *matched.unapproved)} == now.keys()


MIDNIGHT = "2027-01-01T00:00:00+08:00"


@pytest.mark.parametrize(
    ("one", "others"),
    [
        (
            {"expires": MIDNIGHT},
            [
                {"expires": "2026-12-31T16:00:00Z"},
                {"expires": pendulum.parse(MIDNIGHT)},
                {"expires": pendulum.datetime(2026, 12, 31, 11, tz="America/New_York")},
            ],
        ),
        (
            {"rotate": {"from": MIDNIGHT}},
            [{"rotate": {"from": pendulum.datetime(2027, 1, 1, tz="Asia/Shanghai")}}],
        ),
        *[
            (make(60), [make(each) for each in ("60", 60.0, Decimal("60.00"), "6e1", " 60.0 ")])
            for make in (
                lambda amount: {"budget": amount},
                lambda amount: {"balance": amount},
                lambda amount: {"model_pricing": {"m": amount}},
                lambda amount: {"budget": 1, "over_budget": {"m": amount}},
            )
        ],
    ],
)
def test_what_means_the_same_has_the_same_digest(one: dict[str, Any], others: list[dict[str, Any]]) -> None:
    plans = [Model(roster_of({"alias": "team-a", **each})).plan() for each in (one, *others)]
    assert len({plan.digest for plan in plans}) == 1
    assert [Plan.parse(json.loads(json.dumps(plan.record()))) for plan in plans] == plans


def test_the_order_of_entries_and_globs_is_in_no_digest() -> None:
    one, two = {"alias": "team-a"}, {"alias": "team-b"}
    fields: list[dict[str, Any]] = [{"owns": ["team-*", "x-*"]}, {"owns": ["x-*", "team-*", "x-*"]}]
    plans = [Model(roster_of(one, two, **each)).plan() for each in fields]
    unowned = [Model(roster_of(*each, owns=None)).plan() for each in ([one, two], [two, one])]
    assert [len({plan.digest for plan in each}) for each in (plans, unowned)] == [1, 1]


def skipped(approved: Plan, model: Model) -> list[str]:
    return [each.because for each in match(approved, model.plan(), model.look()).skipped]


@pytest.mark.parametrize(
    ("wanted", "age"),
    [({"count": 2}, timedelta(days=1)), ({"rotate": {"every": "90d", "grace": "7d"}}, timedelta(days=91))],
    ids=["missing", "successor"],
)
def test_a_creation_that_waits_is_not_called_done(wanted: dict[str, Any], age: timedelta) -> None:
    model = Model(roster_of({"alias": "team-a", "budget": 60, "over_budget": {}, **wanted}))
    model.add("team-a", {"m": Decimal(1)}, age=age).held = START
    approved = model.plan()
    model.spent = {"team-a": Decimal(70)}
    assert skipped(approved, model) == ["not wanted any more"]
    model.spent = {}
    model.run()
    model.settle()
    assert skipped(approved, model) == ["done already"]


@pytest.mark.parametrize("skew", [-9, 0, 9])
def test_a_successor_from_before_the_plan_is_not_the_plans_own(skew: int) -> None:
    rotate = {"every": "90d", "grace": "7d", "max_rotate": 2}
    entry = {"alias": "team-a", "count": 2, "budget": 60, "over_budget": {}, "rotate": rotate}
    model = Model(roster_of(entry), skew=timedelta(minutes=skew), options={"max_create": 1})
    for age in (timedelta(days=91), timedelta(days=91), timedelta(minutes=5)):
        model.add("team-a", {"m": Decimal(1)}, age=age).held = START
    approved = model.plan()
    assert approved.counts["create"] == 1
    model.now += timedelta(hours=1)
    model.spent = {"team-a": Decimal(70)}
    assert skipped(approved, model) == ["not wanted any more"]
    silent = msgspec.structs.replace(model.look(), held=None, silence="The sink is down.")
    wanted = make_plan(model.roster, silent, Options(**model.options))
    assert [each.because for each in match(approved, wanted, silent).skipped] == ["it waits for the sink"]
    model.spent = {}
    model.run()
    model.settle()
    assert skipped(approved, model) == ["done already"]


@LIMITS
@given(
    spending=st.lists(st.sampled_from([0, 3, 12]), min_size=2, max_size=9),
    over=st.sampled_from([{}, {"cheap": 1}]),
    base=st.integers(0, 1),
)
def test_over_budget_and_back_gives_the_prices_of_the_day_before(
    spending: list[int], over: dict[str, Any], base: int
) -> None:
    """Each number is what was spent by a month's end; at its turn it is 0 again."""
    model = Model(roster_of({"alias": "team-a", "count": 2, "budget": 10, "over_budget": over}))
    model.run()
    model.settle()
    before = model.prices()
    for spent in spending:
        model.spent = {"team-a": Decimal(spent)}
        model.run(base)
        model.settle()
        assert model.plan(1 - base).actions == (), "it flaps"
        wanted = {name: Decimal(factor) for name, factor in over.items()}
        assert model.prices() == (dict.fromkeys(before, wanted) if spent >= 10 else before)
        model.spent = {}
        model.run(base)
        model.settle()
        assert model.prices() == before


def check_rotation(model: Model, days: int, crashes: float, seed: Any) -> None:
    entry = model.roster.entries["team-a"]
    assert entry.rotate is not None
    grace = entry.rotate.grace - STEPS * MOMENT - abs(model.skew)  # as the worker's clock tells it
    end, seen_working = model.now + timedelta(days=days), False
    while model.now < end:
        model.run(seed.randrange(2), seed.randrange(STEPS) if seed.random() < crashes else STEPS)
        there = model.there("team-a")
        made = [each for each in there if not each.was_there]
        assert len(made) <= 2 * entry.count, "more than twice the count"
        works = [each for each in there if each.held is not None]
        seen_working = seen_working or len(works) >= entry.count
        assert not seen_working or len(works) >= entry.count, "fewer keys than wanted work"
        for account in model.accounts:
            if account.gone is not None and account.gone > model.now - STEPS * MOMENT:
                known = [
                    each for each in there
                    if (each.created, each.id) > (account.created, account.id)
                    and each.held is not None
                    and (not model.is_dated or model.now - each.held >= grace)
                ]  # fmt: skip
                assert len(known) >= entry.count, "an old one goes before its successors are in use"
        model.now += seed.random() * timedelta(days=2)


@st.composite
def rotations(draw: st.DrawFn) -> Model:
    count = draw(st.sampled_from([1, 2, 5]))
    rotate = {"every": draw(st.sampled_from(["14d", "90d"])), "grace": draw(st.sampled_from(["1h", "7d"]))}
    entry = {"alias": "team-a", "count": count, "rotate": rotate}
    model = Model(roster_of(entry), is_dated=draw(st.booleans()))
    model.skew = timedelta(minutes=draw(st.integers(-10, 10)))
    model.options = {name: draw(st.sampled_from([None, 0, 1, 3])) for name in ("max_create", "max_delete")}
    for _ in range(draw(st.sampled_from([0, count, 40]))):
        model.add("team-a", age=timedelta(days=draw(st.floats(0, 200))), was_there=True)
    return model


@settings(parent=LIMITS, max_examples=6)
@given(model=rotations(), crashes=st.sampled_from([0.0, 0.5]), seed=SEEDS)
def test_rotation_always_leaves_keys_that_work(model: Model, crashes: float, seed: Any) -> None:
    check_rotation(model, 60, crashes, seed)


@pytest.mark.deep
@settings(parent=LIMITS, max_examples=max(DEEP // 25, 1))
@given(model=rotations(), crashes=st.sampled_from([0.0, 0.3, 0.7]), seed=SEEDS)
def test_rotation_always_leaves_keys_that_work_for_400_days(model: Model, crashes: float, seed: Any) -> None:
    check_rotation(model, 400, crashes, seed)


@given(minutes=st.floats(-600, 600))
def test_a_clock_that_is_wrong_by_more_than_ten_minutes_stops_it(minutes: float) -> None:
    model = Model(roster_of({"alias": "team-a", "rotate": {"every": "90d", "grace": "7d"}}))
    model.add("team-a", age=timedelta(days=1))
    model.skew = timedelta(minutes=minutes)
    seen = model.look()
    if abs(minutes) <= 10:
        check_time(model.roster, seen.accounts, model.now.timestamp(), seen.now)
    else:
        with pytest.raises(ClockDisagrees):
            check_time(model.roster, seen.accounts, model.now.timestamp(), seen.now)
