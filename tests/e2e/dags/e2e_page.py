"""What the page in Airflow's UI shows: a health sensor, a plan, a sync, and the month's costs by team."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.sensors.health import HealthSensor

HOME = os.environ.get("AIRFLOW_HOME")
CONNECTION: dict[str, Any] = {"closeai_conn_id": "page"}
ROSTER = {
    "version": 1,
    "owns": ["team-*", "<script>*", "搜索*"],
    "accounts": [
        {"alias": alias, "balance": 1, "model_pricing": {"gpt-4": 1}}
        for alias in ("team-a", "<script>alert(1)</script>", "搜索团队")
    ],
}

with DAG("e2e_page", schedule=None, catchup=False):
    healthy = HealthSensor(task_id="healthy", **CONNECTION)
    snapshot = SnapshotCostsOperator(task_id="snapshot", ledger=f"{HOME}/ledger", **CONNECTION)
    report = CostReportOperator(
        task_id="report",
        ledger=f"{HOME}/ledger",
        month="latest",
        output=f"{HOME}/reports",
        currency="CNY",
        owners={"team-*": "Team A", "搜索*": "搜索团队", "<script>*": "<script>alert(2)</script>\u202eteam"},
        budgets={"Team A": "1"},
    )
    healthy >> snapshot >> report

with DAG("e2e_page_plan", schedule=None, catchup=False):
    strict = "{{ dag_run.conf.get('strict', False) }}"
    PlanSubAccountsOperator(task_id="plan", roster=ROSTER, max_create=9, fail_on_changes=strict, **CONNECTION)

with DAG("e2e_page_sync", schedule=None, catchup=False):
    SyncSubAccountsOperator(task_id="sync", roster=ROSTER, max_create=9, settle=1, **CONNECTION)
