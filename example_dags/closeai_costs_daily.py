"""Record every evening what the sub-accounts have cost so far.

It runs at 23:55 of the platform's day, so that a day's cost is in that day's figure. `catchup` is off,
because past values of a counter cannot be read; the cost of a missed day is in the next day's figure. When
the DAG is unpaused, Airflow starts the last missed run: it is skipped, and its log says why.

Try it offline: start the simulator (``python -m airflow_provider_closeai.simulator --accounts 5``), export
the connection that it prints, then ``airflow dags test closeai_costs_daily``.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.costs import SnapshotCostsOperator

# A folder that all workers see, or an object store such as "s3://aws_default@finance/closeai".
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_costs_daily",
    schedule="55 23 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    SnapshotCostsOperator(
        task_id="snapshot",
        ledger=f"{COSTS}/ledger",
        retries=5,
        retry_delay=timedelta(minutes=2),
    )
