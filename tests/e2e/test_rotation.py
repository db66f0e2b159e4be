"""A rotation whose task is killed (SIGKILL) at each step, under a real scheduler: every try goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from deployment import HANG, Deployment, running
from platforms import Platform
from worlds import needs_airflow

from airflow_provider_closeai.simulator import Request

ALIAS = "team-search"
WEEK = 8 * 24 * 3600.0  # and a day: longer than grace

pytestmark = needs_airflow(3, why="Airflow 2 has no LocalExecutor on SQLite")


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform("rotate", start=datetime.now(UTC), speed=1)
    with platform.simulator:
        yield platform


@pytest.fixture
def airflow(platform: Platform) -> Iterator[Deployment]:
    key = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    environment = {**platform.environment, "AIRFLOW_CONN_FILE_KEY": json.dumps(key)}
    with running(environment, "e2e_rotate.py") as airflow:
        yield airflow


def kill_at(airflow: Deployment, platform: Platform, *requests: tuple[str, int]) -> list[int]:
    """Kill the task's process while these requests of it are under way: (call, how many of them before)."""
    killed: list[int] = []
    before = {call: len(platform.requests(call)) for call, _ in requests}

    def strike(request: Request) -> None:
        number = len(platform.requests(request.call)) - before.get(request.call, 0) - 1
        if (request.call, number) in requests:
            process = airflow.client_of(platform.base_ports)
            process.kill()
            process.wait(HANG)
            killed.append(process.pid)

    platform.script = strike
    return killed


def test_a_rotation_that_is_killed_at_each_step_goes_on(airflow: Deployment, platform: Platform) -> None:
    sim = platform.simulator
    now = datetime.now(UTC)
    for _ in range(2):
        sim.add_account(ALIAS, created_at=now - timedelta(days=100))

    # The create is sent, and worked on while nobody waits; then all is there, and not delivered.
    killed = kill_at(airflow, platform, ("list", 0), ("create", 0), ("list", 3))
    run = airflow.trigger("e2e_rotate")
    assert run.ended() == "success", run.log("rotate", 4)
    assert (len(killed), run.outcome("rotate")) == (3, "success 4")
    assert [account["id"] for account in sim.accounts(ALIAS)] == [1, 2, 3, 4]
    assert platform.made(ALIAS) == 2
    result = run.xcom("rotate")
    files = {record["id"]: record["delivered_to"] for record in result["sub_accounts"]}
    assert sorted(files) == [1, 2, 3, 4]
    assert all(Path(path).exists() for path in files.values())

    # A week later: the old ones go. The delete is sent; then they are gone, and nobody has read it back.
    for number in (3, 4):
        sim.spoil(number, "created_at", json.dumps((now - timedelta(seconds=WEEK)).isoformat()))
    for path in files.values():
        os.utime(path, (time.time() - WEEK,) * 2)
    killed = kill_at(airflow, platform, ("delete", 0))
    run = airflow.trigger("e2e_rotate")
    assert run.ended() == "success", run.log("rotate", 2)
    assert (len(killed), run.outcome("rotate")) == (1, "success 2")
    assert [account["id"] for account in sim.accounts(ALIAS)] == [3, 4]
    assert run.xcom("rotate")["created"] == []
    assert not platform.problems
    logs = run.log("rotate", 1) + run.log("rotate", 2)
    assert not [secret for secret in platform.secrets if secret in logs]
