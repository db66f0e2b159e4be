"""The roster's examples in a row: keys in a secrets backend, a team that uses one, its costs in a report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, run
from test_example_dags import FOLDER, load

from airflow_provider_closeai.simulator import Simulator

KEYS = "airflow/connections/openai-"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve AWS Secrets Manager, to the sink as a connection and to Airflow as its secrets backend."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60)
    place = {"endpoint_url": f"http://{host}:{port}", "region_name": "eu-central-1"}
    connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": place}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    yield boto3.client("secretsmanager", **place)
    server.stop()


@pytest.fixture
def served(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's own backend serve the connections of this store, as the configuration would."""
    backend = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
    options = {
        "endpoint_url": aws.meta.endpoint_url,
        "region_name": "eu-central-1",
        "connections_lookup_pattern": "^openai-",
        "variables_prefix": None,
    }
    for section in ("SECRETS__BACKEND", "WORKERS__SECRETS_BACKEND"):
        monkeypatch.setenv(f"AIRFLOW__{section}", backend)
        monkeypatch.setenv(f"AIRFLOW__{section}_KWARGS", json.dumps(options))


def run_example(dag_id: str) -> Any:
    return run(load(dag_id), {})


@pytest.mark.skipif(
    AIRFLOW < (3, 3), reason="older ones read which secrets backend there is once in a process"
)
def test_from_the_roster_to_the_report(
    sim: Simulator, served: None, aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = tmp_path / "costs"
    monkeypatch.setenv("CLOSEAI_COSTS", str(costs))
    sim.clock.set(datetime.now(UTC) + timedelta(seconds=1))

    done = run_example("closeai_roster_sync")
    assert done.state == "success"
    assert done.result("sync")["counts"]["created"] == 11
    names = {secret["Name"] for secret in aws.list_secrets(MaxResults=100)["SecretList"]}
    assert {f"{KEYS}team-search", f"{KEYS}_x4EA7__x54C1_-_x63A8__x8350_"} <= names
    assert len(names) == 11
    for account in sim.accounts():
        sim.set_rate(account["id"], 0)

    assert run_example("closeai_team_assistant").result("ask") == "What does our page about returns say?"
    [paid] = [account for account in sim.accounts() if account["monthly_cost"] != "0"]
    assert paid["alias"] == "team-search"

    assert run_example("closeai_roster_sync").result("sync")["counts"]["delivered"] == 0
    from airflow_provider_closeai.costs import ReportRequest, report

    roster = FOLDER / "closeai_roster.yaml"
    request = ReportRequest.parse(
        ledger=costs / "ledger",
        month="latest",
        currency="CNY",
        output=tmp_path,
        owners=roster,
        budgets=roster,
    )
    built = report(request).report
    spent = {line.owner.team: line.month_to_date for line in built.owners}
    assert f"{spent['Search']:f}" == paid["monthly_cost"]
    budgets = {line.team: line.budget for line in built.budgets}
    assert (budgets["Search"], budgets["推荐"]) == (Decimal(750), Decimal(500))


def test_the_drift_check_names_what_somebody_changed(
    sim: Simulator, aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOSEAI_COSTS", str(tmp_path / "costs"))
    sim.clock.set(datetime.now(UTC) + timedelta(seconds=1))
    assert run_example("closeai_roster_sync").state == "success"
    assert run_example("closeai_roster_drift").state == "success"
    sim.add_account("team-by-hand")
    assert run_example("closeai_roster_drift").state == "failed"


@pytest.mark.parametrize(
    "dag_id",
    ["closeai_roster_sync", "closeai_roster_drift", "closeai_team_assistant", "closeai_roster_approved"],
)
def test_it_says_what_it_is_for(database: None, dag_id: str) -> None:
    if dag_id == "closeai_roster_approved" and AIRFLOW < (3, 1):
        pytest.skip("approvals came with 3.1")
    dag = load(dag_id)
    assert dag.doc_md
    assert {"closeai", "example"} <= set(dag.tags)
    assert not dag.catchup
