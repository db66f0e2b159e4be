"""Keep ten teams' keys as the roster says, with the keys in encrypted files: for trials on one machine.

The tutorial docs/tutorials/ten-teams.md runs it, step by step, against the simulator. In production the keys
go to a store that their users can read: see `closeai_roster_sync`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.sinks import EncryptedFileSink

ROSTER = os.environ.get("CLOSEAI_ROSTER", str(Path(__file__).with_name("closeai_roster.yaml")))
COSTS = os.environ.get("CLOSEAI_COSTS", "/var/lib/airflow/closeai-costs")
KEYS = os.environ.get("CLOSEAI_KEYS", "/var/lib/airflow/closeai-keys")

with DAG(
    dag_id="closeai_roster_offline",
    schedule="*/15 * * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    max_active_runs=1,
    tags=["closeai", "example"],
    doc_md=__doc__,
):
    SyncSubAccountsOperator(
        task_id="sync",
        roster=ROSTER,
        max_create=20,  # more at once is probably a mistake in the file
        max_delete="20%",  # at once; rotation stays within it, over several runs
        # The connection key_store holds the Fernet key of the files.
        deliver_to=EncryptedFileSink(KEYS, "key_store", "{alias}"),
        ledger=f"{COSTS}/ledger",
        retries=3,
    )
