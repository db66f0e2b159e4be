"""Two hosts that share a platform and a store of names: exact over random schedules."""

from __future__ import annotations

import pytest
from fault_hosts import run_merges, run_rosters, run_schedule

PARTS = [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))]  # of the seeds


@pytest.mark.parametrize("part", PARTS)
def test_two_hosts_are_exact_whatever_the_schedule(part: int) -> None:
    for seed in range(5 * part, 5 * part + 5):
        outcome = run_schedule(seed, guarded=True)
        assert not outcome.is_wrong, f"seed {seed}: {outcome}"


def test_without_the_lock_and_the_rule_schedules_do_go_wrong() -> None:
    assert sum(run_schedule(seed, guarded=False).is_wrong for seed in range(10)) >= 2


@pytest.mark.parametrize("part", PARTS)
def test_two_hosts_lose_no_merge_whatever_the_schedule(part: int) -> None:
    for seed in range(5 * part, 5 * part + 5):
        outcome = run_merges(seed, guarded=True)
        assert not outcome.is_wrong, f"seed {seed}: {outcome}"


def test_without_the_lock_merges_are_lost() -> None:
    assert sum(run_merges(seed, guarded=False).is_wrong for seed in range(12)) >= 2


@pytest.mark.parametrize("part", PARTS)
def test_two_rosters_of_two_hosts_become_so_whatever_the_schedule(part: int) -> None:
    """Some of these listed without a pause, and so for ever."""
    for seed in range(60 + 3 * part, 63 + 3 * part):
        assert run_rosters(seed) == [], f"seed {seed}"


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_two_hosts_are_exact_over_a_thousand_schedules(part: int) -> None:
    wrong = [
        seed for seed in range(100 * part, 100 * part + 100) if run_schedule(seed, guarded=True).is_wrong
    ]
    assert wrong == []


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_two_hosts_lose_no_merge_over_a_thousand_schedules(part: int) -> None:
    wrong = [seed for seed in range(100 * part, 100 * part + 100) if run_merges(seed, guarded=True).is_wrong]
    assert wrong == []
