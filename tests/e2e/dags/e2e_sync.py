"""What the test of kills runs: a roster that is applied at once, and the files in which keys are found."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.sinks.file import EncryptedFileSink

HOME = os.environ.get("AIRFLOW_HOME")

with DAG("e2e_sync", schedule=None, catchup=False):
    SyncSubAccountsOperator(
        task_id="sync",
        roster=f"{HOME}/roster.yaml",
        prune=True,
        max_delete=2,
        settle=2,
        deliver_to=EncryptedFileSink(f"{HOME}/keys", "file_key"),
        ledger=f"{HOME}/ledger",
        closeai_conn_id="sync",
        retries=5,
        retry_delay=0,
    )
