"""Record the counters just before the month's turn, when they are reset.

Spending after this snapshot and before the reset is in no counter afterwards: the closer the snapshot is to
the turn, the smaller the gap that the report names. Together with the snapshot just after midnight it shows,
for every account, whether its counter started again between the two: with at most 15 minutes on each side the
month is final. A run that comes after the turn fails if the ledger has snapshots of that month: an amount is
lost, and somebody should know.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.costs import SnapshotCostsOperator

COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_costs_before_turn",
    schedule="58 23 L * *",  # L: the month's last day
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    SnapshotCostsOperator(
        task_id="snapshot",
        ledger=f"{COSTS}/ledger",
        max_lag=timedelta(minutes=2),  # later it would read the new month's counters
        retries=1,
        retry_delay=timedelta(seconds=20),
    )
