"""No key leaves the worker's memory: not into the database, not into a log, not into the DAG."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, everything_stored, python, run, serialized, stored_connection

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """Give a function that returns all that was logged or printed, at every level."""
    for name in ("airflow_provider_closeai", "urllib3", "requests", ""):
        caplog.set_level(logging.DEBUG, logger=name)

    def everything() -> str:
        printed = capfd.readouterr()
        return caplog.text + printed.out + printed.err

    return everything


def test_nothing_stored_or_logged_holds_a_key(sim: Simulator, dag: Any, shown: Any) -> None:
    sim.fault("create", "error_after")
    sim.fault("update", "status", status=500)
    bystander = sim.add_account("bystander")
    with dag:
        create = CreateSubAccountsOperator(
            task_id="create", alias="a", model_pricing={"m": 1}, balance=1, count=2, settle=0.1
        )
        listed = ListSubAccountsOperator(task_id="listed")
        reprice = UpdatePricingOperator(task_id="reprice", sub_accounts=create.output, model_pricing={"m": 2})
        refused = UpdatePricingOperator(task_id="refused", alias="b", model_pricing={"m": 2})
        delete = DeleteSubAccountsOperator(
            task_id="delete", sub_accounts=reprice.output, trigger_rule="all_done"
        )
        create >> listed >> reprice >> refused >> delete
    tokens: set[str] = {sim.key, bystander["token"]}
    sim.on_request = lambda request: tokens.update(account["token"] for account in sim.accounts())

    done = run(dag)

    assert done.task("delete") == "success 1"
    assert len(tokens) == 4
    stored, logged = everything_stored(), shown()
    hint = done.result("create")[0]["token_hint"]
    assert hint in stored or hint.encode("unicode_escape").decode() in stored  # it was looked for where it is
    assert "Created" in logged or "is to be deleted, last seen with" in logged
    for token in tokens:
        assert token not in stored
        assert token not in logged
        assert token[3:-4] not in stored + logged


def test_keys_given_as_sks_are_shown_nowhere(
    sim: Simulator, dag: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [sim.add_account(f"account-{number}")["token"] for number in range(5)]
    monkeypatch.setenv("AIRFLOW_VAR_ONE", keys[2])
    monkeypatch.setenv("AIRFLOW_VAR_SOME", json.dumps(keys[3:]))
    pricing = {"gpt-3.5-turbo": 2}
    with dag:
        tasks: list[Any] = [
            UpdatePricingOperator(task_id="listed", sks=keys[:2], model_pricing=pricing),
            UpdatePricingOperator(task_id="text", sks=",".join(keys[:2]), model_pricing=pricing),
            UpdatePricingOperator(task_id="one", sks="{{ var.value.one }}", model_pricing=pricing),
            UpdatePricingOperator(task_id="each", sks=["{{ var.value.one }}"], model_pricing=pricing),
            UpdatePricingOperator(task_id="some", sks="{{ var.value.some }}", model_pricing=pricing),
            DeleteSubAccountsOperator(
                task_id="gone", sks="{{ var.json.some }}", missing="fail", dry_run=True
            ),
            DeleteSubAccountsOperator(task_id="deleted", sks=keys[0]),
            DeleteSubAccountsOperator(
                task_id="wrong", sks=[keys[0], "sk-nobody-has-this-key"], missing="fail"
            ),
        ]
        for before, after in pairwise(tasks):
            before >> after
        tasks[-1].trigger_rule = tasks[-2].trigger_rule = "all_done"
    dag.render_template_as_native_obj = True
    text = serialized(dag)

    done = run(dag)

    states = {task.task_id: done.task(task.task_id) for task in tasks}
    assert states.pop("wrong") == "failed 1"
    assert set(states.values()) == {"success 1"}
    assert [account["token"] for account in sim.accounts()] == keys[1:]
    assert len(sim.requests) > 0
    assert sim.count("delete") == 1
    stored, logged = everything_stored(), shown()
    for key in [*keys, sim.key, "sk-nobody-has-this-key"]:
        assert key not in text
        assert key not in stored
        assert key not in logged
    assert "sks" not in done.rendered("listed")
    assert "are not listed: [sk-…" in logged


@pytest.mark.parametrize(
    "wrap",
    [lambda value: value, lambda value: [value], lambda value: {"a": (value,)}],
    ids=["", "list", "deep"],
)
def test_keys_from_another_task_are_refused_while_the_dag_is_parsed(dag: Any, wrap: Any) -> None:
    with dag:
        other = ListSubAccountsOperator(task_id="other")
        operators: list[tuple[Any, dict[str, Any]]] = [
            (DeleteSubAccountsOperator, {}),
            (UpdatePricingOperator, {"model_pricing": {"m": 1}}),
        ]
        for operator, more in operators:
            with pytest.raises(ValueError, match="sks must not come from another task"):
                operator(task_id=operator.__name__, sks=wrap(other.output), **more)


def test_keys_are_not_mapped_over(dag: Any) -> None:
    key = "sk-" + "abcdefgh" * 4
    with dag:
        ways: list[Callable[[Any], Any]] = [
            lambda part: part.expand(sks=[[key]]),
            lambda part: part.expand_kwargs([{"sks": [key]}]),
        ]
        for number, mapped in enumerate(ways):
            with pytest.raises(ValueError, match="sks cannot be mapped"):
                mapped(DeleteSubAccountsOperator.partial(task_id=f"mapped-{number}"))
        with pytest.raises(ValueError, match="sks cannot be mapped"):
            UpdatePricingOperator.partial(task_id="partial", sks=[key]).expand(model_pricing=[{"m": 1}])
    assert key not in serialized(dag)


def test_a_task_with_a_stored_connection_stores_no_key_in_the_clear(
    sim: Simulator, dag: Any, shown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    with stored_connection(sim.connection()):
        with dag:
            ListSubAccountsOperator(task_id="list")
        done = run(dag)
        assert done.task("list") == "success 1"
        assert sim.key not in everything_stored()
        assert sim.key not in shown()


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxys_password_is_in_no_text_of_ours(
    sim: Simulator,
    dag: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    scheme: str,
) -> None:
    for name in ("airflow_provider_closeai", "urllib3", "requests", ""):
        caplog.set_level(logging.DEBUG, logger=name)
    extra = {
        "proxies": {"all": f"{scheme}://user:geheim-geheim@127.0.0.1:9"},
        "max_attempts": 1,
        "deadline": 2,
    }
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps({**sim.connection(), "extra": extra}))
    fixed = {**sim.connection(), "extra": {**extra, "api_bases": sim.base_urls}}
    monkeypatch.setenv("AIRFLOW_CONN_FIXED", json.dumps(fixed))
    with dag:
        for conn_id in ("closeai_default", "fixed"):
            ListSubAccountsOperator(task_id=f"list-{conn_id}", closeai_conn_id=conn_id)
            HealthSensor(task_id=f"wait-{conn_id}", closeai_conn_id=conn_id, timeout=0)
            DeleteSubAccountsOperator(task_id=f"delete-{conn_id}", alias="a", closeai_conn_id=conn_id)
    done = run(dag)
    assert {done.task(task) for task in dag.task_ids} == {"failed 1"}
    assert sim.requests == []
    assert "geheim" not in everything_stored()
    printed = capfd.readouterr()
    lines = f"{caplog.text}\n{printed.out}\n{printed.err}".splitlines()
    # Airflow's own line about what it masks is in `airflow dags test` only.
    assert [line for line in lines if "geheim" in line and "MaskSecret" not in line] == []


TWO_TASKS = """
import sys
sys.path.insert(0, {folder!r})
from airflow.providers.common.compat.sdk import DAG, BaseHook, task, timezone
from airflow_cell import run
from airflow_provider_closeai.operators.sub_accounts import ListSubAccountsOperator

with DAG({name!r} + "_airflow", schedule=None, start_date=timezone.datetime(2026, 1, 1)) as airflow:
    task(task_id="read")(lambda: BaseHook.get_connection("closeai_default") and None)()
with DAG({name!r} + "_ours", schedule=None, start_date=timezone.datetime(2026, 1, 1)) as ours:
    ListSubAccountsOperator(task_id="list")
for dag in (airflow, ours):
    state = run(dag).state
    for stream in (sys.stdout, sys.stderr):
        print(f"(ended: {{state}})", file=stream, flush=True)
"""


@pytest.mark.e2e
def test_nothing_of_ours_adds_to_what_airflow_prints_of_a_connection(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In ``dags test`` at DEBUG Airflow prints each secret that it is asked to mask."""
    extra = {"proxies": {"https": "http://user:geheim-geheim@127.0.0.1:9"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps({**sim.connection(), "extra": extra}))
    script = tmp_path / "two_tasks.py"
    script.write_text(TWO_TASKS.format(folder=str(Path(__file__).parent), name=dag.dag_id))
    done = python(str(script), AIRFLOW__LOGGING__LOGGING_LEVEL="DEBUG")
    parts = [stream.split("(ended: success)\n") for stream in (done.stdout, done.stderr)]
    assert [len(part) for part in parts] == [3, 3], done.stderr[-2000:]
    assert sim.count("list") == 1
    for secret in (sim.key, "geheim-geheim"):
        by_airflow, with_ours = (
            sum(secret in line for part in parts for line in part[run].splitlines()) for run in (0, 1)
        )
        assert with_ours == by_airflow
        assert by_airflow or AIRFLOW < (3, 2), "it was looked for where it is"


@pytest.mark.parametrize("stored", [False, True], ids=["environment", "database"])
def test_airflow_masks_the_connections_password_itself(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    """So this package does not: each such call is a line of its own at DEBUG."""
    from airflow.providers.common.compat.sdk import task

    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    with dag:

        @task
        def use() -> str:
            CloseAIHook().get_conn()
            return f"it is {redact(sim.key)}"

        use()
    if stored:
        monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    with stored_connection(sim.connection()) if stored else contextlib.nullcontext():
        assert run(dag).result("use") == "it is ***"


def test_airflow_masks_it_in_the_triggerer_too(sim: Simulator) -> None:
    from airflow_provider_closeai.triggers.health import HealthTrigger

    async def first() -> Any:
        async for event in HealthTrigger().run():
            return event.payload

    assert redact(sim.key) == sim.key
    assert asyncio.run(first())["status"] == "healthy"
    assert redact(sim.key) == "***"


def redact(text: str) -> Any:
    try:
        from airflow.sdk.log import redact as masked  # type: ignore[attr-defined]
    except ImportError:
        try:
            from airflow.sdk._shared.secrets_masker import redact as masked
        except ImportError:
            from airflow.utils.log.secrets_masker import redact as masked  # type: ignore[no-redef]
    return masked(text)
