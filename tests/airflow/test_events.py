"""Events for ``AssetWatcher``: a change is told once, over restarts too, and nothing ends a watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_cell import ON_3, serialized
from test_example_dags import load
from test_trigger import until

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import Ledger
from airflow_provider_closeai.costs.accounting.alerts import Alert
from airflow_provider_closeai.costs.store.booked import mark_reported
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers import events
from airflow_provider_closeai.triggers.events import ApiBaseChangedTrigger, CostAlertTrigger

HANG = 60  # seconds; only ends a test that would never end
NAN, INFINITE = float("nan"), float("inf")
A, B, C = "https://a.example", "https://b.example", "https://c.example"


class Variables:
    """Airflow's Variables, which only a triggerer can write; the test with a real one has the real ones."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_down = False
        self.is_absence = False  # while it is down, as Airflow's own: `get` finds nothing

    def get(self, key: str, default: Any) -> Any:
        if self.is_down and self.is_absence:
            return default
        self._refuse()
        return self.texts.get(key, default)

    def keys(self, prefix: str) -> list[str]:
        self._refuse()
        return [key for key in self.texts if key.startswith(prefix)]

    def set(self, key: str, value: str, description: str) -> None:
        self._refuse()
        self.texts[key] = value

    def _refuse(self) -> None:
        if self.is_down:
            raise RuntimeError("sk-not-to-be-logged")


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    found = Variables()
    monkeypatch.setattr(events, "Variable", found)
    return found


def told(trigger: Any, seen: Iterable[Any]) -> list[Any]:
    """Start a trigger, let it see these one by one, and give what it tells at each: a payload, or None."""

    async def main() -> list[Any]:
        payloads: list[Any] = []

        async def stream() -> AsyncIterator[Any]:
            for each in seen:
                payloads.append(None)
                yield each

        async for event in trigger.filter_shared_stream(stream()):
            payloads[-1] = event.payload
        return payloads

    return asyncio.run(asyncio.wait_for(main(), HANG))


def bases(seen: Iterable[str | None], **options: Any) -> list[Any]:
    """Give the bases that are told; "-" where nothing is."""
    payloads = told(ApiBaseChangedTrigger(**options), seen)
    return [payload["base"] if payload else "-" for payload in payloads]


@pytest.mark.parametrize(
    "trigger", [ApiBaseChangedTrigger("other", 12.5, 3), CostAlertTrigger(Path("/l"), 60)]
)
def test_it_survives_being_stored(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    module, name = path.rsplit(".", 1)
    again = getattr(import_module(module), name)(**arguments)
    assert type(again) is type(trigger)
    assert again.serialize() == (path, arguments)
    assert again.shared_stream_key() == trigger.shared_stream_key()


def test_an_interval_that_is_no_number_fails_while_the_dag_is_parsed() -> None:
    with pytest.raises(TypeError):
        ApiBaseChangedTrigger(poke_interval=datetime.now(UTC) - datetime.now(UTC))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trigger", "arguments", "name"),
    [
        *[
            (ApiBaseChangedTrigger, {"poke_interval": each}, "poke_interval")
            for each in (0, -1, NAN, INFINITE)
        ],
        (ApiBaseChangedTrigger, {"looks": 0}, "looks"),
        *[
            (CostAlertTrigger, {"ledger": each}, "ledger")
            for each in ("{{ var.value.ledger }}", " ", None, 5)
        ],
    ],
)
def test_what_would_never_tell_or_never_rest_fails_while_the_dag_is_parsed(
    trigger: Any, arguments: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidParameter, match=name):
        trigger(**arguments)


def test_a_change_that_held_is_told_once() -> None:
    assert bases([A, A, B, B, B, B, A, A, A]) == ["-", "-", "-", B, "-", "-", "-", A, "-"]


def test_the_payload_names_both_bases() -> None:
    payload = {"closeai_conn_id": "other", "base": B, "previous": A}
    assert told(ApiBaseChangedTrigger("other", looks=1), [A, B]) == [None, payload]


def test_no_healthy_base_is_a_change_too() -> None:
    assert bases([A, None, None, A, A]) == ["-", "-", None, "-", A]


@pytest.mark.parametrize("seen", [[A, B, A, B, A, B, A], [A, B, C, B, C, B, A], [A, B, A, A, B, A, A]])
def test_a_base_that_flaps_tells_nothing(seen: list[str]) -> None:
    assert bases(seen) == ["-"] * 7


def test_a_restart_tells_nothing_again_and_loses_nothing() -> None:
    assert bases([A, A, B, B, B]) == ["-", "-", "-", B, "-"]
    assert bases([B, B]) == ["-", "-"]
    # Changed while no triggerer ran.
    assert bases([C, C, C]) == ["-", C, "-"]


def test_an_event_that_airflow_may_not_have_stored_yet_is_told_again_once() -> None:
    assert bases([A, A, B, B]) == ["-", "-", "-", B]  # killed right after
    assert bases([B, B, B]) == ["-", B, "-"]
    assert bases([B, B, B]) == ["-", "-", "-"]


def test_watchers_that_differ_remember_by_themselves(variables: Variables) -> None:
    assert bases([A, B, B], looks=1) == ["-", B, "-"]
    assert bases([A, A], looks=2, closeai_conn_id="other") == ["-", "-"]
    assert bases([A, A], looks=1) == [A, "-"]
    assert len(variables.texts) == 2


@pytest.mark.parametrize("is_absence", [False, True])
def test_variables_that_cannot_be_read_only_put_off(
    variables: Variables, caplog: pytest.LogCaptureFixture, is_absence: bool
) -> None:
    bases([A, A])
    variables.is_absence = is_absence

    def seen() -> Iterable[str]:
        variables.is_down = True
        yield from (B, B, B)
        variables.is_down = False
        yield from (B, B)

    assert bases(seen()) == ["-", "-", "-", "-", B]
    assert caplog.text.count("cannot look") == 1
    assert "sk-not" not in caplog.text


@pytest.mark.parametrize("text", ["", "{", "{}", "5", "null", '"text"'])
def test_a_variable_that_somebody_damaged_ends_no_watch(
    variables: Variables, tmp_path: Path, text: str
) -> None:
    alert(tmp_path, "1", ("Search", "80%"))
    costs = CostAlertTrigger(tmp_path, 0.001)
    for trigger, news in ((ApiBaseChangedTrigger(), [A, B, B]), (costs, [*stream_of(costs, 2), []])):
        told(trigger, news[:1] * 2)
        ((key, _),) = variables.texts.items()
        variables.texts[key] = text
        found = told(trigger, news)
        assert found[:2] == [None, None]
        assert (found[2] is not None) == (trigger is not costs)
        assert variables.texts[key] != text
        variables.texts.clear()


def test_variables_that_cannot_be_written_hold_nothing_up(
    variables: Variables, caplog: pytest.LogCaptureFixture
) -> None:
    def seen() -> Iterable[str]:
        yield A
        variables.is_down = True
        yield from (A, B, B, B)

    assert bases(seen()) == ["-", "-", "-", B, "-"]
    assert caplog.text.count("cannot be written") == 1


def stream_of(trigger: Any, number: int, *then: Callable[[], Any]) -> list[Any]:
    """Let a trigger look by itself until it saw so much; does something after the first sights."""

    async def main() -> list[Any]:
        found: list[Any] = []
        stream = trigger.open_shared_stream(trigger.serialize()[1])
        async for each in stream:
            found.append(each)
            if len(found) == number:
                break
            if len(found) <= len(then):
                then[len(found) - 1]()
        await stream.aclose()
        return found

    return asyncio.run(asyncio.wait_for(main(), HANG))


@pytest.fixture
def connection(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def change(**fields: Any) -> None:
        fast = {**sim.connection(), "extra": {"health_ttl": 0.001, "discovery_ttl": 0.001}, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(fast))

    change()
    return change


class Counted(ApiBaseChangedTrigger):
    looks_begun = 0

    @classmethod
    async def _look(cls, arguments: dict[str, Any]) -> str | None:
        cls.looks_begun += 1
        return await super()._look(arguments)

    @classmethod
    def has_begun(cls, number: int) -> bool:
        return cls.looks_begun >= number


def test_a_subclass_is_found_where_it_is() -> None:
    assert Counted().serialize()[0] == f"{__name__}.Counted"


def test_nothing_ends_a_watch(
    sim: Simulator,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused key, a connection that is gone, one that is wrong: each is logged once."""
    caplog.set_level("WARNING", events.__name__)
    troubles: list[Callable[[], None]] = [
        lambda: connection(password="sk-wrong-wrong-wrong"),
        lambda: monkeypatch.delenv("AIRFLOW_CONN_CLOSEAI_DEFAULT"),
        lambda: connection(extra={"no_such_setting": 1}),
    ]
    found: list[Any] = []

    async def watch() -> None:
        async for each in Counted.open_shared_stream(Counted(poke_interval=0.001).serialize()[1]):
            found.append(each)

    async def main() -> None:
        watching = asyncio.create_task(watch())
        await until(lambda: bool(found))
        for trouble in (*troubles, connection):
            trouble()
            await until(partial(Counted.has_begun, Counted.looks_begun + 4))
        seen = len(found)
        await until(lambda: len(found) > seen)
        watching.cancel()
        await asyncio.wait([watching])

    asyncio.run(asyncio.wait_for(main(), HANG))
    assert set(found) == {sim.base_urls[0]}
    messages = [record.getMessage() for record in caplog.records if record.name == events.__name__]
    assert len(messages) == 3
    assert "refuses the key" in messages[0]
    assert all("closeai_default" in message for message in messages)
    assert "no_such_setting" in messages[2]
    assert "sk-" not in caplog.text


def test_it_sees_the_base_that_is_up(sim: Simulator, connection: Callable[..., None]) -> None:
    found = stream_of(
        ApiBaseChangedTrigger(poke_interval=0.001), 3, lambda: sim.stop_base(0), lambda: sim.stop_base(1)
    )
    assert found == [*sim.base_urls[:2], None]


def alert(ledger: Path, run: str, *lines: tuple[str, str], month: str = "2026-11") -> None:
    """Note alerts as a report does."""
    found = [Alert(month, team, threshold, Decimal(60), Decimal(50), "CNY") for team, threshold in lines]
    mark_reported(Ledger(ledger), found, at=datetime(2026, 11, 20, int(run), tzinfo=UTC), run=run * 12)


def test_alerts_are_told_when_a_report_has_raised_them(database: None, tmp_path: Path) -> None:
    trigger = CostAlertTrigger(tmp_path / "ledger", 0.001)
    ledger = tmp_path / "ledger"
    alert(ledger, "1", ("Search", "80%"))

    def more() -> None:
        alert(ledger, "2", ("Search", "100%"), ("Ads", "80%"))
        alert(ledger, "3", ("Ads", "forecast 100%"), month="2026-12")

    seen = stream_of(trigger, 4, lambda: None, more)
    first = [
        {"billing_month": "2026-11", "team": "Search", "threshold": "100%"},
        {"billing_month": "2026-11", "team": "Ads", "threshold": "80%"},
        {"billing_month": "2026-12", "team": "Ads", "threshold": "forecast 100%"},
    ]
    assert told(trigger, seen) == [None, None, {"ledger": str(ledger), "alerts": first}, None]
    assert told(trigger, seen[-1:]) == [None], "not again after a restart"


def test_a_ledger_that_is_out_of_reach_for_a_look_is_no_news(database: None, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    alert(ledger, "1", ("Search", "80%"))
    trigger = CostAlertTrigger(ledger, 0.001)
    seen = stream_of(
        trigger, 3, lambda: ledger.rename(tmp_path / "away"), lambda: (tmp_path / "away").rename(ledger)
    )
    assert told(trigger, seen) == [None] * 3


def test_the_first_alert_of_a_ledger_is_told(database: None, tmp_path: Path) -> None:
    trigger = CostAlertTrigger(tmp_path, 0.001)
    seen = stream_of(trigger, 2, lambda: alert(tmp_path, "1", ("Search", "100%")))
    assert told(trigger, seen)[1]["alerts"][0]["threshold"] == "100%"


def test_a_damaged_file_of_alerts_holds_up_none(
    database: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = CostAlertTrigger(tmp_path, 0.001)

    def raise_two() -> None:
        alert(tmp_path, "1", ("Search", "100%"))
        alert(tmp_path, "2", ("Ads", "100%"))
        file = min(tmp_path.glob("alerts/*/*"))
        file.write_text(file.read_text() + "more")

    seen = stream_of(trigger, 2, raise_two)
    assert [line["team"] for line in told(trigger, seen)[1]["alerts"]] == ["Ads"]
    assert "damaged" in caplog.text


@pytest.mark.skipif(not ON_3, reason="AssetWatcher is of Airflow 3")
def test_the_example_tells_a_channel(database: None, caplog: pytest.LogCaptureFixture) -> None:
    dag = load("closeai_events")
    assert dag.doc_md
    assert {"closeai", "example"} <= set(dag.tags)
    text = serialized(dag)
    assert all(trigger in text for trigger in ("ApiBaseChangedTrigger", "CostAlertTrigger"))
    payloads = [
        {"closeai_conn_id": "closeai_default", "base": B, "previous": A},
        {"closeai_conn_id": "closeai_default", "base": None, "previous": B},
        {"ledger": "/l", "alerts": [{"billing_month": "2026-11", "team": "Search", "threshold": "100%"}]},
    ]
    happened = {"asset": [SimpleNamespace(extra={"payload": payload}) for payload in payloads]}

    texts = dag.get_task("tell").python_callable(triggering_asset_events=happened)

    assert texts == [
        f"The CloseAI base to use is {B} now; it was {A}.",
        f"No CloseAI base is healthy; the last one was {B}.",
        "Search has reached 100% in 2026-11.",
    ]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"][-3:] == texts
