"""Open the new month and close the old one, just after the turn.

The first task reads the counters that have just been reset. The second writes the old month's final figures
into the ledger: from then on they change only by appended lines. It refuses while the turn is in doubt for an
account, and says what would settle it: clear the task after the next evening's snapshot. A late run skips the
first task; a month without any data in the ledger is skipped, not closed.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator

COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_costs_month_close",
    schedule="5 0 1 * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    opening = SnapshotCostsOperator(
        task_id="snapshot", ledger=f"{COSTS}/ledger", retries=5, retry_delay=timedelta(minutes=2)
    )
    close = CostReportOperator(
        task_id="close",
        ledger=f"{COSTS}/ledger",
        month="previous",
        output=f"{COSTS}/reports",
        currency="CNY",  # of the platform's amounts: the platform does not name it
        formats=["html", "csv", "json", "focus"],
        # The close also fixes who pays: give the same as in the report DAG; with a roster, owners=ROSTER.
        owners={
            "search.*": {"team": "Search", "cost_center": "CC-100"},
            "ads.*": {"team": "Ads", "cost_center": "CC-200"},
        },
        budgets={"Search": "60", "Ads": "60"},
        thresholds=(),  # the report DAG sends alerts
        close=True,
        retries=3,
        trigger_rule="none_failed",  # a late run skips the snapshot, and still closes
    )
    opening >> close
