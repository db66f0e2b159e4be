"""The example DAGs: each is imported as Airflow does it, and run for real."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, Run, run

from airflow_provider_closeai.simulator import Simulator

FOLDER = Path(__file__).parents[2] / "example_dags"
TESTED_HERE = ("closeai_provisioning", "closeai_health_gate", "closeai_monthly_cost")


def load(dag_id: str) -> Any:
    if AIRFLOW >= (3, 2):
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    options: dict[str, Any] = {} if AIRFLOW >= (3, 2) else {"include_examples": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bag = DagBag(FOLDER / f"{dag_id}.py", **options)
    assert not bag.import_errors
    assert list(bag.dags) == [dag_id]
    told = [str(item.message) for item in caught if "closeai" in item.filename]
    assert not told
    told = [line for lines in (getattr(bag, "captured_warnings", None) or {}).values() for line in lines]
    assert not [line for line in told if "site-packages" not in line], "other packages warn about themselves"
    return bag.dags[dag_id]


def run_example(dag_id: str, **conf: Any) -> Run:
    return run(load(dag_id), conf)


@pytest.mark.parametrize("dag_id", TESTED_HERE)
def test_it_says_what_it_is_for(database: None, dag_id: str) -> None:
    dag = load(dag_id)
    assert dag.doc_md
    assert {"closeai", "example"} <= set(dag.tags)
    assert not dag.catchup


@pytest.mark.skipif(AIRFLOW < (3, 1), reason="approvals came with 3.1, and events with 3.0")
def test_a_lost_worker_costs_a_retry_not_the_run(database: None) -> None:
    dags = [load(path.stem) for path in FOLDER.glob("closeai_*.py")]
    ours = {f"{dag.dag_id}.{task.task_id}": task for dag in dags for task in dag.tasks if is_ours(task)}
    assert len(ours) > 10
    # Its plan is made for the person who approves it: see the comment there.
    assert [name for name, task in ours.items() if not task.retries] == ["closeai_roster_approved.plan"]


def is_ours(task: Any) -> bool:
    return type(task).__module__.startswith("airflow_provider_closeai.")


def test_provisioning_only_shows_what_would_go(sim: Simulator) -> None:
    other = sim.add_account("team-search-old")

    first = run_example("closeai_provisioning")

    assert first.state == "success"
    accounts = sim.accounts("team-ads")
    assert len(accounts) == 2
    for account in accounts:
        factors = {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}
        assert factors == {"gpt-4": 1, "gpt-4o": 1.2}
        assert float(account["balance"]) == 100
    assert [record["id"] for record in first.result("delete")] == [account["id"] for account in accounts]
    assert other in sim.accounts()
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 0)

    # The same asked again: `reprice` has set other prices than `create` states, and that is no failure.
    second = run_example("closeai_provisioning")
    assert sim.accounts("team-ads") == accounts
    assert second.state == "success"
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 0)

    # And at last they go.
    assert run_example("closeai_provisioning", really_delete=True).state == "success"
    assert sim.accounts() == [other]
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 1)


def test_provisioning_takes_the_keys_back(sim: Simulator) -> None:
    other = sim.add_account("team-search-old")

    done = run_example("closeai_provisioning", alias="team-b", count=3, really_delete=True)

    assert done.state == "success"
    assert sim.accounts() == [other]
    last = done.result("delete")
    assert len(last) == 3
    assert {record["alias"] for record in last} == {"team-b"}
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 1, 1)
    assert [done.task(task) for task in ("create", "reprice", "delete")] == ["success 1"] * 3


def test_health_gate_opens_with_the_base_that_is_up(sim: Simulator) -> None:
    sim.stop_base(0)

    done = run_example("closeai_health_gate")

    assert done.state == "success"
    assert done.result("api_is_up") == sim.base_urls[1]
    assert done.result("call_the_model") == f"{sim.base_urls[1]}/v1"
    assert (sim.count("links"), sim.count("healthy")) == (1, 1)


def test_health_gate_waits_in_the_triggerer(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_closeai.triggers.health.HealthTrigger.run", open_gate)
    sim.fault("healthy", "unhealthy", times=None)

    done = run_example("closeai_health_gate")

    assert done.state == "success"
    assert done.result("call_the_model") == "https://opened.example/v1"
    assert sim.count("healthy", 0) == 1


async def open_gate(trigger: Any) -> Any:
    from airflow.triggers.base import TriggerEvent

    assert trigger.poke_interval == 15
    yield TriggerEvent({"status": "healthy", "base": "https://opened.example"})


def test_monthly_cost_adds_up_exactly(sim: Simulator) -> None:
    sim.add_account("b", monthly_cost="0.1")
    sim.add_account("b", monthly_cost="0.2")
    sim.add_account("a", monthly_cost="12345678.00000001")

    done = run_example("closeai_monthly_cost")

    assert done.state == "success"
    assert done.result("cost_by_alias") == {"a": "12345678.00000001", "b": "0.3"}
    assert sim.count("list") == 1
