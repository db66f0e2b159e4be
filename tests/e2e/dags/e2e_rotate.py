"""What the test of rotation runs: keys that are replaced, and the files in which their users find them."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.rotate import RotateSubAccountsOperator
from airflow_provider_closeai.sinks.file import EncryptedFileSink

with DAG("e2e_rotate", schedule=None, catchup=False):
    RotateSubAccountsOperator(
        task_id="rotate",
        alias="team-search",
        count=2,
        balance=1,
        model_pricing={"gpt-4": 1},
        deliver_to=EncryptedFileSink(f"{os.environ.get('AIRFLOW_HOME')}/rotated", "file_key"),
        every="90d",
        grace="7d",
        max_rotate="100%",
        settle=2,
        closeai_conn_id="rotate",
        retries=3,
        retry_delay=0,
    )
