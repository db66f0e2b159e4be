"""An extra that is no JSON object: nothing is sent on any path, and the person is told what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from airflow_cell import AIRFLOW, run, stored_connection

from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

EXTRAS = {
    "list": "[1]",
    "text in text": '"{}"',
    "number": "5",
    "null": "null",
    "broken": '{"allowed_hosts": "a"',
    "no JSON": "allowed_hosts=a",
}
#: Airflow 3.1 outside of a task, and each 3 for a stored one, refuses such a connection as "isn't defined".
READS_IT = AIRFLOW < (3, 0) or AIRFLOW >= (3, 2)


every_extra = pytest.mark.parametrize("told", EXTRAS, indirect=True)


@pytest.fixture
def told(request: pytest.FixtureRequest, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Break the connection's extra; gives what is to be said about it."""
    fields = {**sim.connection(), "extra": EXTRAS[request.param]}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(fields))
    return "The connection's extra is "


@every_extra
def test_in_the_hook_and_test_connection(sim: Simulator, told: str) -> None:
    if not READS_IT:
        pytest.skip("Airflow 3.1 reads no such connection outside of a task")
    ok, message = CloseAIHook().test_connection()
    assert not ok
    assert told in message
    calls: list[Callable[[CloseAIHook], Any]] = [
        lambda hook: hook.get_conn(),
        lambda hook: hook.list_bases(),
        lambda hook: hook.get_base_url(),
        lambda hook: hook.check_health(),
        lambda hook: list(hook.iter_sub_accounts()),
        lambda hook: hook.get_sub_account(1),
        lambda hook: hook.create_sub_accounts("a", {"m": 1}, 1),
        lambda hook: hook.update_pricing({"m": 1}, alias="a"),
        lambda hook: hook.delete_sub_accounts(alias="a"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=told):
            call(CloseAIHook())
    assert sim.requests == []


@every_extra
def test_in_the_trigger(sim: Simulator, told: str) -> None:
    async def first() -> Any:
        async for event in HealthTrigger().run():
            return event.payload

    if READS_IT:
        event = asyncio.run(first())
        assert event["status"] == "error"
        assert told in event["message"]
    else:
        with pytest.raises(Exception, match="isn't defined"):
            asyncio.run(first())
    assert sim.requests == []


@pytest.mark.parametrize("told", ["list", "no JSON"], indirect=True)
def test_in_tasks_without_a_retry(
    sim: Simulator, told: str, dag: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    again: dict[str, Any] = {"retries": 2, "retry_delay": 0}
    with dag:
        CreateSubAccountsOperator(task_id="create", alias="a", model_pricing={"m": 1}, balance=1, **again)
        UpdatePricingOperator(task_id="reprice", alias="a", model_pricing={"m": 1}, **again)
        DeleteSubAccountsOperator(task_id="delete", alias="a", **again)
        ListSubAccountsOperator(task_id="list", **again)
        HealthSensor(task_id="poke", **again)
        HealthSensor(task_id="reschedule", mode="reschedule", **again)
        HealthSensor(task_id="defer", deferrable=True, **again)
    done = run(dag)
    assert {task: done.task(task) for task in dag.task_ids} == dict.fromkeys(dag.task_ids, "failed 1")
    assert sim.requests == []
    printed = capfd.readouterr()
    assert told in printed.out + printed.err + caplog.text


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_in_a_uri(sim: Simulator, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    uri = f"closeai://:{sim.key}@{quote(sim.discovery_url, safe='')}/?{urlencode({'__extra__': extra})}"
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", uri)
    with pytest.raises(Exception, match="The connection's extra is " if READS_IT else "isn't defined"):
        CloseAIHook().get_conn()
    assert sim.requests == []


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_in_the_database(
    sim: Simulator,
    dag: Any,
    monkeypatch: pytest.MonkeyPatch,
    extra: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As an older Airflow, or a hand, stored it."""
    import sqlalchemy
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    with dag:
        ListSubAccountsOperator(task_id="list")
    with stored_connection(sim.connection()):
        with create_session() as session:
            change = "update connection set extra=:extra, is_extra_encrypted=:no"
            session.execute(sqlalchemy.text(change), {"extra": extra, "no": False})
        done = run(dag)
    assert done.task("list") == "failed 1"
    assert sim.requests == []
    printed = capfd.readouterr()
    told = "The connection's extra is " if AIRFLOW < (3, 0) else "isn't defined"
    assert told in printed.out + printed.err + caplog.text


@pytest.mark.parametrize("way", ["object", "text", "query", "__extra__", "database"])
def test_an_object_arrives_whichever_way_it_is_given(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    from airflow.providers.common.compat.sdk import task

    seen = []
    with dag:
        task(task_id="read")(lambda: seen.append(CloseAIHook().get_conn().config))()
    extra = {"allowed_hosts": "127.0.0.*", "deadline": 7, "verify": False, "proxies": {"https": "http://p:1"}}
    fields = {**sim.connection(), "extra": extra}
    uri = f"closeai://:{sim.key}@{quote(sim.discovery_url, safe='')}/?"
    query = {"allowed_hosts": "127.0.0.*", "deadline": "7", "verify": "false", "proxies": extra["proxies"]}
    given = {
        "object": json.dumps(fields),
        "text": json.dumps({**fields, "extra": json.dumps(extra)}),
        "query": uri + urlencode({**query, "proxies": json.dumps(extra["proxies"])}),
        "__extra__": uri + urlencode({"__extra__": json.dumps(extra)}),
    }
    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    if way == "database":
        with stored_connection(fields):
            run(dag)
    else:
        monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", given[way])
        run(dag)
    (config,) = seen
    assert config.origin == sim.discovery_url
    assert (config.allowed_hosts, config.deadline, config.verify) == (("127.0.0.*",), 7, False)
    assert config.proxies == {"https": "http://p:1"}
