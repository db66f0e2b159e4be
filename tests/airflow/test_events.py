"""Events for ``AssetWatcher``: a change is told, over restarts too, and nothing ends a watch."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_cell import ON_3, serialized
from test_example_dags import load
from test_trigger import until
from watches import HANG, A, B, C, Variables, alert, bases, stream_of, told

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers import events
from airflow_provider_closeai.triggers.events import ApiBaseChangedTrigger, CostAlertTrigger

pytestmark = pytest.mark.usefixtures("variables")
NAN, INFINITE = float("nan"), float("inf")


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
    with pytest.raises(InvalidParameter, match="poke_interval"):
        ApiBaseChangedTrigger(poke_interval=datetime.now(UTC))  # type: ignore[arg-type]
    assert ApiBaseChangedTrigger(poke_interval=timedelta(minutes=2)).poke_interval == 120


@pytest.mark.parametrize(
    ("trigger", "arguments", "name"),
    [
        *[
            (ApiBaseChangedTrigger, {"poke_interval": each}, "poke_interval")
            for each in (0, -1, NAN, INFINITE, None, "5m")
        ],
        *[(ApiBaseChangedTrigger, {"looks": each}, "looks") for each in (0, 2.9, None, "x")],
        *[
            (ApiBaseChangedTrigger, {"closeai_conn_id": each}, "closeai_conn_id")
            for each in (None, "", "{{ a }}")
        ],
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


@pytest.mark.parametrize(
    ("told_last", "now", "previous"),
    [(B, A, B), (B, B, A), (B, C, B), (B, None, B), (None, A, None), (None, None, A)],
)
def test_after_a_hand_over_what_holds_is_the_last_word(
    told_last: str | None, now: str | None, previous: str | None
) -> None:
    """Nobody knows whether the last event was stored, so the base may not be told apart from it."""
    first = {"closeai_conn_id": "closeai_default", "base": told_last, "previous": A}
    assert told(ApiBaseChangedTrigger(), [A, A, told_last, told_last]) == [None, None, None, first]
    again = {"closeai_conn_id": "closeai_default", "base": now, "previous": previous}
    assert told(ApiBaseChangedTrigger(), [now, now, now]) == [None, again, None]
    assert bases([now, now]) == ["-", "-"]


def test_hand_overs_one_after_another_lose_nothing() -> None:
    assert bases([A, B], looks=1) == ["-", B]
    assert bases([C], looks=1) == [C]
    assert bases([A], looks=1) == [A]
    assert bases([A, A], looks=1) == [A, "-"]
    assert bases([A], looks=1) == ["-"]


def test_a_base_that_flaps_after_a_hand_over_is_waited_for() -> None:
    assert bases([A, A, B, B]) == ["-", "-", "-", B]
    assert bases([A, B, A, B, A, A]) == ["-"] * 5 + [A]


def test_what_the_very_first_look_saw_is_noted_at_once() -> None:
    assert bases([A], looks=1) == ["-"]
    assert bases([B], looks=1) == [B]


def test_however_often_it_looks_airflow_has_time_to_store_an_event() -> None:
    often = {"looks": 1, "poke_interval": 0.5}
    assert bases([A, B, B, B], **often) == ["-", B, "-", "-"]
    assert bases([B, *[B] * 12], **often) == [B, *["-"] * 12]
    assert bases([B, B], **often) == ["-", "-"]


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


@pytest.mark.parametrize("text", ["", "{", "{}", "5", "null", '"text"', "[5]", '["5/5"]'])
def test_a_variable_that_somebody_damaged_ends_no_watch(
    variables: Variables, tmp_path: Path, text: str
) -> None:
    alert(tmp_path, "1", ("Search", "80%"))
    costs = CostAlertTrigger(tmp_path)
    for trigger, news in ((ApiBaseChangedTrigger(), [A, B, B]), (costs, [*stream_of(costs, 2), []])):
        told(trigger, news[:1] * 2)
        ((key, _),) = variables.texts.items()
        variables.texts[key] = text
        found = told(trigger, news)
        assert found[:2] == [None, None]
        assert (found[2] is not None) == (trigger is not costs)
        assert variables.texts[key] != text
        variables.texts.clear()


def test_an_event_is_put_off_until_it_is_noted_that_it_is_told(
    variables: Variables, caplog: pytest.LogCaptureFixture
) -> None:
    def seen(then: list[str]) -> Iterable[str]:
        yield from (A, A)
        variables.is_down = True
        yield from (B, B)
        variables.is_down = False
        yield from then

    for then, base in (([A, A], "-"), ([B], B), ([C], C)):
        variables.texts.clear()
        assert bases(seen(then), looks=1) == ["-", "-", "-", "-", base, *["-"] * (len(then) - 1)]
        assert bases([A], looks=1) == ["-" if base == "-" else A], "what holds is the last word"
    assert caplog.text.count("cannot be written") == 1


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


@contextlib.asynccontextmanager
async def watching() -> AsyncIterator[list[Any]]:
    """Look at the connection again and again; gives the list of what is seen."""
    found: list[Any] = []

    async def watch() -> None:
        async for each in Counted.open_shared_stream(Counted(poke_interval=0.001).serialize()[1]):
            found.append(each)

    task = asyncio.create_task(watch())
    yield found
    task.cancel()
    await asyncio.wait([task])


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

    async def main() -> list[Any]:
        async with watching() as found:
            await until(lambda: bool(found))
            for trouble in (*troubles, connection):
                trouble()
                await until(partial(Counted.has_begun, Counted.looks_begun + 4))
            seen = len(found)
            await until(lambda: len(found) > seen)
        return found

    found = asyncio.run(asyncio.wait_for(main(), HANG))
    assert set(found) == {sim.base_urls[0]}
    messages = [record.getMessage() for record in caplog.records if record.name == events.__name__]
    assert len(messages) == 3
    assert "refuses the key" in messages[0]
    assert all("closeai_default" in message for message in messages)
    assert "no_such_setting" in messages[2]
    assert "sk-" not in caplog.text


def test_it_sees_the_base_that_is_up(sim: Simulator, connection: Callable[..., None]) -> None:
    found = stream_of(ApiBaseChangedTrigger(), 3, lambda: sim.stop_base(0), lambda: sim.stop_base(1))
    assert found == [*sim.base_urls[:2], None]


def test_discovery_that_is_down_says_nothing_of_the_bases(
    sim: Simulator, connection: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """A host that knows no base yet: it cannot see any, which is not that none is healthy."""
    sim.fault("links", "status", status=503, times=None)

    async def main() -> list[Any]:
        async with watching() as found:
            await until(partial(Counted.has_begun, Counted.looks_begun + 4))
            connection(extra={"api_bases": sim.base_urls})
            await until(lambda: bool(found))
        return found

    found = asyncio.run(asyncio.wait_for(main(), HANG))
    assert set(found) == {sim.base_urls[0]}
    messages = [record.getMessage() for record in caplog.records if record.name == events.__name__]
    assert len(messages) == 1
    assert "status 503" in messages[0]


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


def test_a_connection_itself_is_no_id_for_a_watcher() -> None:
    """Airflow would store it, with its key, in the serialized DAG."""
    connection = SimpleNamespace(conn_id="closeai_default", password="sk-main")
    with pytest.raises(TypeError, match="give the connection's id as text") as raised:
        ApiBaseChangedTrigger(connection)  # type: ignore[arg-type]
    assert "sk-main" not in str(raised.value)
