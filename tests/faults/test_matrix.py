"""The fault matrix: every cell keeps the promises, and is what docs/recovery.md says of it."""

from __future__ import annotations

import functools

import pytest
from fault_matrix import BEGIN, CELLS, DOCUMENT, STALE, Cell, Row, parse, run_cell, updated


@functools.cache
def documented() -> dict[str, Row]:
    return parse(DOCUMENT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_each_fault_costs_what_the_document_says_and_nothing_more(cell: Cell) -> None:
    assert run_cell(cell) == documented().get(cell.name), STALE


def test_the_document_is_what_its_rows_come_to() -> None:
    assert list(documented()) == sorted(documented(), key=_by_call), STALE
    assert documented().keys() == {cell.name for cell in CELLS}, STALE
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == updated(text, documented().values()), STALE


def test_the_check_of_the_document_can_fail() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    changed = text.replace("| 3 of 3 |", "| 4 of 3 |", 1)
    assert parse(changed) != parse(text)
    assert text.count(BEGIN) == 1


def _by_call(name: str) -> int:
    order = list(dict.fromkeys(cell.call for cell in CELLS))
    return order.index(next(cell.call for cell in CELLS if cell.name == name))
