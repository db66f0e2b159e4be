"""Fixtures to test against CloseAI without an account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_closeai.simulator.core import Simulator


@pytest.fixture
def closeai_simulator() -> Iterator[Simulator]:
    """Yield a started simulator."""
    from airflow_provider_closeai.simulator.core import Simulator

    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def closeai_connection(closeai_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Return a started simulator, to which the connection ``closeai_default`` leads."""
    connection = json.dumps(closeai_simulator.connection())
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", connection)
    return closeai_simulator
