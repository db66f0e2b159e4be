"""What the tests of approvals run: a roster that is planned, shown to a person, and applied."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator

ROSTER = f"{os.environ.get('AIRFLOW_HOME')}/roster.yaml"
BODY = "{{ ti.xcom_pull(task_ids='plan')['markdown'] }}"
TIMES_OUT: dict[str, Any] = {"response_timeout": timedelta(seconds=1), "defaults": "Approve"}


def roster_dag(name: str, body: str = BODY, **approval: Any) -> None:
    with DAG(name, schedule=None, catchup=False):
        options: dict[str, Any] = {"closeai_conn_id": "roster", "retries": 1, "retry_delay": 0}
        plan = PlanSubAccountsOperator(
            task_id="plan", roster=ROSTER, prune=True, max_create=9, max_delete=9, **options
        )
        approve = ApprovalOperator(task_id="approve", subject="Apply this plan?", body=body, **approval)
        plan >> approve >> SyncSubAccountsOperator(task_id="sync", plan=plan.output, settle=1, **options)


roster_dag("e2e_approved")
roster_dag("e2e_timeout", **TIMES_OUT)
roster_dag("e2e_blind", body="Please say yes.")
