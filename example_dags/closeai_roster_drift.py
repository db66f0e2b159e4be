"""Every Monday: is what is there what the roster says? Fails, and names each difference, where it is not.

Somebody changed a price in the console, or made a key by hand. Nothing is changed here.
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
        max_delete="100%",  # a plan only: all that is too much is named
        fail_on_changes=True,
        deliver_to=SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True),
        ledger=f"{COSTS}/ledger",
        retries=3,  # of an outage only: a difference fails the task for good
        # on_failure_callback=..., to tell the people who own the roster
    )
