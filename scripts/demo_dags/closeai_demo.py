"""The DAG of ``make demo``: what goes wrong in it is done on purpose, by asking the simulator for it."""

from __future__ import annotations

import json
import os
import urllib.request
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import DAG, chain, task

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor


def tell_simulator(path: str, **fields: Any) -> None:
    url = f"{os.environ['CLOSEAI_DEMO_CONTROL']}/_simulator/{path}"
    request = urllib.request.Request(url, json.dumps(fields).encode(), method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        answer.read()


with DAG(dag_id="closeai_demo", schedule=None, catchup=False):
    health = HealthSensor(task_id="health", require="all", poke_interval=1, timeout=60)

    @task
    def lose_next_answer() -> None:
        tell_simulator("faults", call="create", kind="cut_after")

    create = CreateSubAccountsOperator(
        task_id="create",
        alias="team-search",
        count=3,
        balance=100,
        model_pricing={"gpt-4": 1, "gpt-4o": "1.5"},
        settle=2,
    )
    again = CreateSubAccountsOperator(
        task_id="create_again",
        alias="team-search",
        count=3,
        balance=100,
        model_pricing={"gpt-4": 1, "gpt-4o": "1.5"},
    )

    @task
    def kill_best_base() -> None:
        tell_simulator("bases", index=0, up=False)

    reprice = UpdatePricingOperator(
        task_id="reprice", sub_accounts=create.output, model_pricing={"gpt-4o": "1.2"}
    )

    @task
    def five_days_pass() -> None:
        tell_simulator("clock", advance_seconds=5 * 24 * 3600)

    listing = ListSubAccountsOperator(task_id="list")

    @task
    def report(records: list[dict[str, Any]]) -> str:
        return f"{sum(Decimal(record['monthly_cost']) for record in records):f}"

    delete = DeleteSubAccountsOperator(task_id="delete", sub_accounts=create.output, max_delete=3)

    chain(
        health,
        lose_next_answer(),
        create,
        again,
        kill_best_base(),
        reprice,
        five_days_pass(),
        listing,
        report(listing.output),
        delete,
    )
