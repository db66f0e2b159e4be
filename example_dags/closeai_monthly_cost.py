"""List what every alias has cost this month so far.

``monthly_cost`` is read at this moment and is reset each month: this is a single look, not a ledger.

Try it offline: start the simulator (``python -m airflow_provider_closeai.simulator --accounts 5``), export
the connection that it prints, then ``airflow dags test closeai_monthly_cost``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task, timezone

from airflow_provider_closeai.operators.sub_accounts import ListSubAccountsOperator

with DAG(
    dag_id="closeai_monthly_cost",
    schedule="@daily",
    start_date=timezone.datetime(2026, 1, 1),
    catchup=False,  # past values cannot be read: the counter shows only its present value
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    accounts = ListSubAccountsOperator(task_id="accounts", retries=3)

    @task
    def cost_by_alias(records: list[dict[str, Any]]) -> dict[str, str]:
        totals: dict[str, Decimal] = {}
        for record in records:
            # Amounts are texts: floats would lose the last decimals.
            cost = Decimal(record["monthly_cost"])
            totals[record["alias"]] = totals.get(record["alias"], Decimal(0)) + cost
        for alias, total in sorted(totals.items()):
            print(f"{alias:30} {total:f}")
        return {alias: f"{total:f}" for alias, total in totals.items()}

    cost_by_alias(accounts.output)
