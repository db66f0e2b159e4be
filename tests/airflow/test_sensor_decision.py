"""What the sensor decides: the same in every mode, for each state of the platform and of the connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from airflow_cell import AIRFLOW
from test_sensor import HANG, MODES, connect, outcome

from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator

BEST, SECOND, WAIT, FAILED = 0, 1, None, "failed"


def nothing(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def best_is_dead(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.stop_base(0)


def second_is_parked(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault("healthy", "parked", base=1, times=None)


def best_answers_500(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault("healthy", "error_before", base=0, times=None)


def all_unhealthy(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault("healthy", "unhealthy", times=None)


def not_recommended(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.set_status(0, "down")


def discovery_down(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.stop_discovery()


def wrong_key(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, password="sk-wrong-wrong-wrong")


def wrong_extra(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, extra={"health": 5})


def fixed_bases(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, extra={"api_bases": sim.base_urls})


def wrong_key_for_fixed_bases(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, password="sk-wrong-wrong-wrong", extra={"api_bases": sim.base_urls})


def sub_accounts_key_for_fixed_bases(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, password=sim.add_account("a")["token"], extra={"api_bases": sim.base_urls})
    sim.stop_base(1)


def fixed_bases_that_list_too_often(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault("list", "rate_limit", times=None, retry_after=500)
    connect(monkeypatch, sim, extra={"api_bases": sim.base_urls})


def fixed_bases_that_do_not_list(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.fault("list", "error_before", times=None)
    connect(monkeypatch, sim, extra={"api_bases": sim.base_urls, "max_attempts": 1})


def extra_is_a_list(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, extra="[1]")


@pytest.mark.parametrize(
    ("state", "any_", "primary", "all_"),
    [
        (nothing, BEST, BEST, BEST),
        (best_is_dead, SECOND, WAIT, WAIT),
        (second_is_parked, BEST, BEST, WAIT),
        (best_answers_500, SECOND, WAIT, WAIT),
        (not_recommended, SECOND, SECOND, SECOND),
        (all_unhealthy, WAIT, WAIT, WAIT),
        (discovery_down, WAIT, WAIT, WAIT),
        (wrong_key, FAILED, FAILED, FAILED),
        (wrong_extra, FAILED, FAILED, FAILED),
        pytest.param(
            extra_is_a_list,
            *[FAILED] * 3,
            marks=pytest.mark.skipif(AIRFLOW[:2] == (3, 1), reason="Airflow 3.1 itself does not read it"),
        ),
        (fixed_bases, BEST, BEST, BEST),
        (wrong_key_for_fixed_bases, FAILED, FAILED, FAILED),
        (sub_accounts_key_for_fixed_bases, FAILED, FAILED, FAILED),
        (fixed_bases_that_list_too_often, BEST, BEST, BEST),
        (fixed_bases_that_do_not_list, SECOND, WAIT, WAIT),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_all_modes_decide_the_same(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, state: Any, any_: Any, primary: Any, all_: Any
) -> None:
    state(sim, monkeypatch)
    for require, wanted in (("any", any_), ("primary", primary), ("all", all_)):
        expected = sim.base_urls[wanted] if isinstance(wanted, int) else wanted
        for mode, options in MODES.items():
            sensor = HealthSensor(task_id=f"{require}-{mode}", require=require, **options)
            assert outcome(sensor) == expected, (require, mode)
        assert by_trigger(require) == expected, (require, "trigger")
    assert sim.count("links") <= 1  # all of them share what was learnt
    assert sim.count("healthy", 0) <= 1
    assert sim.count("healthy", 1) <= 1
    assert sim.count("list") <= 1


def by_trigger(require: str) -> str | None:
    """Let the trigger decide: the base to use, ``None`` when it looks again and again, or ``failed``."""
    from airflow_provider_closeai.triggers.health import HealthTrigger

    async def decide() -> str | None:
        looks = 0

        class Counter(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                nonlocal looks
                looks += record.getMessage().startswith("Not healthy yet")

        handler = Counter()
        log = logging.getLogger("airflow_provider_closeai.provisioning.health")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        events = HealthTrigger(require=require, poke_interval=0.001).run()
        first = asyncio.ensure_future(anext(events))
        try:
            async with asyncio.timeout(HANG):
                while not first.done() and looks < 3:  # noqa: ASYNC110  # loggers know no asyncio
                    await asyncio.sleep(0.001)
        finally:
            log.removeHandler(handler)
        if not first.done():
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            return None
        payload = first.result().payload
        if payload["status"] == "error":
            return FAILED
        assert payload["status"] == "healthy"
        return str(payload["base"])

    return asyncio.run(decide())


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_requirement_fails_and_asks_nobody(sim: Simulator, mode: str) -> None:
    assert outcome(HealthSensor(task_id="t", require="most", **MODES[mode])) == "failed"
    assert sim.requests == []
