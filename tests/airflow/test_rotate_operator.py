"""RotateSubAccountsOperator and the hook's method: parameters, results, what a person sees."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow_cell import run
from cryptography.fernet import Fernet

from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.rotate import RotateSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import RotateSubAccountsOperator as Exported
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.file import EncryptedFileSink

DAY = 24 * 3600.0


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncryptedFileSink:
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    return EncryptedFileSink(tmp_path / "keys", "file_key")


@pytest.fixture
def now(sim: Simulator) -> datetime:
    """The simulator's clock shows the machine's time; accounts are made older than that."""
    present = datetime.fromtimestamp(time.time()).astimezone()
    sim.clock._base = present
    return present


def test_it_is_where_the_other_operators_are() -> None:
    assert Exported is RotateSubAccountsOperator


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_rotation_in_a_dag(
    sim: Simulator, dag: Any, sink: EncryptedFileSink, now: datetime, tmp_path: Path, native: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    dag.render_template_as_native_obj = native
    old = sim.add_account("team", created_at=now - timedelta(days=100), monthly_cost="1.5")
    new = sim.add_account("team", created_at=now - timedelta(days=9))
    with dag:
        RotateSubAccountsOperator(
            task_id="rotate",
            alias="{{ dag_run.conf['alias'] }}",
            model_pricing="{{ dag_run.conf['pricing'] | tojson }}",
            balance="{{ 5 }}",
            deliver_to=sink,
            count="{{ 1 }}",
            every="{{ '90d' }}",
            grace="{{ '7d' }}",
            max_rotate="{{ '10%' }}",
            rotate_from="{{ '2026-01-01T00:00:00+08:00' }}",
            ledger=tmp_path / "ledger",
        )
    conf = {"alias": "team", "pricing": {"gpt-4": 1}}
    caplog.set_level(logging.INFO)
    first = run(dag, conf)
    assert first.task("rotate") == "success 1"
    result = first.result("rotate")
    assert (result["created"], result["delivered"], result["deleted"]) == ([], [old["id"], new["id"]], [])
    for account in (old, new):  # delivered long ago
        path = tmp_path / "keys" / f"sub-account-{account['id']}.fernet"
        os.utime(path, (time.time() - 8 * DAY,) * 2)
    second = run(dag, conf).result("rotate")
    assert [record["id"] for record in second["deleted"]] == [old["id"]]
    assert second["deleted"][0]["monthly_cost"] == "1.5"
    assert [record["id"] for record in second["sub_accounts"]] == [new["id"]]
    assert list(second) == list(result)
    assert [account["id"] for account in sim.accounts("team")] == [new["id"]]
    assert list((tmp_path / "ledger").rglob("*")), "last costs are not in the ledger"
    closing = [line for line in caplog.messages if "(1 wanted; " in line]
    assert "1 deleted now" in closing[-1]
    assert "Next, at" in closing[-1]
    assert old["token"] not in caplog.text + json.dumps([result, second])


def test_without_a_sink_nothing_is_sent(sim: Simulator, dag: Any) -> None:
    nobody: Any = None
    with dag:
        RotateSubAccountsOperator(
            task_id="rotate", alias="a", model_pricing={"m": 1}, balance=1, deliver_to=nobody, retries=2
        )
    assert run(dag).task("rotate") == "failed 1", "it is not worth a retry"
    assert not sim.requests
    with pytest.raises((TypeError, AirflowException), match="deliver_to"):  # Airflow 2 has its own error
        RotateSubAccountsOperator(task_id="r", alias="a", model_pricing={"m": 1}, balance=1)  # type: ignore[call-arg]


def test_the_hook_rotates(sim: Simulator, sink: EncryptedFileSink, now: datetime) -> None:
    old = sim.add_account("a", created_at=now - timedelta(days=100))
    done = CloseAIHook().rotate_sub_accounts("a", {"gpt-4": 1}, 5, sink, every="90d", grace=timedelta(days=7))
    assert done.delivered == (old["id"], old["id"] + 1)
    assert done.created == (old["id"] + 1,)
    assert {sink.read(account.id) == account.token for account in done.accounts} == {True}


def test_a_machine_whose_clock_is_wrong_is_told(
    sim: Simulator, dag: Any, sink: EncryptedFileSink, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    sim.clock.advance(hours=1)
    with dag:
        RotateSubAccountsOperator(
            task_id="rotate", alias="a", model_pricing={"m": 1}, balance=1, deliver_to=sink
        )
    assert run(dag).task("rotate") == "failed 1"
    assert "This worker's clock says" in caplog.text
    assert sim.count("create") == 0
