"""Watchers in a real Airflow: a base goes and comes back, a team spends its budget, a triggerer is killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from airflow import __version__
from deployment import Deployment, end_kept, running, wait_until
from hunt import Hunt
from platforms import Platform
from worlds import needs_airflow

from airflow_provider_closeai.costs import Ledger
from airflow_provider_closeai.costs.accounting.alerts import Alert
from airflow_provider_closeai.costs.store.booked import mark_reported

pytestmark = needs_airflow(3, why="AssetWatcher is of Airflow 3")
SECONDS_UNTIL_DEAD = 20  # without a heartbeat


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform("events", extra={"health_ttl": 1, "discovery_ttl": 1})
    with platform.simulator:
        yield platform


@pytest.fixture
def airflow(platform: Platform) -> Iterator[Deployment]:
    environment = {
        **platform.environment,
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(SECONDS_UNTIL_DEAD),
    }
    with running(environment, "e2e_watchers.py") as airflow:
        yield airflow


def test_each_change_starts_one_run(airflow: Deployment, platform: Platform) -> None:
    sim = platform.simulator
    first, second = sim.base_urls

    def told() -> dict[str, list[Any]]:
        """Give what the runs of each DAG were told, in the order of the runs."""
        runs = sorted(airflow.get("dags/~/dagRuns?limit=1000")["dag_runs"], key=lambda run: run["run_after"])
        found: dict[str, list[Any]] = {"base": [], "base_at_once": [], "alerts": []}
        for each in airflow.runs():
            assert each.ended() == "success", each.log("tell", 1)
        by_id = {(run.dag_id, run.run_id): run for run in airflow.runs()}
        for run in runs:
            payloads = by_id[run["dag_id"], run["dag_run_id"]].xcom("tell")
            found[run["dag_id"].removeprefix("e2e_")] += payloads
        return found

    def notes() -> dict[str, str]:
        found = airflow.get("variables?limit=1000")["variables"]
        return {each["key"]: each["value"] for each in found if each["key"].startswith("closeai_event_")}

    def wait_for_notes(base: str) -> None:
        text = json.dumps({"base": base})
        wait_until(lambda: list(notes().values()).count(text) == 2, f"both watchers note {base}")

    def change(base: str, previous: str) -> dict[str, str]:
        return {"closeai_conn_id": "events", "base": base, "previous": previous}

    # Nothing is told of what is so at the beginning.
    wait_for_notes(first)
    wait_until(lambda: len(notes()) == 3, "the ledger's watcher notes that nothing was told")
    assert told() == {"base": [], "base_at_once": [], "alerts": []}

    mark_reported(
        Ledger(airflow.home / "ledger"),
        [Alert("2026-11", "Search", "100%", Decimal(60), Decimal(50), "CNY")],
        at=datetime(2026, 11, 20, tzinfo=UTC),
        run="0" * 12,
    )
    wait_until(lambda: "[]" not in notes().values(), "the alert is noted")
    sim.stop_base(0)
    wait_until(lambda: len(airflow.runs()) == 3, "a run of each DAG")
    alerts = [{"billing_month": "2026-11", "team": "Search", "threshold": "100%"}]
    expected: dict[str, list[Any]] = {
        "base": [change(second, first)],
        "base_at_once": [change(second, first)],
        "alerts": [{"ledger": f"{airflow.home}/ledger", "alerts": alerts}],
    }

    # One dies, perhaps before it noted the event; while none runs, the base comes back; another takes over.
    airflow.kill("triggerer")
    sim.start_base(0)
    wait_until(lambda: all(run.ended() for run in airflow.runs()), "the runs end")
    assert told() == expected
    command = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
    other = airflow.keep("other", {"other-triggerer": command})
    try:
        wait_for_notes(first)
        wait_until(lambda: len(airflow.runs()) == 5, "a run of both DAGs")
        expected["base"].append(change(first, second))
        expected["base_at_once"].append(change(first, second))
        assert told() == expected

        # It goes on looking, and there is nothing to tell.
        probes = sim.count("healthy")
        wait_until(lambda: sim.count("healthy") > probes + 10, "five more looks")
        assert len(airflow.runs()) == 5

        hunt = Hunt(airflow, platform.secrets)
        assert hunt.run() == set()
        assert all(hunt.searched.values())
    finally:
        end_kept(other)

    logs = [(airflow.home / f"{name}.log").read_text() for name in ("triggerer", "other-triggerer")]
    for log in logs:
        assert "exited with error" not in log
        assert "cannot look" not in log
    if tuple(map(int, __version__.split(".")[:2])) >= (3, 3):
        opened = [log.count("Shared stream group started") for log in logs]
        assert opened == [2, 2], "one of the connection, one of the ledger"
