"""Ledgers written by hand, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from books import Book, Clock

from airflow_provider_closeai.operators import _runs
from airflow_provider_closeai.simulator import Simulator


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_runs, "now", clock)
    return clock


@pytest.fixture
def book(tmp_path: Path, clock: Clock) -> Book:
    return Book(tmp_path / "ledger", clock)


@pytest.fixture
def new_book(tmp_path: Path, clock: Clock) -> Callable[[str], Book]:
    return lambda name: Book(tmp_path / name, clock)


@pytest.fixture
def sim(closeai_connection: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Give the platform behind the connection, with one account; the host's notes are the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    closeai_connection.add_account("search.web", monthly_cost="12.00000001")
    return closeai_connection
