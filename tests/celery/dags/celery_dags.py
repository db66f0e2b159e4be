"""What the tests of many hosts run. Connection, alias and count come with each run."""

from __future__ import annotations

import logging
import os
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_closeai.hooks import tries
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor

CONNECTION: dict[str, Any] = {"closeai_conn_id": "{{ params.connection }}"}
RETRY: dict[str, Any] = {"retries": 2, "retry_delay": 0}
WANTED: dict[str, Any] = {
    "alias": "{{ params.alias }}",
    "count": "{{ params.count }}",
    "balance": 1,
    "model_pricing": {"gpt-4": 1, "gpt-4o": "1.5"},
    "settle": 3,
    **CONNECTION,
    **RETRY,
}
OPTIONS: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 100,
    "params": {
        "connection": Param("plain", type="string"),
        "alias": Param("alias", type="string"),
        "count": Param(2, type="integer"),
    },
}
HOSTS = ("host_a", "host_b")

if os.environ.get("CLOSEAI_RIG_LOCK") == "host":  # an orphan does not learn that it is one
    this_try = tries.this_try

    def without_notes(context: Any = None) -> Any:
        return msgspec.structs.replace(this_try(context), own_journal=None)

    tries.this_try = without_notes

# The first try is on host_a; the tests move the retry.
with DAG("e2e_create", schedule=None, **OPTIONS):
    CreateSubAccountsOperator(task_id="create", queue="host_a", **WANTED)

with DAG("e2e_create_in_batches", schedule=None, **OPTIONS):
    CreateSubAccountsOperator(task_id="create", queue="host_a", batch_size=2, **WANTED)

with DAG("hosts_plain", schedule=None, **OPTIONS):
    create = CreateSubAccountsOperator(task_id="create", queue="host_a", **WANTED)
    again = CreateSubAccountsOperator(task_id="again", queue="host_b", **WANTED)
    reprice = UpdatePricingOperator(
        task_id="reprice",
        queue="host_a",
        sub_accounts=again.output,
        model_pricing={"gpt-4": 2},
        **CONNECTION,
        **RETRY,
    )
    listed = ListSubAccountsOperator(
        task_id="list", queue="host_b", alias="{{ params.alias }}", **CONNECTION, **RETRY
    )
    delete = DeleteSubAccountsOperator(
        task_id="delete", queue="host_a", sub_accounts=listed.output, **CONNECTION, **RETRY
    )
    create >> again
    reprice >> listed

for name in HOSTS:
    with DAG(f"pooled_{name}", schedule=None, **OPTIONS):
        CreateSubAccountsOperator(task_id="create", queue=name, pool="one_slot", **{**WANTED, "settle": 12})

    with DAG(f"list_{name}", schedule=None, **OPTIONS):
        ListSubAccountsOperator(task_id="list", queue=name, **CONNECTION, **RETRY)

with DAG("contention", schedule=None, **OPTIONS):
    for number in range(6):
        CreateSubAccountsOperator(task_id=f"create_{number}", queue=HOSTS[number % 2], **WANTED)

with DAG("sensors", schedule=None, **OPTIONS):
    HealthSensor.partial(task_id="wait", deferrable=True, **CONNECTION).expand(require=["any"])

with DAG("planted", schedule=None, **OPTIONS):

    @task
    def plant(**context: Any) -> str:
        planted = str(context["params"]["alias"])
        logging.getLogger(__name__).debug("logged at DEBUG: %s", planted)
        return planted

    plant()
