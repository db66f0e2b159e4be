"""Each test has caches, locks and an environment of its own."""

from __future__ import annotations

import pytest
from shared_names import host
from support import isolated

from airflow_provider_closeai.simulator import Simulator

__all__ = ["host", "isolated"]


@pytest.fixture
def sim(closeai_simulator: Simulator) -> Simulator:
    return closeai_simulator
