"""The trigger: a thousand of them look once, and none of them ever holds up the triggerer's loop."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow_cell import everything_stored, run, stored_connection
from asgiref.sync import sync_to_async

from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Request, Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

HANG = 60  # seconds; only ends a test that would never end


def in_loop(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, HANG))


async def first_event(trigger: HealthTrigger) -> dict[str, Any]:
    """Give the event, without what was seen of all bases."""
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        assert bool(payload.pop("seen", None)) == (payload["status"] == "healthy")
        return payload
    raise AssertionError("it ended without an event")


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110  # what is waited for happens in other threads
        await asyncio.sleep(0.001)


class Held:
    """Holds one call's answers back until they are released."""

    def __init__(self, sim: Simulator, call: str) -> None:
        self.call = call
        self.entered, self.released = threading.Event(), threading.Event()
        sim.on_request = self

    def __call__(self, request: Request) -> None:
        if request.call == self.call:
            self.entered.set()
            assert self.released.wait(HANG)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    from airflow_provider_closeai.triggers import health

    assert not health._running


def test_it_survives_being_stored() -> None:
    trigger = HealthTrigger("other", "all", 12.5)
    path, arguments = trigger.serialize()
    assert (
        json.loads(json.dumps(arguments))
        == arguments
        == {
            "closeai_conn_id": "other",
            "require": "all",
            "poke_interval": 12.5,
        }
    )
    module, name = path.rsplit(".", 1)
    again = getattr(import_module(module), name)(**arguments)
    assert type(again) is HealthTrigger
    assert again.serialize() == (path, arguments)
    assert HealthTrigger().serialize()[1]["poke_interval"] == 300


def test_it_fires_with_the_best_base_that_is_up(sim: Simulator) -> None:
    sim.stop_base(0)
    assert in_loop(first_event(HealthTrigger())) == {"status": "healthy", "base": sim.base_urls[1]}


def test_a_refused_key_fires_an_error_without_the_key(sim: Simulator, monkeypatch: Any) -> None:
    wrong = {**sim.connection(), "password": "sk-wrong-wrong-wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(wrong))
    event = in_loop(first_event(HealthTrigger()))
    assert event["status"] == "error"
    assert "refuses the key" in event["message"]
    assert "sk-wrong" not in event["message"]
    assert sim.count("links") == 1


def test_a_connection_that_is_missing_is_named(database: None) -> None:
    """It is raised, so that Airflow retries: a database that does not answer looks the same."""
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    with pytest.raises(AirflowNotFoundException, match="nobody_made_this"):
        in_loop(first_event(HealthTrigger("nobody_made_this")))


def test_it_waits_through_everything_that_may_pass(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery is down, then all bases are dead, then one is up."""
    extra = {"health_ttl": 0.001, "discovery_ttl": 0.001}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps({**sim.connection(), "extra": extra}))
    # Discovery puts off the next question for the seconds that it was told: hardly any.
    sim.fault("links", "rate_limit", times=3, retry_after=0.001)
    sim.fault("healthy", "error_before", times=4)
    event = in_loop(first_event(HealthTrigger(poke_interval=0.001)))
    assert event == {"status": "healthy", "base": sim.base_urls[0]}
    assert sim.count("healthy") >= 6
    assert sim.count("links") >= 4


def test_a_thousand_look_once(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "airflow_provider_closeai.provisioning.health")

    async def main() -> list[dict[str, Any]]:
        return await asyncio.gather(*(first_event(HealthTrigger()) for _ in range(1000)))

    assert in_loop(main()) == [{"status": "healthy", "base": sim.base_urls[0]}] * 1000
    assert sim.counts() == {"links": 1, "healthy": 2}
    assert sum(record.getMessage().startswith("Use ") for record in caplog.records) == 1


def test_a_thousand_that_want_different_things_probe_once(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        monkeypatch.setenv(f"AIRFLOW_CONN_NUMBER_{number}", json.dumps(sim.connection()))
    wishes = [(f"number_{n % 5}", ("any", "primary", "all")[n % 3], 200 + n) for n in range(1000)]

    async def main() -> list[dict[str, Any]]:
        return await asyncio.gather(*(first_event(HealthTrigger(*wish)) for wish in wishes))

    assert in_loop(main()) == [{"status": "healthy", "base": sim.base_urls[0]}] * 1000
    assert sim.counts() == {"links": 1, "healthy": 2}


@pytest.mark.parametrize("call", ["links", "healthy"])
def test_the_loop_goes_on_while_an_answer_is_awaited(sim: Simulator, call: str) -> None:
    held = Held(sim, call)

    async def main() -> tuple[list[dict[str, Any]], int]:
        waiting = asyncio.gather(*(first_event(HealthTrigger()) for _ in range(100)))
        await until(held.entered.is_set)
        ticks = 0
        while ticks < 1000:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        held.released.set()
        return await waiting, ticks

    events, ticks = in_loop(main())
    assert {event["base"] for event in events} == {sim.base_urls[0]}
    assert ticks == 1000
    assert sim.counts() == {"links": 1, "healthy": 2}


def test_checks_that_hang_keep_no_thread_from_others(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty connections whose bases do not answer: what else wants a thread of the loop gets one."""
    held = Held(sim, "healthy")
    names = [f"number_{number}" for number in range(40)]
    for name in names:  # each has a cache, and so a probe, of its own
        fields = {**sim.connection(), "extra": {"allowed_hosts": ["127.0.0.1", name]}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))

    async def main() -> list[dict[str, Any]]:
        waiting = asyncio.gather(*(first_event(HealthTrigger(name)) for name in names))
        await until(held.entered.is_set)
        others = [asyncio.to_thread(int, "1"), sync_to_async(int, thread_sensitive=False)("1")]
        assert await asyncio.gather(*others) == [1, 1]
        assert not waiting.done()
        held.released.set()
        return await waiting

    assert in_loop(main()) == [{"status": "healthy", "base": sim.base_urls[0]}] * 40


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_one_that_is_cancelled_disturbs_no_other(sim: Simulator, victim: int) -> None:
    """Also not the first, which started the look that all of them await."""
    held = Held(sim, "healthy")

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(first_event(HealthTrigger())) for _ in range(3)]
        await until(held.entered.is_set)
        tasks[victim].cancel()
        await asyncio.wait([tasks[victim]])
        held.released.set()
        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        return results

    found = in_loop(main())
    assert isinstance(found.pop(victim), asyncio.CancelledError)
    assert found == [{"status": "healthy", "base": sim.base_urls[0]}] * 2
    assert sim.counts() == {"links": 1, "healthy": 2}


def test_a_look_that_nobody_awaits_any_more_fails_quietly(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {**sim.connection(), "password": "sk-wrong-wrong-wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(wrong))
    held = Held(sim, "links")

    async def main() -> None:
        from airflow_provider_closeai.triggers import health

        task = asyncio.create_task(first_event(HealthTrigger()))
        await until(held.entered.is_set)
        task.cancel()
        await asyncio.wait([task])
        held.released.set()
        await until(lambda: not health._running)

    in_loop(main())
    assert "never retrieved" not in caplog.text


def test_nothing_blocks_in_the_loops_thread(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is made, no lock is taken and nobody sleeps there."""
    here = threading.get_ident()
    seen: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append(f"{name} {'in the loop' if threading.get_ident() == here else 'in a thread'}")
            return real(*arguments, **options)

        return call

    sim.fault("healthy", "error_before", base=0)
    monkeypatch.setattr(socket.socket, "connect", watched("connect", socket.socket.connect))
    monkeypatch.setattr(fcntl, "flock", watched("flock", fcntl.flock))
    monkeypatch.setattr(time, "sleep", watched("sleep", time.sleep))
    monkeypatch.setattr(tempfile, "gettempdir", watched("gettempdir", tempfile.gettempdir))

    assert in_loop(first_event(HealthTrigger()))["base"] == sim.base_urls[1]

    assert {"connect in a thread", "flock in a thread", "gettempdir in a thread"} <= set(seen)
    assert not [what for what in seen if "in the loop" in what]


def test_a_stored_connection_is_read_while_it_is_deferred(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    sim.fault("healthy", "unhealthy", times=2)
    fields = {**sim.connection(), "extra": {"health_ttl": 0.001}}
    with dag:
        HealthSensor(task_id="wait", deferrable=True, poke_interval=0.01)
    with stored_connection(fields):
        done = run(dag)
    assert done.task("wait") == "success 1"
    assert done.result("wait") == sim.base_urls[0]
    assert sim.count("healthy") == 4


# All of them look at once, and each look asks for Variables.
CONNECTIONS = ("closeai_default", "number_1", "number_2", "number_3", "number_4")
DEFERRED = [(conn_id, require) for conn_id in CONNECTIONS for require in ("any", "primary", "all")]


@pytest.mark.e2e
def test_in_a_real_triggerer(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Tasks deferred on a stored connection, the cache in a Variable: one probe per base, and it stays alive.

    Asked for a Variable from a thread that it does not know of, the triggerer of Airflow 3.1 dies.
    """
    monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT")
    with dag:
        HealthSensor.partial(task_id="wait").expand(require=["any"] * len(DEFERRED))
    fields = {**sim.connection(), "extra": {"cache": "variable"}}
    for conn_id, _ in DEFERRED[3:]:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
    with stored_connection(fields):
        done = run(dag)
        defer_again(done.run)
        triggerer = subprocess.Popen(
            [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"],
            env={**os.environ, "TMPDIR": str(tmp_path)},  # as on another host
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            states = wait_for_events(done.run, triggerer)
        finally:
            os.killpg(triggerer.pid, signal.SIGTERM)
            try:
                output, _ = triggerer.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(triggerer.pid, signal.SIGKILL)
                output, _ = triggerer.communicate(timeout=20)
    print(output)
    assert {state for state, _ in states} == {"scheduled"}
    assert [arguments for _, arguments in states if sim.base_urls[0] not in str(arguments)] == []
    assert "cannot be read" not in output
    assert "cannot be written" not in output
    assert sim.key not in output
    assert sim.key not in everything_stored()
    # Once for the run, and once, after the Variable was taken away, for all triggers.
    assert (sim.count("links"), sim.count("healthy")) == (2, 4)
    assert everything_stored().count("variable: closeai_bases_") == 1


def defer_again(run: Any) -> None:
    """Make a run's finished sensors deferred ones, as a worker would leave them."""
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    where = {"dag": run.dag_id, "run": run.run_id}
    deferred = (
        "update task_instance set state='deferred', trigger_id=:id, next_method='execute_complete' "
        "where dag_id=:dag and run_id=:run and task_id='wait' and map_index=:index"
    )
    with create_session() as session:
        session.execute(sqlalchemy.text("delete from variable"))
        session.execute(
            sqlalchemy.text("update dag_run set state='running' where dag_id=:dag and run_id=:run"), where
        )
        for index, (conn_id, require) in enumerate(DEFERRED):
            path, arguments = HealthTrigger(conn_id, require).serialize()
            trigger = Trigger(classpath=path, kwargs=arguments)
            session.add(trigger)
            session.flush()
            session.execute(sqlalchemy.text(deferred), {**where, "id": trigger.id, "index": index})


def wait_for_events(run: Any, triggerer: subprocess.Popen[str]) -> list[Any]:
    from airflow.utils.session import create_session

    until = time.monotonic() + 120
    query = (
        "select state, next_kwargs from task_instance where dag_id=:dag and run_id=:run and task_id='wait'"
    )
    while True:
        with create_session() as session:
            found = list(session.execute(sqlalchemy.text(query), {"dag": run.dag_id, "run": run.run_id}))
        if all(state != "deferred" for state, _ in found) or triggerer.poll() is not None:
            return found
        assert time.monotonic() < until, "the triggerer fired nothing"
        time.sleep(0.1)  # between two looks at what another process does
