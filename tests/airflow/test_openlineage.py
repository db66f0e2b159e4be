"""OpenLineage: the provider's own listener tells of ledgers and reports as one dataset each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import python

from airflow_provider_closeai.operators._assets import lineage
from airflow_provider_closeai.simulator import Simulator

RUN = """
import sys
from airflow.providers.common.compat.sdk import DAG, timezone
from airflow_cell import run
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator

folder = sys.argv[1]
with DAG("lineage", schedule=None, catchup=False, start_date=timezone.datetime(2026, 1, 1)) as dag:
    SnapshotCostsOperator(task_id="snapshot", ledger=f"{folder}/{{{{ 'ledger' }}}}") >> CostReportOperator(
        task_id="report",
        ledger=f"{folder}/ledger",
        month="latest",
        output=f"{folder}/reports",
        currency="CNY",
    )
assert run(dag).state == "success"
"""


@pytest.mark.slow  # the listener is OpenLineage's own
def test_the_listener_tells_of_the_folders(sim: Simulator, tmp_path: Path) -> None:
    sim.add_account("team-a", monthly_cost="1")
    told = tmp_path / "told"
    transport = json.dumps({"type": "file", "log_file_path": str(told), "append": True})
    script = tmp_path / "lineage.py"
    script.write_text(RUN)
    done = python(
        str(script),
        str(tmp_path),
        PYTHONPATH=str(Path(__file__).parent),
        AIRFLOW__OPENLINEAGE__TRANSPORT=transport,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in told.read_text().splitlines()]
    ended = {
        event["job"]["name"]: tuple(names(event[side]) for side in ("inputs", "outputs"))
        for event in events
        if event["eventType"] == "COMPLETE"
    }
    ledger, reports = ("file", f"{tmp_path}/ledger"), ("file", f"{tmp_path}/reports")
    assert ended["lineage.snapshot"] == ([], [ledger])
    assert ended["lineage.report"] == ([ledger], [reports])
    assert sim.key not in told.read_text()


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["namespace"], each["name"]) for each in datasets]


@pytest.mark.parametrize(
    ("folder", "dataset"),
    [
        ("/data/x/", ("file", "/data/x")),
        ("file:///data/x", ("file", "/data/x")),
        ("data/x", ("file", str(Path("data/x").absolute()))),
        ("~/x", ("file", str(Path("~/x").expanduser()))),
        ("s3://aws_default@finance/closeai/ledger/", ("s3://finance", "closeai/ledger")),
        ("gs://finance/költségek", ("gs://finance", "költségek")),
        ("s3://finance", ("s3://finance", "/")),
    ],
)
def test_folders_have_the_names_of_openlineage(folder: str, dataset: tuple[str, str]) -> None:
    (found,) = lineage(outputs=[folder]).outputs
    assert (found.namespace, found.name) == dataset


@pytest.mark.parametrize("folder", [None, "", " ", "{{ params.ledger }}", 5])
def test_what_a_failed_task_has_not_rendered_is_no_dataset(folder: Any) -> None:
    assert lineage(inputs=[folder], outputs=[folder, "/data"]) == lineage(outputs=["/data"])
