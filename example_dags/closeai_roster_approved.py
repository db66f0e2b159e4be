"""Plan what the roster changes, show it to a person, and apply what was approved. Airflow 3.1 and later.

The form (Required Actions) shows the plan. Only changes on that form are applied, if they are still wanted; a
plan is valid for 24 hours.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, chain
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.sinks import SecretsManagerSink

ROSTER = os.environ.get("CLOSEAI_ROSTER", str(Path(__file__).with_name("closeai_roster.yaml")))
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")
KEYS = SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True)

with DAG(
    dag_id="closeai_roster_approved",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    # A plan beyond these bounds is refused before anybody is asked; if it is intended, trigger the DAG with
    # higher bounds.
    params={"max_create": 50, "max_delete": "20%"},
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    plan = PlanSubAccountsOperator(
        task_id="plan",
        roster=ROSTER,
        prune=True,  # also delete owned accounts that are no longer in the file: hence the approval
        max_create="{{ params.max_create }}",
        max_delete="{{ params.max_delete }}",
        deliver_to=KEYS,
        ledger=f"{COSTS}/ledger",
        # No retries: on Airflow 3.1 and 3.2 the plan of a second try counts as another plan.
    )
    approve = ApprovalOperator(
        task_id="approve",
        subject="Apply these changes to the CloseAI sub-accounts?",
        body="{{ ti.xcom_pull(task_ids='plan')['markdown'] }}",
        response_timeout=timedelta(hours=24),
    )
    apply = SyncSubAccountsOperator(
        task_id="apply",
        plan=plan.output,
        deliver_to=KEYS,
        ledger=f"{COSTS}/ledger",
        retries=3,
        retry_delay=timedelta(minutes=1),
    )
    chain(plan, approve, apply)
