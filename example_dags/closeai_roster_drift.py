"""Every Monday: do the accounts match the roster? Fails, and names each difference, if they do not.

For example, somebody changed a price in the console, or created a key by hand. This DAG changes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator
from airflow_provider_closeai.sinks import SecretsManagerSink

ROSTER = os.environ.get("CLOSEAI_ROSTER", str(Path(__file__).with_name("closeai_roster.yaml")))
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_roster_drift",
    schedule="0 9 * * 1",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    PlanSubAccountsOperator(
        task_id="compare",
        roster=ROSTER,
        prune=True,
        max_delete="100%",  # only a plan: all surplus accounts are named
        fail_on_changes=True,
        deliver_to=SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True),
        ledger=f"{COSTS}/ledger",
        retries=3,  # only for outages: a difference fails the task without a retry
        # on_failure_callback=..., to notify the owners of the roster
    )
