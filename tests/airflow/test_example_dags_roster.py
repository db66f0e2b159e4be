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
from aws_standin import Aws
from test_example_dags import FOLDER, load

from airflow_provider_closeai.roster import read_roster
from airflow_provider_closeai.simulator import Simulator

KEYS = "airflow/connections/openai-"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    aws = Aws()
    aws.start()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws.connection())
    yield aws
    aws.stop()


@pytest.fixture
def served(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's own backend serve the connections of this store, as the configuration would."""
    for name, text in aws.secrets_backend().items():
        monkeypatch.setenv(name, text)


def run_example(dag_id: str) -> Any:
    return run(load(dag_id), {})


@pytest.mark.skipif(
    AIRFLOW < (3, 3), reason="older ones read which secrets backend there is once in a process"
)
def test_from_the_roster_to_the_report(
    sim: Simulator, served: None, aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = tmp_path / "costs"
    monkeypatch.setenv("CLOSEAI_COSTS", str(costs))
    sim.clock.set(datetime.now(UTC) + timedelta(seconds=1))

    done = run_example("closeai_roster_sync")
    assert done.state == "success"
    assert done.result("sync")["counts"]["created"] == 11
    names = {
        secret["Name"] for secret in aws.client("secretsmanager").list_secrets(MaxResults=100)["SecretList"]
    }
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
    budgets = {line.owner.team: line.budget for line in built.budgets}
    assert (budgets["Search"], budgets["推荐"]) == (Decimal(750), Decimal(500))


@pytest.mark.slow  # tests/e2e/test_roster_days.py has it under a real scheduler
def test_the_drift_check_names_what_somebody_changed(
    sim: Simulator, aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOSEAI_COSTS", str(tmp_path / "costs"))
    sim.clock.set(datetime.now(UTC) + timedelta(seconds=1))
    assert run_example("closeai_roster_sync").state == "success"
    assert run_example("closeai_roster_drift").state == "success"
    sim.add_account("team-by-hand")
    assert run_example("closeai_roster_drift").state == "failed"


@pytest.mark.slow
def test_a_generation_of_keys_goes_within_the_examples_bounds(
    sim: Simulator, aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aliases that were made together are due together: they take turns, and no run is refused."""
    monkeypatch.setenv("CLOSEAI_COSTS", str(tmp_path / "costs"))
    now = datetime.now(UTC)
    sim.clock.set(now)
    aliases = read_roster(FOLDER / "closeai_roster.yaml").entries
    for days in (97, 8):
        for alias in aliases:
            sim.add_account(alias, created_at=now - timedelta(days=days))
    first = run_example("closeai_roster_sync").result("sync")["counts"]
    assert (first["delivered"], first["deleted"]) == (11, 0)

    secrets = aws.client("secretsmanager")
    for secret in secrets.list_secrets(MaxResults=100)["SecretList"]:
        kept = json.loads(secrets.get_secret_value(SecretId=secret["Name"])["SecretString"])
        kept["extra"]["closeai"]["since"] = (now - timedelta(days=8)).isoformat()
        secrets.put_secret_value(SecretId=secret["Name"], SecretString=json.dumps(kept))
    gone: list[int] = []
    while sum(gone) < 11:
        done = run_example("closeai_roster_sync")
        assert done.state == "success"
        gone.append(done.result("sync")["counts"]["deleted"])
    assert gone == [5, 4, 2], "20 % of what is there, each time"


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
