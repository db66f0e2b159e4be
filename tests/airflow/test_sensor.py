"""The sensor as Airflow runs it: it waits, fails, skips, defers and resumes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_cell import ON_3, python, run, serialized

from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator

MODES: dict[str, dict[str, Any]] = {
    "poke": {"timeout": 0},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
HANG = 30  # seconds; only ends a test that would never end
CONTEXT: Any = {
    "ti": SimpleNamespace(
        dag_id="d",
        task_id="t",
        run_id="r",
        map_index=-1,
        try_number=1,
        max_tries=0,
        get_first_reschedule_date=lambda context: None,
    )
}


def sdk(*names: str) -> tuple[Any, ...]:
    from airflow.providers.common.compat import sdk

    return tuple(getattr(sdk, name) for name in names)


def connect(
    monkeypatch: pytest.MonkeyPatch, sim: Simulator, conn_id: str = "closeai_default", **f: Any
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**sim.connection(), **f}))


def outcome(sensor: HealthSensor) -> str | None:
    """Run a sensor once: the base to use, ``None`` for waiting, ``failed`` or ``skipped``."""
    from airflow.exceptions import AirflowException

    failed, timed_out, deferred = sdk("AirflowFailException", "AirflowSensorTimeout", "TaskDeferred")
    (skipped,) = sdk("AirflowSkipException")
    try:
        result: str = sensor.execute(CONTEXT)
    except timed_out:
        return None
    except failed:
        return "failed"
    except skipped:
        return "skipped"
    except deferred:
        return None
    except AirflowException as other:
        if type(other).__name__ == "AirflowRescheduleException":
            return None
        raise
    else:
        return result


# --- Run by Airflow -----------------------------------------------------------------------------------------


def test_it_waits_and_returns_the_base_in_every_mode(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unhealthy at the first look of each, healthy at a later one."""
    for mode in MODES:
        # Another allowed host each: then they share neither bases nor verdicts.
        extra = {"health_ttl": 0.001, "allowed_hosts": [f"{mode}.example", "127.0.0.1"]}
        connect(monkeypatch, sim, f"for_{mode}", extra=extra)
    with dag:
        sensors = [
            HealthSensor(
                task_id=mode,
                closeai_conn_id="for_{{ ti.task_id }}",
                require="{{ 'a' + 'll' }}",
                poke_interval=0.01,
                **{**MODES[mode], "timeout": 600},
            )
            for mode in MODES
        ]
        for before, after in pairwise(sensors):
            before >> after

    def break_for_each(request: Any) -> None:
        if request.call == "links":
            sim.fault("healthy", "unhealthy", base=1)

    sim.on_request = break_for_each

    done = run(dag)

    assert done.state == "success"
    for mode in MODES:
        assert done.task(mode) == "success 1"
        assert done.result(mode) == sim.base_urls[0]
    assert (sim.count("links"), sim.count("healthy")) == (3, 3 * 4)


def test_a_refused_key_fails_at_once_and_loudly(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither retried nor, with ``soft_fail``, skipped."""
    connect(monkeypatch, sim, password="sk-wrong-wrong-wrong")
    with dag:
        for mode, options in MODES.items():
            for soft in (False, True):
                HealthSensor(task_id=f"{mode}-{soft}", soft_fail=soft, retries=2, retry_delay=0, **options)

    done = run(dag)

    assert {task: done.task(task) for task in dag.task_ids} == dict.fromkeys(dag.task_ids, "failed 1")
    assert sim.count("links") == 1


@pytest.mark.parametrize("fixed", [False, True], ids=["discovery", "fixed"])
@pytest.mark.parametrize("option", ["soft_fail", "silent_fail"])
def test_a_refused_key_is_seen_whatever_the_sensor_forgives(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, option: str, fixed: bool
) -> None:
    extra = {"api_bases": sim.base_urls} if fixed else {}
    connect(monkeypatch, sim, password="sk-wrong-wrong-wrong", extra=extra)
    for mode, options in MODES.items():
        forgiving: dict[str, Any] = {**options, option: True}
        assert outcome(HealthSensor(task_id=mode, **forgiving)) == "failed"


@pytest.mark.parametrize("wrong", ["key", "extra"])
def test_a_sensor_that_never_fails_skips_in_every_mode(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    connect(monkeypatch, sim, **{"password": "sk-wrong"} if wrong == "key" else {"extra": {"deadline": "x"}})
    for mode, options in MODES.items():
        assert outcome(HealthSensor(task_id=mode, never_fail=True, **options)) == "skipped"


def test_a_key_that_is_refused_later(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fixed bases it is asked about once per discovery_ttl, not once and for all."""
    extra = {"api_bases": sim.base_urls, "discovery_ttl": 0.001, "health_ttl": 0.001}
    connect(monkeypatch, sim, extra=extra)
    assert outcome(HealthSensor(task_id="t")) == sim.base_urls[0]
    sim.fault("list", "status", status=401, body={"error": {"message": "revoked"}}, times=None)
    assert outcome(HealthSensor(task_id="t")) == "failed"


def test_many_sensors_of_fixed_bases_list_once(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, extra={"api_bases": sim.base_urls})
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda number: HealthSensor(task_id=f"t{number}").poke(CONTEXT), range(40)))
    assert [look.xcom_value for look in looks] == [sim.base_urls[0]] * 40
    assert sim.counts() == {"healthy": 2, "list": 1}
    (listed,) = [request for request in sim.requests if request.call == "list"]
    assert listed.query["page_size"] in ("1", ["1"])


def test_a_key_refused_while_it_is_deferred(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, sim, extra={"discovery_ttl": 0.001, "health_ttl": 0.001})
    sim.fault("healthy", "unhealthy", times=None)
    with dag:
        for soft in (False, True):
            HealthSensor(
                task_id=f"soft-{soft}",
                soft_fail=soft,
                deferrable=True,
                poke_interval=0.01,
                retries=2,
                retry_delay=0,
            )

    def wrong_from_now_on(request: Any) -> None:
        if request.call == "healthy":
            connect(monkeypatch, sim, password=sim.add_account("sub")["token"])

    sim.on_request = wrong_from_now_on

    done = run(dag)

    assert {task: done.task(task) for task in dag.task_ids} == dict.fromkeys(dag.task_ids, "failed 1")


def test_soft_fail_skips_when_the_time_is_over(sim: Simulator, dag: Any) -> None:
    sim.fault("healthy", "unhealthy", times=None)
    with dag:
        for mode in ("poke", "reschedule"):
            HealthSensor(task_id=f"{mode}-soft", mode=mode, timeout=0, soft_fail=True)
            HealthSensor(task_id=f"{mode}-hard", mode=mode, timeout=0, retries=2)

    done = run(dag)

    assert {task: done.task(task) for task in dag.task_ids} == {
        "poke-soft": "skipped 1",
        "poke-hard": "failed 1",
        "reschedule-soft": "skipped 1",
        "reschedule-hard": "failed 1",
    }


# --- Deferring, by hand -------------------------------------------------------------------------------------


def test_it_defers_with_the_trigger_and_the_time_left(sim: Simulator) -> None:
    from airflow_provider_closeai.triggers.health import HealthTrigger

    sim.fault("healthy", "unhealthy", times=None)
    sensor = HealthSensor(
        task_id="t",
        require="all",
        deferrable=True,
        timeout=123,
        poke_interval=45,
        closeai_conn_id="closeai_default",
    )
    (deferred,) = sdk("TaskDeferred")
    with pytest.raises(deferred) as caught:
        sensor.execute(CONTEXT)
    assert isinstance(caught.value.trigger, HealthTrigger)
    assert caught.value.trigger.serialize()[1] == {
        "closeai_conn_id": "closeai_default",
        "require": "all",
        "poke_interval": 45,
    }
    assert caught.value.method_name == "execute_complete"
    assert caught.value.timeout.total_seconds() == 123


def resume(sensor: HealthSensor, event: Any) -> Any:
    return sensor.resume_execution("execute_complete", {"event": event}, CONTEXT)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        {"status": "error", "message": "the key is refused"},
        {"status": "healthy"},
        {"status": "healthy", "base": None},
        {"status": "something"},
        {},
        None,
        "healthy",
    ],
    ids=str,
)
def test_other_events_fail_and_are_not_retried(database: None, event: Any, soft: bool) -> None:
    sensor = HealthSensor(task_id="t", deferrable=True, soft_fail=soft)
    (failed,) = sdk("AirflowFailException")
    with pytest.raises(failed) as caught:
        resume(sensor, event)
    assert ("refused" if "error" in str(event) else "unknown event") in str(caught.value)


def test_it_resumes_with_the_base(database: None) -> None:
    sensor = HealthSensor(task_id="t", deferrable=True)
    assert resume(sensor, {"status": "healthy", "base": "https://a.example"}) == "https://a.example"


def test_a_deferral_that_timed_out(database: None) -> None:
    (skipped,) = sdk("AirflowSkipException")
    failure = {"error": "Trigger timeout"}
    with pytest.raises(skipped):
        HealthSensor(task_id="t", soft_fail=True).resume_execution("__fail__", failure, CONTEXT)
    with pytest.raises(Exception, match="Trigger timeout") as caught:
        HealthSensor(task_id="t").resume_execution("__fail__", failure, CONTEXT)
    # Airflow 2 retries a sensor that timed out while it was deferred; Airflow 3 does not.
    assert type(caught.value).__name__ == ("AirflowSensorTimeout" if ON_3 else "TaskDeferralError")


# --- Arguments ----------------------------------------------------------------------------------------------


def test_defaults() -> None:
    sensor = HealthSensor(task_id="t")
    assert (sensor.require, sensor.poke_interval, sensor.mode, sensor.deferrable) == (
        "any",
        300,
        "poke",
        False,
    )
    assert sensor.closeai_conn_id == "closeai_default"


def test_the_configuration_makes_it_deferrable() -> None:
    code = (
        "from airflow_provider_closeai.sensors.health import HealthSensor as S;"
        "print('found', S(task_id='a').deferrable, S(task_id='b', deferrable=False).deferrable)"
    )
    done = python("-c", code, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE="True")
    assert "found True False" in done.stdout, done.stderr


def test_it_is_mapped_and_serialized(sim: Simulator, dag: Any) -> None:
    with dag:
        HealthSensor.partial(task_id="mapped", deferrable=True).expand(require=["any", "all"])
    assert "closeai_conn_id" in serialized(dag)
    done = run(dag)
    assert done.states("mapped") == ["success"] * 2
    assert done.results("mapped") == [sim.base_urls[0]] * 2
