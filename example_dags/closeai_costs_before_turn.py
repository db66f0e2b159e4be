"""Record the counters just before the month's turn, when they are reset.

What is spent after this snapshot and before the reset is in no counter afterwards: the closer it is, the
smaller the gap that the report names. With the snapshot just after midnight it shows, for every account,
whether its counter started again between the two: at most 15 minutes on each side make a month final. A run
that comes after the turn fails where the ledger kept that month: an amount is lost, which somebody should
know.
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
        max_lag=timedelta(minutes=2),  # later it would be the new month's
        retries=1,
        retry_delay=timedelta(seconds=20),
    )
