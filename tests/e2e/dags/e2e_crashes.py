"""What the crash tests and the pool tests run. Connection, alias and count come with each run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_closeai.operators.sub_accounts import CreateSubAccountsOperator

WANTED: dict[str, Any] = {
    "alias": "{{ params.alias }}",
    "count": "{{ params.count }}",
    "closeai_conn_id": "{{ params.connection }}",
    "balance": 1,
    "model_pricing": {"gpt-4": 1, "gpt-4o": "1.5"},
    "settle": 2,
    "retries": 2,
    "retry_delay": 0,
}
PARAMS = {
    "connection": Param("closeai_default", type="string"),
    "alias": Param("alias", type="string"),
    "count": Param(2, type="integer"),
}


class OnAnotherHost(CreateSubAccountsOperator):
    """As on a worker of its own: it shares no lock, no note and no cache with the others."""

    def __init__(self, *, host: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.host = host

    def execute(self, context: Any) -> Any:
        place = Path(os.environ["TMPDIR"], f"host-{self.host}")
        place.mkdir(exist_ok=True)
        tempfile.tempdir = str(place)
        return super().execute(context)


with DAG("e2e_create", schedule=None, catchup=False, max_active_runs=100, params=PARAMS):
    CreateSubAccountsOperator(task_id="create", **WANTED)

with DAG("e2e_create_in_batches", schedule=None, catchup=False, max_active_runs=100, params=PARAMS):
    CreateSubAccountsOperator(task_id="create", batch_size=2, **WANTED)

for host in ("a", "b"):
    with DAG(f"e2e_pooled_{host}", schedule=None, catchup=False, params=PARAMS):
        OnAnotherHost(task_id="create", host=host, pool="e2e_one_slot", **WANTED)
    with DAG(f"e2e_unpooled_{host}", schedule=None, catchup=False, params=PARAMS):
        OnAnotherHost(task_id="create", host=host, **WANTED)
