"""A team's own DAG: it asks a model, and needs nothing of CloseAI except a connection's name.

`closeai_roster_sync` keeps the connection `openai-team-search` in AWS Secrets Manager: the team's key, and
the healthy base. Needs `apache-airflow-providers-openai`, and Airflow's own secrets backend:

    [secrets]
    backend = airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend
    backend_kwargs = {"connections_prefix": "airflow/connections", "connections_lookup_pattern": "^openai-"}
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

with DAG(
    dag_id="closeai_team_assistant",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="Asia/Shanghai"),
    catchup=False,
    tags=["closeai", "example"],
    doc_md=__doc__,
):

    @task(retries=2)
    def ask(question: str) -> str:
        from airflow.providers.openai.hooks.openai import OpenAIHook

        # Create the hook where it is used: one that was created before a rotation keeps the old key.
        hook = OpenAIHook(conn_id="openai-team-search")
        choices: list[Any] = hook.create_chat_completion(
            [{"role": "user", "content": question}], model="gpt-4o"
        )
        return str(choices[0].message.content)

    ask("What does our page about returns say?")
