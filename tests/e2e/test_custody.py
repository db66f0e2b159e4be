"""A team's DAG works on while its key is rotated: it names a connection, and never a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aws_standin import Aws
from deployment import Deployment, running, wait_until
from platforms import Platform
from worlds import needs_airflow

ALIAS = "team-search"
SECRET = f"airflow/connections/openai-{ALIAS}"
WEEK = timedelta(days=8)  # and a day: longer than grace

pytestmark = needs_airflow(3, why="Airflow 2 has no LocalExecutor on SQLite")


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform("custody", start=datetime.now(UTC), speed=1)
    with platform.simulator:
        yield platform


@pytest.fixture
def aws() -> Iterator[Aws]:
    aws = Aws()
    aws.start()
    yield aws
    aws.stop()


@pytest.fixture
def airflow(platform: Platform, aws: Aws) -> Iterator[Deployment]:
    environment = {
        **platform.environment,
        "AIRFLOW_CONN_AWS_DEFAULT": aws.connection(),
        **aws.secrets_backend(),
    }
    with running(environment, "e2e_custody.py") as airflow:
        yield airflow


def test_a_team_works_on_while_its_key_is_rotated(airflow: Deployment, platform: Platform, aws: Aws) -> None:
    sim, now = platform.simulator, datetime.now(UTC)
    secrets = aws.client("secretsmanager")

    def connection() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(secrets.get_secret_value(SecretId=SECRET)["SecretString"])
        return found

    logs: list[str] = []

    def sync() -> Any:
        run = airflow.trigger("e2e_custody")
        assert run.ended() == "success", run.log("sync", 1)
        logs.append(run.log("sync", 1))
        return run.xcom("sync")["counts"]

    def calls() -> int:
        file = airflow.home / "calls"
        return int(file.read_text() or 0) if file.exists() else 0

    def spent() -> dict[int, bool]:
        return {account["id"]: account["monthly_cost"] != "0" for account in sim.accounts(ALIAS)}

    # A key that is old already, and that no secret holds.
    sim.add_account(ALIAS, [{"model": "gpt-4o", "pricing_factor": 2}], created_at=now - timedelta(days=60))
    sim.set_rate(1, 0)
    assert sync()["delivered"] == 1
    assert connection()["host"] == sim.base_urls[0] + "/v1"
    team = airflow.trigger("e2e_team")
    wait_until(lambda: calls() > 2, "the team's DAG asks the model")

    # 40 days later it is old: a new one is made and delivered beside it, and the team has it at once.
    sim.spoil(1, "created_at", json.dumps((now - timedelta(days=100)).isoformat()))
    counts = sync()
    assert (counts["created"], counts["deleted"]) == (1, 0)
    sim.set_rate(2, 0)
    wait_until(lambda: spent().get(2), "the team uses the new key")

    # More than grace later the old one goes.
    sim.spoil(2, "created_at", json.dumps((now - WEEK).isoformat()))
    kept = connection()
    kept["extra"]["closeai"]["since"] = (now - WEEK).isoformat()
    secrets.put_secret_value(SecretId=SECRET, SecretString=json.dumps(kept))
    counts = sync()
    assert (counts["created"], counts["deleted"]) == (0, 1)
    assert [account["id"] for account in sim.accounts(ALIAS)] == [2]

    before = calls()
    wait_until(lambda: calls() > before + 2, "the team works on")
    (airflow.home / "enough").touch()
    assert team.ended() == "success", team.log("work", 1)
    chats = platform.requests("chat")
    assert {request.status for request in chats} == {200}
    assert team.xcom("work") == len(chats) == calls()
    # The team's log is Airflow's own matter: at DEBUG, botocore writes what the secrets backend reads.
    assert not [secret for secret in platform.secrets if secret in "".join(logs)]
