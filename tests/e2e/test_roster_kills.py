"""A roster whose task is killed (SIGKILL) at each kind of call, under a real scheduler: every try goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet
from deployment import Deployment, running
from hunt import Hunt
from platforms import Platform
from test_rotation import kill_at
from worlds import needs_airflow

pytestmark = needs_airflow(3, why="Airflow 2 has no LocalExecutor on SQLite")
ROSTER = """version: 1
owns: ["team-*"]
defaults: {balance: 1, model_pricing: {gpt-4: 1}}
accounts:
  - {alias: team-a, count: 2}
  - {alias: team-b}
  - {alias: team-c}
"""


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform("sync", start=datetime.now(UTC), speed=1)
    with platform.simulator:
        yield platform


@pytest.fixture
def airflow(platform: Platform) -> Iterator[Deployment]:
    key = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    environment = {**platform.environment, "AIRFLOW_CONN_FILE_KEY": json.dumps(key)}
    with running(environment, "e2e_sync.py") as airflow:
        (airflow.home / "roster.yaml").write_text(ROSTER)
        yield airflow


def test_a_roster_that_is_killed_at_each_call_is_so_in_the_end(
    airflow: Deployment, platform: Platform
) -> None:
    sim = platform.simulator
    old, drifted = sim.add_account("team-old"), sim.add_account("team-a")
    killed = kill_at(
        airflow, platform, ("list", 0), ("update", 0), ("delete", 0), ("create", 0), ("create", 2)
    )
    run = airflow.trigger("e2e_sync")
    assert run.ended() == "success", run.log("sync", 6)
    assert len(killed) == 5
    assert sorted(account["alias"] for account in sim.accounts()) == ["team-a", "team-a", "team-b", "team-c"]
    assert (platform.made("team-a"), platform.made("team-b"), platform.made("team-c")) == (1, 1, 1)
    assert all(account["model_pricing"][0]["model"] == "gpt-4" for account in sim.accounts())
    files = {path.name for path in (airflow.home / "keys").iterdir()}
    assert files >= {f"sub-account-{account['id']}.fernet" for account in sim.accounts()}
    assert list((airflow.home / "ledger" / "deleted").rglob("*.csv")), "last costs are not in the ledger"
    assert not platform.problems
    assert {old["id"], drifted["id"]} & {account["id"] for account in sim.accounts()} == {drifted["id"]}
    assert not Hunt(airflow, platform.secrets).run()
