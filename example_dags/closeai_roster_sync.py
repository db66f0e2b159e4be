"""Keep all teams' keys as the roster says: every 15 minutes.

Missing accounts are created and their keys delivered, prices that drifted are restored, a team that has spent
its budget gets its `over_budget` prices until the month's turn, and keys are replaced when they are 90 days
old. Each team finds its key in an Airflow connection: `OpenAIHook(conn_id="openai-team-search")`.

To try it on one machine, without a store for keys, see `closeai_roster_offline`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.sinks import SecretsManagerSink

# A file that all workers see, beside this one or in an object store: "s3://aws_default@config/roster.yaml".
ROSTER = os.environ.get("CLOSEAI_ROSTER", str(Path(__file__).with_name("closeai_roster.yaml")))
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_roster_sync",
    schedule="*/15 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    # More at once is probably a mistake in the file; if it is intended, trigger one run with higher bounds.
    # Rotation stays within these bounds, over several runs.
    params={"max_create": 20, "max_delete": "20%"},
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    SyncSubAccountsOperator(
        task_id="sync",
        roster=ROSTER,
        max_create="{{ params.max_create }}",
        max_delete="{{ params.max_delete }}",
        deliver_to=SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True),
        ledger=f"{COSTS}/ledger",
        retries=3,
        retry_delay=timedelta(minutes=1),
    )
