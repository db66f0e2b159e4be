"""Report the month so far whenever the ledger has a new snapshot, and report once when a budget runs out.

If a roster says who pays, unpause `closeai_roster_report` instead: both write the same files.
"""

from __future__ import annotations

import os
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_closeai.operators.costs import CostReportOperator, ledger_asset

COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")

with DAG(
    dag_id="closeai_costs_report",
    schedule=[ledger_asset(f"{COSTS}/ledger")],
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    report = CostReportOperator(
        task_id="report",
        ledger=f"{COSTS}/ledger",
        month="latest",  # the snapshot's month, even if the month has turned since
        output=f"{COSTS}/reports",
        currency="CNY",
        owners={
            "search.*": {"team": "Search", "cost_center": "CC-100"},
            "ads.*": {"team": "Ads", "cost_center": "CC-200"},
        },
        # Or the paths of files that finance keeps: owners="s3://.../owners.csv", budgets="s3://.../budgets.yaml"
        budgets={"Search": "60", "Ads": "60"},
        retries=3,
        thresholds=["80%", "100%", "forecast 100%"],
        # notifiers=SmtpNotifier(to="finance@example.com", html_content="{{ closeai_alerts }}", ...)
    )

    @task.short_circuit
    def is_there_an_alert(result: dict[str, Any] | None) -> bool:
        return bool(result and result["alerts"])  # None: the report was marked as success by hand

    @task
    def tell(result: dict[str, Any]) -> list[str]:
        texts = [alert["text"] for alert in result["alerts"]]
        print("\n".join(texts))
        return texts

    is_there_an_alert(report.output) >> tell(report.output)
