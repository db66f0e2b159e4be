"""Bounds stop what the roster asks for by mistake; what rotation does by itself keeps within them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roster_model import START, Model, roster_of

from airflow_provider_closeai.provisioning.errors import TooManySelected
from airflow_provider_closeai.roster import Plan, PlanRefused, read_roster
from airflow_provider_closeai.roster.checks import refusal
from airflow_provider_closeai.roster.plan import CREATE, DELETE

ROTATE = {"every": "90d", "grace": "7d"}


def fleet(number: int, *ages: float, **options: Any) -> Model:
    """Make a fleet of rotating aliases, each with accounts of these ages; the last alias's are the oldest."""
    model = Model(roster_of(*[{"alias": f"team-{each:02}", "rotate": ROTATE} for each in range(number)]))
    model.options = options
    for each in range(number):
        for age in ages:
            account = model.add(
                f"team-{each:02}", {"m": Decimal(1)}, age=timedelta(days=age, hours=each), was_there=True
            )
            account.held = account.created
    return model


def changed(plan: Plan, kind: str) -> list[str]:
    assert refusal(plan) is None
    return [action.alias for action in plan.actions if action.kind == kind for _ in range(action.accounts)]


def notes(plan: Plan) -> str:
    return "\n".join(note.text for note in plan.notes)


def test_successors_beyond_max_create_come_in_the_next_runs_oldest_first() -> None:
    model = fleet(5, 92, max_create=2)
    done = []
    for waiting in ("3 old keys get their successors in the next runs", "1 old keys", ""):
        plan = model.run()
        assert waiting in notes(plan)
        assert bool(waiting) == bool(notes(plan))
        done.append(changed(plan, CREATE))
        model.settle()
    assert done == [["team-03", "team-04"], ["team-01", "team-02"], ["team-00"]]
    assert model.plan().actions == ()


def test_replaced_keys_beyond_max_delete_go_in_the_next_runs_oldest_first() -> None:
    model = fleet(5, 98, 8, max_delete="20%")
    done = []
    for waiting in ("3 keys that were replaced go in the next runs", "1 keys", ""):
        plan = model.run()
        assert waiting in notes(plan)
        assert bool(waiting) == bool(notes(plan))
        done.append(changed(plan, DELETE))
        model.settle()
        model.options["max_delete"] = 2
    assert done == [["team-03", "team-04"], ["team-01", "team-02"], ["team-00"]]
    assert model.plan().actions == ()


def test_what_the_roster_asks_for_comes_first() -> None:
    model = fleet(4, 98, 8, max_create=3, max_delete=3, prune=True)
    for name in ("team-99", "team-98"):
        model.add(name)
    old = [{"alias": f"team-{each:02}", "rotate": ROTATE} for each in range(4)]
    model.roster = roster_of(*old, {"alias": "team-new", "count": 2})
    plan = model.plan()
    assert changed(plan, DELETE) == ["team-03", "team-98", "team-99"]
    assert changed(plan, CREATE) == ["team-new"] * 2
    late = fleet(3, 92, max_create=3)
    rotating: list[dict[str, Any]] = [{"alias": f"team-{each:02}", "rotate": ROTATE} for each in range(3)]
    rotating[0]["count"] = 3
    late.roster = roster_of(*rotating)
    assert changed(late.plan(), CREATE) == ["team-00", "team-00", "team-02"], "a higher count is asked for"


def test_a_key_that_waits_for_its_budget_takes_nobodys_turn() -> None:
    model = fleet(2, 92, max_create=1)
    poor = {"alias": "team-01", "rotate": ROTATE, "budget": 1, "over_budget": {}}
    model.roster = roster_of({"alias": "team-00", "rotate": ROTATE}, poor)
    model.spent = {"team-01": Decimal(5)}
    assert changed(model.plan(), CREATE) == ["team-00"]


def test_only_what_is_asked_for_exceeds_a_bound_and_the_refusal_says_what_to_do() -> None:
    model = fleet(3, 98, 8, 1, max_create=0, max_delete=0)
    assert changed(model.plan(), DELETE) == []
    model.options = {"max_create": 1, "max_delete": 1, "prune": True}
    model.roster = roster_of({"alias": "team-new", "count": 2})
    refused = refusal(model.plan())
    assert isinstance(refused, TooManySelected)
    assert "run it once with max_delete=9 (docs/roster.md); if not, correct the roster" in str(refused)
    model.options["prune"] = False
    refused = refusal(model.plan())
    assert isinstance(refused, PlanRefused)
    assert "run it once with max_create=2 (docs/roster.md); if not, correct the roster" in str(refused)


def test_what_was_held_back_for_a_successor_goes_only_within_max_delete() -> None:
    """The sink cannot say since when, and a new team takes the room that the successors waited for."""
    pair = {"rotate": ROTATE, "count": 2}
    model = fleet(3, 97, 90, 8, max_create=2, max_delete=1)
    model.is_dated = False
    old = [{"alias": f"team-{each:02}", **pair} for each in range(3)]
    model.roster = roster_of(*old, {"alias": "team-new", "count": 2})
    plan = model.run()
    assert changed(plan, CREATE) == ["team-new"] * 2
    assert changed(plan, DELETE) == ["team-02"]


def test_a_refusal_says_what_the_deletions_are() -> None:
    model = fleet(1, 1, max_delete=1, prune=True)
    ended = {"alias": "team-00", "expires": START.isoformat()}
    model.roster = roster_of(ended)
    model.add("team-98")
    assert "deletes 2 sub-accounts (1 expired, 1 pruned), and max_delete is 1: ids [1, 2]" in str(
        refusal(model.plan())
    )


def test_a_budget_that_cuts_nothing_is_told() -> None:
    limits = {"budget": 5, "over_budget": {"m": "1.0"}}
    model = Model(roster_of({"alias": "team-a", **limits}, {"alias": "team-b", "budget": 5}))
    assert "over_budget has the same prices as model_pricing, so the budget holds nothing" in notes(
        model.plan()
    )
    limits["over_budget"] = {"m": 2}
    model.roster = roster_of({"alias": "team-a", **limits})
    assert notes(model.plan()) == ""


def test_of_a_surplus_it_is_told_what_becomes_of_it() -> None:
    model = fleet(1, 20, 10)
    assert "1 are wanted: ids [1, 2]. Rotation deletes what is too much as it becomes old." in notes(
        model.plan()
    )
    model.roster = roster_of({"alias": "team-00"})
    assert "1 are wanted: ids [1, 2]. None is deleted: nobody knows which are in use" in notes(model.plan())


def test_each_budget_of_the_example_cuts() -> None:
    path = Path(__file__).parents[2] / "example_dags" / "closeai_roster.yaml"
    assert "holds nothing" not in notes(Model(read_roster(path), now=START - timedelta(days=99)).plan())


@pytest.mark.parametrize("bound", [1, 3, 7])
def test_a_fleet_that_was_made_together_is_renewed_whatever_the_bounds(bound: int) -> None:
    """Runs were missed when it came of age: all at once would exceed them, in every run from then on."""
    model = fleet(20, 120, max_create=bound, max_delete=bound)
    for _ in range(12 * 24):
        plan = model.run()
        assert refusal(plan) is None
        model.now += timedelta(hours=1)
    assert len(model.there()) == 20
    assert all(model.now - each.created < timedelta(days=90) for each in model.there())
    assert max(plan.counts.values()) <= bound


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=5),
    bounds=st.tuples(*[st.sampled_from([1, 2, 3, None])] * 2),
    share=st.sampled_from(["10%", "50%", "100%"]),
    is_dated=st.booleans(),
    seed=st.randoms(use_true_random=False),
)
def test_rotation_alone_is_never_refused_and_no_key_gets_much_older_than_every(
    counts: list[int], bounds: tuple[int | None, int | None], share: str, is_dated: bool, seed: Any
) -> None:
    rotate = {**ROTATE, "max_rotate": share}
    entries: list[dict[str, Any]] = [
        {"alias": f"team-{each:02}", "count": count, "rotate": rotate} for each, count in enumerate(counts)
    ]
    model = Model(roster_of(*entries), is_dated=is_dated)
    model.options = dict(zip(("max_create", "max_delete"), bounds, strict=True))
    for entry in entries:
        for _ in range(entry["count"]):
            account = model.add(entry["alias"], {"m": Decimal(1)}, age=timedelta(days=seed.randint(0, 88)))
            account.held = account.created
    for _ in range(150):
        plan = model.run()
        assert refusal(plan) is None
        for kind, bound in zip((CREATE, DELETE), bounds, strict=True):
            assert bound is None or plan.counts[kind] <= bound
        for entry in entries:
            assert entry["count"] <= len(model.there(entry["alias"])) <= 2 * entry["count"]
        model.now += timedelta(days=1)
        assert all(model.now - each.created < timedelta(days=90 + 7 + 28) for each in model.there())
