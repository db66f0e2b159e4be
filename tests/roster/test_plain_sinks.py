"""Rotation into a sink that cannot say what it holds: what this host noted says it."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from support import client_of, clock_with

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import cleaning
from airflow_provider_closeai.local_state.folder import private_directory
from airflow_provider_closeai.local_state.stores import FileStore
from airflow_provider_closeai.provisioning.runner.rotating import DeliveryJournal
from airflow_provider_closeai.roster import Applied, Options, apply, read_roster
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.base import SinkKeys


class Plain:
    """Only delivers."""

    def deliver(self, account: SubAccount) -> str:
        return f"key-{account.id}"


class Other(Plain):
    """Keeps keys elsewhere."""


class Runs:
    """Rosters of one alias each, with sinks of their own or one for all."""

    def __init__(self, sim: Simulator) -> None:
        self._client = client_of(sim, clock=clock_with(now=lambda: sim.clock.now().timestamp()))

    def sync(self, alias: str, sink: Plain) -> Applied:
        entry = {"alias": alias, "balance": 1, "model_pricing": {"gpt-4": 1}}
        entry["rotate"] = {"every": "90d", "grace": "7d"}
        roster = read_roster({"version": 1, "owns": [alias], "accounts": [entry]})
        options = Options(settle=0, max_create=3)
        return apply(self._client, roster, options, keys=SinkKeys(sink, {}, str))


@pytest.mark.parametrize("second", [Plain, Other])
def test_two_rosters_of_a_host_keep_what_the_other_delivered(sim: Simulator, second: type[Plain]) -> None:
    runs = Runs(sim)
    sinks = {"team-a": Plain(), "team-b": second()}
    made = []
    for days in (0, 1, 90, 8):
        sim.clock.advance(days=days)
        done = [runs.sync(alias, sink) for alias, sink in sinks.items()]
        made.append([(each.counts["created"], each.counts["deleted"]) for each in done])
        if days == 1:
            assert [each.references for each in done] == [{}, {}]
    assert made == [[(1, 0)] * 2, [(0, 0)] * 2, [(1, 0)] * 2, [(0, 1)] * 2]


class At(Plain):
    """Shows where it keeps keys."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._store = object()

    def __repr__(self) -> str:
        return f"At({self._place!r}, {self._store!r})"


def test_a_sink_of_the_same_class_at_another_place_gets_the_keys(sim: Simulator) -> None:
    runs = Runs(sim)
    given = [list(runs.sync("team-a", At(place)).references) for place in ("one/", "one/", "two/", "two/")]
    assert given == [[1], [], [1], []]


class Unstable(Plain):
    """Shows another text in each run."""

    _runs = itertools.count()

    def __repr__(self) -> str:
        return f"Unstable({next(self._runs)})"


class Broken(Plain):
    """Cannot show itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def notes() -> list[Path]:
    """Return the files in which it is noted when what was delivered."""
    return [each for each in private_directory().glob("*.note.json") if re.match(r'\{"\d', each.read_text())]


def age(seconds: float) -> None:
    """Make everything of this host older, and clean."""
    for path in private_directory().iterdir():
        os.utime(path, times=(path.stat().st_atime, path.stat().st_mtime - seconds))
    cleaning.clean(private_directory())


def test_what_was_delivered_is_known_as_long_as_the_roster_runs(sim: Simulator) -> None:
    runs = Runs(sim)
    given = []
    for _ in range(4):
        given.append(list(runs.sync("team-a", Plain()).references))
        age(cleaning.KEEP * 0.6)
    assert given == [[1], [], [], []]


def test_another_sinks_notes_are_forgotten_by_themselves(sim: Simulator) -> None:
    runs = Runs(sim)
    for _ in range(4):
        runs.sync("team-a", Unstable())
        runs.sync("team-b", Plain())
        age(cleaning.KEEP * 0.6)
    assert len(notes()) == 2  # of the last run


def test_a_sink_that_cannot_show_itself_is_known_by_its_class(sim: Simulator) -> None:
    runs = Runs(sim)
    assert [list(runs.sync("team-a", Broken()).references) for _ in range(2)] == [[1], []]


@pytest.mark.parametrize("text", ['{"1":1e300}', '{"1":99999999999999999}', '{"1":null}', "[]", "{", ""])
def test_a_note_that_cannot_be_read_is_empty(sim: Simulator, text: str) -> None:
    runs = Runs(sim)
    runs.sync("team-a", Plain())
    (note,) = notes()
    note.write_text(text)
    assert [list(runs.sync("team-a", Plain()).references) for _ in range(2)] == [[1], []]


def test_a_note_holds_when_very_many_keys_were_delivered(sim: Simulator) -> None:
    client = client_of(sim)
    ids = range(1_000_000, 1_020_000)
    DeliveryJournal(client, "roster", "sink").note(ids, client.clock.utc_now())
    assert list(DeliveryJournal(client, "roster", "sink").held) == list(ids)
    assert DeliveryJournal(client, "roster", "another").held == {}


def test_it_is_said_when_nothing_could_be_noted(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(store: FileStore, text: str) -> None:
        raise OSError("no space left")

    client = client_of(sim)
    monkeypatch.setattr(FileStore, "write", refuse)
    DeliveryJournal(client, "roster", "sink").note([1], client.clock.utc_now())
    assert "the next run delivers them again" in caplog.text
