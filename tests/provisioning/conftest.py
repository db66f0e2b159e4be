"""Each test has caches, locks and an environment of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import isolated

from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.simulator import Simulator

__all__ = ["isolated"]


@pytest.fixture
def sim(closeai_simulator: Simulator) -> Simulator:
    return closeai_simulator


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Clock]:
    """Go to another host: other locks, notes and caches, and a counter of its own."""

    def go(name: str) -> Clock:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        return Clock(counter=name)

    return go
