"""Random work under random trouble: the promises hold, whatever the sequence."""

from __future__ import annotations

import os
from typing import Any

import pytest
from fault_machine import DeploymentMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,  # the same examples on every machine
    "print_blob": True,
    "stateful_step_count": 5,
    "suppress_health_check": list(HealthCheck),
}
DEEP = int(os.environ.get("CLOSEAI_DEEP_EXAMPLES", "2500"))


@pytest.mark.parametrize(
    ("part", "number"), [(0, 15), *(pytest.param(part, 40, marks=pytest.mark.slow) for part in (1, 2))]
)
def test_the_promises_hold_whatever_happens(part: int, number: int) -> None:
    machine = type(f"Part{part}", (DeploymentMachine,), {})  # other names, other examples
    run_state_machine_as_test(machine, settings=settings(derandomize=True, max_examples=number, **_COMMON))


@pytest.mark.deep
@pytest.mark.parametrize("part", range(4))
def test_the_promises_hold_for_a_night(part: int) -> None:
    machine = type(f"Night{part}", (DeploymentMachine,), {})
    run_state_machine_as_test(machine, settings=settings(max_examples=DEEP // 4, **_COMMON))
