"""What the hunt for keys runs besides the example DAGs: sinks, keys as parameters, errors, careless users."""

from __future__ import annotations

import base64
import json
import logging
import os
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, Variable, task

from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.sinks import EncryptedFileSink, SecretsManagerSink, TokenSink, VaultSink

log = logging.getLogger(__name__)
RETRY: dict[str, Any] = {"retries": 1, "retry_delay": 0}
WANTED: dict[str, Any] = {"model_pricing": {"gpt-4": 1}, "balance": 1, "settle": 1, **RETRY}


class TalkativeSink:
    """A sink that fails with the key in its error, the first time for each account."""

    def deliver(self, account: Any) -> str:
        place = Path(os.environ["TMPDIR"], f"talkative-{account.id}")
        if not place.exists():
            place.touch()
            raise ValueError(f"cannot store {account.token.reveal()}")
        return place.name


with DAG("e2e_sinks", schedule=None, catchup=False):
    sinks: dict[str, TokenSink] = {
        "aws": SecretsManagerSink(),
        "aws_down": SecretsManagerSink(aws_conn_id="aws_down"),
        "file": EncryptedFileSink(f"{os.environ.get('AIRFLOW_HOME')}/keys", "file_key"),
        "vault": VaultSink(),
        "talkative": TalkativeSink(),
    }
    for name, sink in sinks.items():
        CreateSubAccountsOperator(
            task_id=name, alias=name, count=2, deliver_to=sink, closeai_conn_id="keys", **WANTED
        )

with DAG("e2e_sks", schedule=None, catchup=False):
    (
        UpdatePricingOperator(
            task_id="reprice",
            sks="{{ var.value.e2e_sks }}",
            model_pricing={"gpt-4": 2},
            closeai_conn_id="keys",
            **RETRY,
        )
        >> DeleteSubAccountsOperator(
            task_id="refused",
            sks=["{{ var.value.e2e_sks }}", "sk-nobody-has-this-key"],
            missing="fail",
            closeai_conn_id="keys",
        )
        >> DeleteSubAccountsOperator(
            task_id="delete",
            sks="{{ var.value.e2e_sks }}",
            closeai_conn_id="keys",
            trigger_rule="all_done",
            **RETRY,
        )
    )

with DAG("e2e_mapped", schedule=None, catchup=False):
    made = CreateSubAccountsOperator.partial(
        task_id="create", closeai_conn_id="keys", count=1, **WANTED
    ).expand(alias=["mapped-a", "mapped-b"])
    UpdatePricingOperator.partial(
        task_id="reprice", closeai_conn_id="keys", model_pricing={"gpt-4": 3}, **RETRY
    ).expand(sub_accounts=made.output)

ROSTER: dict[str, Any] = {
    "version": 1,
    "owns": ["keyed"],
    "accounts": [{"alias": "keyed", "balance": 1, "model_pricing": {"gpt-4": 1}}],
}

with DAG("e2e_keyed_roster", schedule=None, catchup=False):
    options: dict[str, Any] = {
        "closeai_conn_id": "keys",
        "ledger": f"{os.environ.get('AIRFLOW_HOME')}/keyed",
        "deliver_to": TalkativeSink(),
        **RETRY,
    }
    plan = PlanSubAccountsOperator(task_id="plan", roster=ROSTER, **options)
    SyncSubAccountsOperator(task_id="sync", plan=plan.output, settle=1, **options)

for connection in ("wrong_key", "refused"):
    with DAG(f"e2e_{connection}", schedule=None, catchup=False):
        CreateSubAccountsOperator(task_id="create", alias="x", closeai_conn_id=connection, **WANTED)
        ListSubAccountsOperator(task_id="list", closeai_conn_id=connection, **RETRY)
        UpdatePricingOperator(
            task_id="reprice", alias="x", model_pricing={"m": 1}, closeai_conn_id=connection, **RETRY
        )
        DeleteSubAccountsOperator(task_id="delete", alias="x", closeai_conn_id=connection, **RETRY)
        PlanSubAccountsOperator(task_id="plan", roster=ROSTER, closeai_conn_id=connection, **RETRY)
        SyncSubAccountsOperator(task_id="sync", roster=ROSTER, closeai_conn_id=connection, **RETRY)
        HealthSensor(
            task_id="wait_deferred",
            deferrable=True,
            poke_interval=1,
            timeout=3,
            closeai_conn_id=connection,
        )
        HealthSensor(
            task_id="wait_rescheduled",
            mode="reschedule",
            deferrable=False,
            poke_interval=1,
            timeout=2,
            closeai_conn_id=connection,
        )

with DAG("e2e_careless", schedule=None, catchup=False):

    def accounts() -> list[Any]:
        return list(CloseAIHook("keys").iter_sub_accounts())

    @task
    def shows_all() -> list[str]:
        hook = CloseAIHook("keys")
        shown = [repr(hook.get_conn()), repr(hook.get_conn().config), repr(vars(hook)), str(hook)]
        for account in accounts():
            print(account, account.token, f"{account.token}")
            log.warning("%s %r", account.token, account)
            shown.append(f"{account} {account.token:>60}")
        return shown

    @task
    def returns_accounts() -> list[Any]:
        return accounts()

    @task
    def returns_tokens() -> list[Any]:
        return [account.token for account in accounts()]

    @task
    def raises_accounts() -> None:
        found = accounts()
        raise ValueError(found, [account.token for account in found])

    @task
    def reports_problems() -> str:
        worked, told = CloseAIHook("wrong_key").test_connection()
        return f"{worked} {told} {CloseAIHook('keys').test_connection()}"

    shows_all(), returns_accounts(), returns_tokens(), raises_accounts(), reports_problems()


def planted(place: str) -> str:
    return str(json.loads(Path(os.environ["E2E_PLANTED"]).read_text())[place])


class Rendering(BaseOperator):
    template_fields = ("text",)

    def __init__(self, *, text: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context: Any) -> None:
        pass


with DAG("e2e_planted", params={"text": planted("serialized_dag")}, schedule=None, catchup=False):

    @task
    def plants(**context: Any) -> str:
        print("printed", planted("stdout"))
        log.debug("logged at DEBUG %s", planted("log"))
        log.info("logged in base64 %s", base64.b64encode(f"Basic:{planted('base64')}".encode()).decode())
        Variable.set("e2e_planted", planted("variable"))
        Path(os.environ["TMPDIR"], "planted").write_text(planted("file"))
        if "task_state_store" in context:
            context["task_state_store"].set("planted", planted("task_state"))
        return planted("xcom")

    @task
    def fails() -> None:
        raise ValueError(planted("exception"))

    plants()
    fails()
    Rendering(task_id="renders", text="{{ var.value.e2e_planted_rendered }}")
