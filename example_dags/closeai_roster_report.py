"""Report what each team of the roster has cost, against its budget, after each run of `closeai_costs_daily`.

Owners and budgets come from the roster: one file for platform and finance. The snapshots that the roster's
sync records every 15 minutes count too, but start no report. The tutorial docs/tutorials/bill.md runs it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.costs import CostReportOperator, ledger_asset

ROSTER = os.environ.get("CLOSEAI_ROSTER", str(Path(__file__).with_name("closeai_roster.yaml")))
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_roster_report",
    schedule=[ledger_asset(f"{COSTS}/ledger")],
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    CostReportOperator(
        task_id="report",
        ledger=f"{COSTS}/ledger",
        month="latest",
        output=f"{COSTS}/reports",
        currency="CNY",
        owners=ROSTER,
        budgets=ROSTER,
        statements=True,  # also a page for each team
        retries=3,
    )
