"""The shared cache under attack: whole tasks run on, and the key goes nowhere new.

``tests/client/test_cache.py`` looks at what the cache itself makes of a damaged file. Here somebody wants the
main key: his host listens, and every connection to it is counted. There must be none, and no task may fail.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import config_of, raw_server, read_request

from airflow_provider_closeai.client.cache import STALE_FOR, Cache, HealthCheckResult, PoolState
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import DiscoveryError
from airflow_provider_closeai.client.models import ApiBase
from airflow_provider_closeai.local_state import Clock, private_directory
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.health import check_bases
from airflow_provider_closeai.provisioning.requests import CreateRequest, DeleteRequest, RepriceRequest
from airflow_provider_closeai.simulator import Simulator

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


NO_WAITS = Clock(sleep=lambda seconds: None)


@dataclass
class Scene:
    """A platform, a deployment that has worked with it already, and an attacker's host."""

    sim: Simulator
    evil: str
    connections: list[int]

    @property
    def file(self) -> Path:
        return private_directory() / f"{Cache(config_of(self.sim)).name}.json"

    def forged(self, key: str = "sk-of-the-attacker-0123", age: float = 0.0, **known: Any) -> str:
        """Write a cache that sends everything to the attacker, signed with a key."""
        now = time.time() - age
        verdicts = {self.evil: HealthCheckResult(healthy=True, at=now, detail="served a call")}
        knowledge = PoolState(bases=(ApiBase(self.evil, priority=99),), discovered_at=now, verdicts=verdicts)
        payload = msgspec.json.encode(msgspec.structs.replace(knowledge, **known)).decode()
        signer = Cache(msgspec.structs.replace(config_of(self.sim), key=config_from(password=key).key))
        return f"{signer._mac(payload)} {payload}"

    def run_tasks(self, client: Callable[[], CloseAIClient] | None = None) -> None:
        """Run one task of each kind, each with a client of its own."""
        make = client or (lambda: CloseAIClient(config_of(self.sim), clock=NO_WAITS))
        want = CreateRequest.parse("a", {"gpt-4": 1}, 10, 2, settle=0)
        assert len(runner.create(make(), want)) == 2
        assert len(runner.reprice(make(), RepriceRequest.parse({"gpt-4o": 2}, alias="a"))) == 2
        assert check_bases(make, "any").base in self.sim.base_urls
        assert len(runner.delete(make(), DeleteRequest.parse(alias="a"))) == 2
        assert self.sim.accounts() == []


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Simulator() as sim, raw_server(lambda connection, number: None) as (port, connections):
        scene = Scene(sim, f"http://127.0.0.1:{port}", connections)
        CloseAIClient(config_of(sim)).check_health()
        assert scene.file.exists()
        yield scene
        assert connections == [], "the attacker's host was connected to"


def test_the_trap_works() -> None:
    """A cache that the key itself has signed would lead there: else the tests below prove nothing."""

    def serve(connection: Any, number: int) -> None:
        caught.append(read_request(connection))

    caught: list[bytes] = []
    with Simulator() as sim, raw_server(serve) as (port, connections):
        scene = Scene(sim, f"http://127.0.0.1:{port}", connections)
        CloseAIClient(config_of(sim)).check_health()
        scene.file.write_text(scene.forged(key=sim.key))
        client = CloseAIClient(config_of(sim, max_attempts=1, connect_timeout=5, read_timeout=5))
        with pytest.raises(Exception, match="connection was cut"):
            list(client.iter_sub_accounts())
        assert len(connections) == 1
        assert sim.key.encode() in caught[0]


def _replaced_by_a_link(scene: Scene, tmp: Path) -> None:
    (tmp / "evil.json").write_text(scene.forged())
    scene.file.unlink()
    scene.file.symlink_to(tmp / "evil.json")


def _signed_but_linked(scene: Scene, tmp: Path) -> None:
    (tmp / "evil.json").write_text(scene.forged(key=scene.sim.key))
    (tmp / "evil.json").chmod(0o600)
    scene.file.unlink()
    scene.file.symlink_to(tmp / "evil.json")


def _signed_but_anyone_could_have_written_it(scene: Scene, tmp: Path) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key))
    scene.file.chmod(0o666)


def _signed_but_not_ours(scene: Scene, tmp: Path) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key))
    os.chown(scene.file, NOBODY, NOBODY)


def _a_directory_of_somebody_else(scene: Scene, tmp: Path) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key))
    os.chown(scene.file.parent, NOBODY, NOBODY)


def _a_fifo_with_a_writer(scene: Scene, tmp: Path) -> None:
    path = scene.file
    path.unlink()
    os.mkfifo(path, 0o600)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, scene.forged(key=scene.sim.key).encode())


def _a_directory_in_its_place(scene: Scene, tmp: Path) -> None:
    path = scene.file
    path.unlink()
    (path / "full").mkdir(parents=True)


def _dated_in_the_future(scene: Scene, tmp: Path) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key, age=-3600))


def _too_old(scene: Scene, tmp: Path) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key, age=STALE_FOR + 1))


def _of_another_connection(scene: Scene, tmp: Path) -> None:
    """Signed with our key, by a connection that allows less: its knowledge must not count here."""
    other = Cache(config_of(scene.sim, allowed_hosts=["127.0.0.1"]))
    payload = scene.forged().partition(" ")[2]
    scene.file.write_text(f"{other._mac(payload)} {payload}")


ATTACKS: list[Any] = [
    _replaced_by_a_link,
    _signed_but_linked,
    _signed_but_anyone_could_have_written_it,
    pytest.param(_signed_but_not_ours, marks=as_root),
    pytest.param(_a_directory_of_somebody_else, marks=as_root),
    _a_fifo_with_a_writer,
    _a_directory_in_its_place,
    _dated_in_the_future,
    _too_old,
    _of_another_connection,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attacked_file_costs_no_key_and_no_task(
    scene: Scene, attack: Callable[[Scene, Path], None], tmp_path: Path
) -> None:
    attack(scene, tmp_path)
    scene.run_tasks()
    scene.run_tasks()


def test_a_replayed_file_is_as_old_as_it_is(scene: Scene) -> None:
    """A base that discovery named an hour ago and names no longer: asked anew, before the key is sent."""
    scene.file.write_text(scene.forged(key=scene.sim.key, age=3601))
    asked = scene.sim.count("links")
    scene.run_tasks()
    assert scene.sim.count("links") == asked + 1


def test_a_file_of_last_week_is_not_even_an_emergency_answer(scene: Scene) -> None:
    scene.file.write_text(scene.forged(key=scene.sim.key, age=STALE_FOR + 1))
    scene.sim.stop_discovery()
    with pytest.raises(DiscoveryError):
        list(CloseAIClient(config_of(scene.sim)).iter_sub_accounts())


def test_replayed_verdicts_cost_the_order_only(scene: Scene) -> None:
    bad = {
        url: HealthCheckResult(healthy=False, at=time.time(), detail="replayed")
        for url in scene.sim.base_urls
    }
    cache = Cache(config_of(scene.sim))
    cache.change(lambda old: msgspec.structs.replace(old, verdicts=bad))
    want = CreateRequest.parse("a", {"gpt-4": 1}, 10, 2, settle=0)
    assert len(runner.create(CloseAIClient(config_of(scene.sim)), want)) == 2


def test_planted_again_before_every_request(scene: Scene) -> None:
    """He is faster than any check: the forgery is back each time, also between a check and its use."""
    path, forged = scene.file, scene.forged()
    planted = 0

    def plant(request: Any) -> None:
        nonlocal planted
        planted += 1
        path.write_text(forged)

    scene.sim.on_request = plant
    scene.run_tasks()
    assert planted > 8


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "text"])
def test_attacked_locks_and_notes_cost_no_task(scene: Scene, kind: str, tmp_path: Path) -> None:
    scene.run_tasks()
    directory = private_directory()
    victims = [path for path in directory.iterdir() if path.suffix == ".lock" or ".note" in path.name]
    assert len(victims) >= 4
    for path in victims:
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(tmp_path / "elsewhere")
        elif kind == "directory":
            (path / "full").mkdir(parents=True)
        else:
            path.write_text('{"at": "long ago"}')
    scene.run_tasks()
    assert not (tmp_path / "elsewhere").exists(), "something was written through the link"


@as_root
def test_a_directory_that_was_waiting_for_us() -> None:
    """Somebody else made our directory before us, with his cache in it. We go without a cache."""
    with Simulator() as sim, raw_server(lambda connection, number: None) as (port, connections):
        scene = Scene(sim, f"http://127.0.0.1:{port}", connections)
        directory = Path(tempfile.gettempdir()) / f"airflow-provider-closeai-{os.geteuid()}"
        directory.mkdir(mode=0o777)
        (directory / f"{Cache(config_of(sim)).name}.json").write_text(scene.forged(key=sim.key))
        os.chown(directory, NOBODY, NOBODY)
        scene.run_tasks()
        assert connections == []
        assert len(list(directory.iterdir())) == 1, "something of ours was left in his directory"


class Shared:
    """An Airflow Variable, as ``VariableStore`` shows it: one for all, and editable by whoever may."""

    def __init__(self) -> None:
        self.value: Any = None
        self.failing = False

    def store(self, name: str) -> Shared:
        return self

    def read(self) -> Any:
        if self.failing:
            raise RuntimeError("no database")
        return self.value

    def write(self, text: str) -> None:
        if self.failing:
            raise RuntimeError("no database")
        self.value = text


EDITS: dict[str, Callable[[Scene, Any], Any]] = {
    "forged": lambda scene, old: scene.forged(),
    "our signature, his bases": lambda scene, old: (
        f"{old.partition(' ')[0]} {scene.forged().partition(' ')[2]}"
    ),
    "only his bases": lambda scene, old: scene.forged().partition(" ")[2],
    "his base put into ours": lambda scene, old: old.replace(scene.sim.base_urls[0], scene.evil),
    "truncated": lambda scene, old: old[: len(old) // 2],
    "in the future": lambda scene, old: scene.forged(key=scene.sim.key, age=-3600),
    "of last week": lambda scene, old: scene.forged(key=scene.sim.key, age=STALE_FOR + 1),
    "of an hour ago": lambda scene, old: scene.forged(key=scene.sim.key, age=3601),
    "huge": lambda scene, old: old + " " * 300_000,
    "empty": lambda scene, old: "",
    "lone surrogates": lambda scene, old: "\udcff\udcfe " + old,
    "a number": lambda scene, old: 7,
    "an object": lambda scene, old: {"bases": [scene.evil]},
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_variable_costs_no_key_and_no_task(scene: Scene, edit: str) -> None:
    variable = Shared()
    scene.file.unlink()

    def client() -> CloseAIClient:
        made = CloseAIClient(config_of(scene.sim), store=variable.store, clock=NO_WAITS)
        if isinstance(variable.value, str):
            signed.append(variable.value)
        variable.value = EDITS[edit](scene, signed[-1])
        return made

    CloseAIClient(config_of(scene.sim), store=variable.store).check_health()
    signed = [variable.value]
    scene.run_tasks(client)


def test_a_variable_that_breaks_in_the_middle_costs_no_task(scene: Scene) -> None:
    variable = Shared()

    def turn(request: Any) -> None:
        variable.failing = not variable.failing

    scene.sim.on_request = turn
    scene.run_tasks(lambda: CloseAIClient(config_of(scene.sim), store=variable.store, clock=NO_WAITS))


def test_the_hooks_own_variable_edited_by_somebody_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = pytest.importorskip("airflow_provider_closeai.hooks.stores")
    values: dict[str, str] = {}

    class Variable:
        @staticmethod
        def get(key: str, default: Any = None) -> Any:
            if key in values:
                values[key] = scene.forged()
            return values.get(key, default)

        @staticmethod
        def set(key: str, value: str, description: str | None = None) -> None:
            assert scene.sim.key not in value
            values[key] = value

    scene.file.unlink()
    monkeypatch.setattr(stores, "Variable", Variable)
    scene.run_tasks(lambda: CloseAIClient(config_of(scene.sim), store=stores.VariableStore))
    assert list(values) == [f"closeai_bases_{Cache(config_of(scene.sim)).name}"]
