"""
The fault matrix: each cell keeps its promises (``fault_matrix.py``) and sends what ``wire_traces.txt`` says.

Where a trace changes and is meant to, ``python scripts/renew_traces.py`` writes the file anew: read its diff.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_kinds import CELLS, FAULTS, Cell, Proof
from fault_matrix import TRACES, run_cell

STALE = "a trace changed; if that is meant: python scripts/renew_traces.py, and read its diff"
DOCUMENT = Path(__file__).parents[2] / "docs/recovery.md"


@functools.cache
def golden() -> dict[str, list[str]]:
    """Return each cell's line, in parts, by its name."""
    lines = TRACES.read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if not line.startswith("#")]
    return {name: [name, *parts] for name, *parts in rows}


def cells() -> Iterator[Any]:
    """Of a fault in a call one cell is quick, each place and time in turn, but of each third none is."""
    for number, (_, group) in enumerate(itertools.groupby(CELLS, key=lambda cell: (cell.fault, cell.call))):
        alike = list(group)
        for index, cell in enumerate(alike):
            is_quick = number % 3 != 1 and index == number % len(alike)
            yield pytest.param(cell, id=cell.name, marks=() if is_quick else pytest.mark.slow)


@pytest.mark.parametrize("cell", cells())
def test_each_fault_keeps_the_promises(cell: Cell) -> None:
    assert run_cell(cell).split(" | ") == golden().get(cell.name), STALE


def test_the_traces_are_of_these_cells() -> None:
    assert list(golden()) == [cell.name for cell in CELLS], STALE


@pytest.mark.parametrize("proof", Proof)
def test_the_document_has_the_longest_waits(proof: Proof) -> None:
    table = [line.split(" | ") for line in DOCUMENT.read_text(encoding="utf-8").splitlines()]
    [row] = [row for row in table if row[0] == f"| {proof.value}"]
    mine = [golden()[cell.name] for cell in CELLS if FAULTS[cell.fault].proof is proof]
    longest = [max((parts[at] for parts in mine), key=lambda wait: int(wait.split()[0])) for at in (1, 3)]
    assert row[3:5] == longest, f"{DOCUMENT.name}: the try waits {longest[0]}, its retry {longest[1]}"
