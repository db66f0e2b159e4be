"""What the test of custody runs: a roster whose keys are connections, and a team that uses one of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.sinks import SecretsManagerSink

HOME = Path(os.environ.get("AIRFLOW_HOME", "."))
ROSTER: dict[str, Any] = {
    "version": 1,
    "owns": ["team-*"],
    "accounts": [
        {
            "alias": "team-search",
            "balance": 100,
            "model_pricing": {"gpt-4o": 2},
            "rotate": {"every": "90d", "grace": "7d"},
        }
    ],
}

with DAG("e2e_custody", schedule=None, catchup=False):
    SyncSubAccountsOperator(
        task_id="sync",
        roster=ROSTER,
        max_create=1,
        deliver_to=SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True),
        settle=1,
        closeai_conn_id="custody",
    )


with DAG("e2e_team", schedule=None, catchup=False):

    @task
    def work() -> int:
        """Ask a model again and again, as any DAG with the OpenAI provider does, until the test is over."""
        from airflow.providers.openai.hooks.openai import OpenAIHook

        calls = 0
        while not (HOME / "enough").exists():
            hook = OpenAIHook(conn_id="openai-team-search")
            answer: Any = hook.create_chat_completion([{"role": "user", "content": "hello"}], model="gpt-4o")
            calls += answer[0].message.content == "hello"
            (HOME / "calls").write_text(str(calls))
            time.sleep(0.2)
        return calls

    work()
