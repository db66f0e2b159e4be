"""The second DAG of ``make demo``: a roster, a person's yes, a budget that is spent, a key replaced."""

from __future__ import annotations

import json
import os
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, chain, task
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.sinks import SecretsManagerSink

ROSTER = os.environ.get("CLOSEAI_DEMO_ROSTER", "roster.json")
COMMON: dict[str, Any] = {
    "deliver_to": SecretsManagerSink("airflow/connections/openai-{alias}", as_connection=True),
    "ledger": os.environ.get("CLOSEAI_DEMO_LEDGER", "ledger"),
    "closeai_conn_id": "closeai_roster",
    "max_create": 9,
    "max_delete": 2,
}
LATER = timedelta(days=91)


def tell_simulator(path: str, **fields: Any) -> Any:
    url = f"{os.environ['CLOSEAI_DEMO_ROSTER_CONTROL']}/_simulator/{path}"
    request = urllib.request.Request(url, json.dumps(fields).encode() if fields else None)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def ask(alias: str, model: str, text: str = "Hello") -> str:
    """Ask a model as the team does: through its connection, of which Airflow's secrets backend knows."""
    from airflow.providers.openai.hooks.openai import OpenAIHook
    from openai import APIStatusError

    messages: list[Any] = [{"role": "user", "content": text}]
    try:
        OpenAIHook(conn_id=f"openai-{alias}").create_chat_completion(messages, model=model)
    except APIStatusError as refused:
        return str(refused.status_code)
    return "200"


def sync(name: str) -> SyncSubAccountsOperator:
    return SyncSubAccountsOperator(task_id=name, roster=ROSTER, settle=1, **COMMON)


with DAG(dag_id="closeai_demo_roster", schedule=None, catchup=False):
    plan = PlanSubAccountsOperator(task_id="plan", roster=ROSTER, **COMMON)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Apply these changes?",
        body="{{ ti.xcom_pull(task_ids='plan')['markdown'] }}",
    )
    apply = SyncSubAccountsOperator(task_id="apply", plan=plan.output, settle=1, **COMMON)

    @task
    def spend() -> str:
        return ask("team-ads", "gpt-4o", "x" * 4000)

    cut = sync("cut")

    @task
    def refused() -> list[str]:
        return [ask("team-ads", "gpt-4o"), ask("team-ads", "gpt-4o-mini")]

    @task
    def raise_budget() -> None:
        file = Path(ROSTER)
        roster = json.loads(file.read_text())
        roster["accounts"][0]["budget"] = 10
        file.write_text(json.dumps(roster))

    restored = sync("restored")

    @task
    def served() -> str:
        return ask("team-ads", "gpt-4o")

    @task
    def grow_old() -> None:
        """Let 91 days pass for each key that there is, on the platform and in the secret."""
        then = datetime.now(UTC) - LATER
        for account in tell_simulator("state")["accounts"]:
            raw = json.dumps(then.isoformat())
            tell_simulator("spoil", account_id=account["id"], field="created_at", raw=raw)

    @task
    def grace_passes() -> None:
        """Let 8 days pass for the new keys."""
        from airflow.providers.amazon.aws.hooks.secrets_manager import SecretsManagerHook

        then = datetime.now(UTC) - timedelta(days=8)
        secrets = SecretsManagerHook().get_conn()
        for alias in ("team-ads", "team-search"):
            found = BaseHook.get_connection(f"openai-{alias}")
            note = {**found.extra_dejson["closeai"], "since": then.isoformat()}
            raw = json.dumps(then.isoformat())
            tell_simulator("spoil", account_id=note["sub_account"], field="created_at", raw=raw)
            fields = {"conn_type": "openai", "host": found.host, "password": found.password}
            value = json.dumps({**fields, "extra": {"closeai": note}})
            secrets.put_secret_value(SecretId=f"airflow/connections/openai-{alias}", SecretString=value)

    chain(
        plan,
        approve,
        apply,
        spend(),
        cut,
        refused(),
        raise_budget(),
        restored,
        served(),
        grow_old(),
        sync("replace"),
        grace_passes(),
        sync("remove"),
    )
