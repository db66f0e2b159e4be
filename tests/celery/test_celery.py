"""Two hosts: kills with the retry elsewhere, tasks that share an alias, a triggerer that dies, the key hunt.

One Airflow (CeleryExecutor, PostgreSQL, Redis) serves the whole module. Each test adds a row to the table at
the end. ``CLOSEAI_RIG_LOCK=host make test-celery`` runs those that need the lock over hosts without it: they
pass where their rows go wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from celery_deployment import CeleryDeployment, skip_where_hosts_share
from crashes import ALIAS, CRASHES, Scene
from deployment import HANG, Run, wait_until
from hunt import Hunt
from platforms import Platform
from sensors import defer, deferred, fired
from table import IS_GUARDED, Row
from worlds import new_home

from airflow_provider_closeai.simulator import Request, Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

HERE = Path(__file__).parent
pytestmark = pytest.mark.celery
SENSORS = 200
needs_lock = pytest.mark.needs_lock


class CrossHostScene(Scene):
    """A crash on host_a whose retry is on host_b."""

    def _kill(self) -> None:
        assert self.run is not None
        assert isinstance(self._airflow, CeleryDeployment)
        self._airflow.move(self.run, "host_b")
        super()._kill()


class World:
    """The Airflow of this module and the platforms that it talks to."""

    def __init__(self, home: Path) -> None:
        self.scenes = [
            CrossHostScene(crash, False, Platform(f"crash_{number}")) for number, crash in enumerate(CRASHES)
        ]
        self.plain, self.power = Platform("plain"), Platform("power")
        extra = {"lock": "auto" if IS_GUARDED else "host"}
        self.orphans = [Platform(f"orphan_{number}", extra) for number in range(2)]
        self.pooled = [Platform(f"pooled_{number}", extra) for number in range(2)]
        self.shared = [Platform(f"shared_{number}", extra) for number in range(3)]
        self.refused = Platform("refused", {"cache": "variable"})
        self.swallowed = Platform("swallowed", {"cache": "variable", "connect_timeout": 1})
        self.waited_for = Platform(
            "waited_for", {"cache": "variable", "health_ttl": 2, "discovery_ttl": 3600}
        )
        others = (self.plain, self.power, self.refused, self.swallowed, self.waited_for)
        crashed = [scene.platform for scene in self.scenes]
        self.platforms = [*crashed, *self.orphans, *self.pooled, *self.shared, *others]
        for platform in self.platforms:
            platform.simulator.start()
        ports = {
            port
            for each in self.platforms
            for port in (*each.base_ports, port_of(each.simulator.discovery_url))
        }
        environment = {name: text for each in self.platforms for name, text in each.environment.items()}
        environment |= {} if IS_GUARDED else {"CLOSEAI_RIG_LOCK": "host"}
        swallowed = [port_of(self.swallowed.simulator.base_urls[0])]
        self.airflow = CeleryDeployment(home / "airflow", environment, ports, swallowed)
        for path in (HERE / "dags").glob("*.py"):
            shutil.copy(path, self.airflow.dags)
        try:
            self.airflow.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self.airflow.stop()
        for platform in self.platforms:
            platform.simulator.stop()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with new_home("celery") as home:
        started = World(home)
        try:
            yield started
        finally:
            started.stop()


def judge(row: Row, platform: Platform, run: Run, count: int, *task_ids: str) -> None:
    """Add a trial: are so many accounts there, and do the results of the tasks name them all?"""
    ids = [one["id"] for one in platform.simulator.accounts(ALIAS)]
    row.trials += 1
    is_wrong = len(ids) != count
    row.wrong += is_wrong
    states = [task["state"] for task in run.tasks()]
    is_lost = set(states) != {"success"} or any(
        [record["id"] for record in run.xcom(task_id)] != ids for task_id in task_ids
    )
    row.lost += is_lost
    if is_wrong or is_lost:
        print(f"{row.scenario}: {run.run_id}: accounts {ids}, {count} wanted; {states}; {platform.calls()}")


def hosts_of(run: Run, task_id: str = "create") -> list[str]:
    """Give the hosts on which the tries of a task ran."""
    tries = run.airflow.get(f"{run.path}/taskInstances/{task_id}/tries")["task_instances"]
    return [each["hostname"] for each in sorted(tries, key=lambda each: int(each["try_number"]))]


def test_plain_runs(world: World) -> None:
    row = Row("plain runs: create, again on the other host, reprice, list, delete")
    runs = [world.airflow.trigger("hosts_plain", connection="plain", alias=f"{ALIAS}-{n}") for n in range(3)]
    for number, run in enumerate(runs):
        row.trials += 1
        row.lost += run.ended() != "success" or run.xcom("create") != run.xcom("again")
        row.wrong += world.plain.made(f"{ALIAS}-{number}") != 2
        if world.airflow.isolated:
            assert [hosts_of(run, task_id) for task_id in ("create", "again")] == [["host-a"], ["host-b"]]
    assert not world.plain.simulator.accounts()
    assert row.is_good


def test_a_killed_task_is_recovered_on_the_other_host(world: World) -> None:
    row = Row("a task process is killed, the retry is on the other host")
    for scene in world.scenes:
        scene.begin(world.airflow)
    for scene in world.scenes:
        assert scene.run is not None
        scene.run.ended()
        assert not scene.platform.problems
        assert len(scene.killed) == len(scene.crash.kills)
        judge(row, scene.platform, scene.run, scene.crash.count, "create")
        if world.airflow.isolated:
            assert hosts_of(scene.run) == ["host-a", *["host-b"] * (scene.crash.tries - 1)]
    assert row.is_good


def test_a_killed_host(world: World) -> None:
    """Its power fails while the platform works on a post; the retry is on the other host."""
    row = Row("a whole host is killed beside a post, the retry is on the other host")
    airflow, platform = world.airflow, world.power
    runs: list[Run] = []

    def power_fails(request: Request) -> None:
        if request.call == "create" and platform.simulator.count("create") == 1:
            wait_until(lambda: runs, "the run is known")
            airflow.move(runs[0], "host_b")
            airflow.kill_host("host_a")

    platform.script = power_fails
    runs.append(airflow.trigger("e2e_create", connection="power", alias=ALIAS))
    assert runs[0].ended() == "success"
    assert not platform.problems
    judge(row, platform, runs[0], 2, "create")
    airflow.wait_until_ready()
    assert row.is_good


@needs_lock
def test_an_orphan_posts_nothing(world: World) -> None:
    """
    Its supervisor is killed, as the OOM killer does, while it waits out a 429 before its post.

    Airflow retries at once on the other host, while the orphan still means to post.
    """
    row = Row("the supervisor is killed, its task waits out a 429 before it posts")
    airflow = world.airflow
    runs: dict[str, Run] = {}
    orphans = []

    def orphaned(platform: Platform) -> None:
        connection = platform.connection
        platform.simulator.fault("create", "rate_limit", retry_after=35)

        def script(request: Request) -> None:
            if request.call == "create" and platform.simulator.count("create") == 1:
                wait_until(lambda: connection in runs, "the run is known")
                airflow.move(runs[connection], "host_b")
                orphan = airflow.client_of(platform.base_ports)
                supervisor = orphan.parent()
                assert supervisor is not None
                orphans.append(orphan)
                supervisor.kill()

        platform.script = script

    for platform in world.orphans:
        orphaned(platform)
        runs[platform.connection] = airflow.trigger(
            "e2e_create", connection=platform.connection, alias=ALIAS, count=3
        )
    for platform in world.orphans:
        runs[platform.connection].ended()
        assert not platform.problems
    _, alive = psutil.wait_procs(orphans, HANG)
    assert not alive, "an orphan goes on"
    for platform in world.orphans:
        judge(row, platform, runs[platform.connection], 3, "create")
    assert row.trials == len(orphans)
    assert row.is_as_expected


@needs_lock
def test_a_pool_where_the_listing_lags(world: World) -> None:
    """host_a creates through one base, which then dies; the listing of the other one lags."""
    row = Row("a pool of one slot, a base dies, the other one's listing lags")
    airflow = world.airflow
    answer = airflow.call("POST", "pools", {"name": "one_slot", "slots": 1, "description": ""})
    assert answer.ok, answer.text
    for platform in world.pooled:
        first, second = pooled_runs(airflow, platform)
        judge(row, platform, second, 2, "create")
        row.lost += {first.state, second.state} != {"success"} or first.xcom() != second.xcom()
    assert row.is_as_expected


def pooled_runs(airflow: CeleryDeployment, platform: Platform) -> tuple[Run, Run]:
    fields = {"connection": platform.connection, "alias": ALIAS}
    first = airflow.trigger("pooled_host_a", **fields)
    wait_until(lambda: platform.requests("list"), "host_a has begun")
    second = airflow.trigger("pooled_host_b", **fields)
    wait_until(lambda: first.task()["state"] == "success", "host_a has created")
    platform.simulator.settings.list_lag = 10  # less than settle; host_a has read back
    platform.simulator.stop_base(0)
    second.ended()
    return first, second


@needs_lock
def test_six_tasks_on_one_alias(world: World) -> None:
    row = Row("six tasks of two hosts create one alias at once, without a pool")
    runs = []
    for platform in world.shared:
        platform.simulator.fault("create", "slow", seconds=0.5, times=None)
        platform.script = first_two_together()
        runs.append(world.airflow.trigger("contention", connection=platform.connection, alias=ALIAS))
        runs[-1].ended()
        judge(row, platform, runs[-1], 2, *(f"create_{number}" for number in range(6)))
    assert row.is_as_expected


def first_two_together() -> Callable[[Request], None]:
    """Answer the first two listings at one moment: neither of the tasks sees what the other makes."""
    both, number = threading.Barrier(2), itertools.count()

    def script(request: Request) -> None:
        if request.call == "list" and next(number) < 2:
            with contextlib.suppress(threading.BrokenBarrierError):  # all tasks are on one host
                both.wait(10)

    return script


def test_refused_variables(world: World) -> None:
    """No write of a Variable works while three tasks read; then a create begins, and they work again."""
    row = Row("writes of Variables are refused: three listings, and a create until they work again")
    airflow, platform = world.airflow, world.refused
    with airflow.refusing_variables():
        reads = [airflow.trigger("list_host_a", connection="refused") for _ in range(3)]
        assert [run.ended() for run in reads] == ["success"] * 3
        run = airflow.trigger("e2e_create", connection="refused", alias=ALIAS)
        wait_until(
            lambda: run.task()["try_number"] > 1 or run.task()["state"] in ("success", "failed"),
            "its first try has ended",
        )
    run.ended()
    row.trials += 3
    judge(row, platform, run, 2, "create")
    assert row.is_good


def test_a_base_that_one_host_does_not_reach(world: World) -> None:
    row = Row("a base that swallows the connections of one host")
    airflow, platform = world.airflow, world.swallowed
    skip_where_hosts_share(airflow)
    used = []
    for host in ("host_b", "host_a", "host_b", "host_a"):
        before = len(platform.simulator.requests)
        row.trials += 1
        row.lost += airflow.trigger(f"list_{host}", connection="swallowed").ended() != "success"
        used += [each.host for each in platform.simulator.requests[before:] if each.call == "list"]
    assert used == ["base-0", "base-1"] * 2, "a host gave up a base that it reaches"
    run = airflow.trigger("e2e_create", connection="swallowed", alias=ALIAS)  # on host_a
    run.ended()
    judge(row, platform, run, 2, "create")
    assert platform.simulator.count("links") == 1
    assert row.is_good


def test_a_triggerer_that_dies(world: World) -> None:
    row = Row(f"{SENSORS} deferred sensors, the triggerer is killed twice")
    airflow, platform = world.airflow, world.waited_for
    simulator = platform.simulator
    for index in range(2):
        simulator.fault("healthy", "unhealthy", base=index, times=None)
    assert airflow.call("PATCH", "dags/sensors", {"is_paused": True}).ok
    run_id = airflow.trigger("sensors", connection="waited_for").run_id
    begun = time.monotonic()
    defer(airflow, run_id, HealthTrigger("waited_for", "any", 1).serialize(), SENSORS)
    assert deferred(airflow, run_id) == SENSORS
    for _ in range(2):
        wait_for_probes(simulator, 4)
        airflow.kill_part("triggerer")
    probes, started = simulator.count("healthy"), time.monotonic()
    wait_for_probes(simulator, 4)
    simulator.clear_faults()
    wait_until(lambda: not deferred(airflow, run_id), "all have fired")
    events = fired(airflow, run_id)
    row.trials = len(events)
    row.lost = sum(simulator.base_urls[0] not in event for event in events)
    assert row.trials == SENSORS
    # Where no base is well, discovery is asked again, after a minute at the soonest.
    assert simulator.count("links") <= 1 + (time.monotonic() - begun) / 60
    rounds = (time.monotonic() - started) / 2 + 2  # health_ttl
    assert simulator.count("healthy") - probes <= 2 * rounds, "more than one probe per base and health_ttl"
    assert row.is_good


def wait_for_probes(simulator: Simulator, number: int) -> None:
    before = simulator.count("healthy")
    wait_until(lambda: simulator.count("healthy") >= before + number, "the bases are probed")


def test_no_key_is_anywhere(world: World, tmp_path: Path) -> None:
    row = Row("keys in pg_dump, WAL, Redis, XCom, REST, all files and all logs at DEBUG")
    airflow = world.airflow
    planted = f"sk-{secrets.token_hex(24)}"
    assert airflow.trigger("planted", alias=planted).ended() == "success"
    keys = {key for platform in world.platforms for key in platform.secrets}
    airflow.redis.rpush("planted", planted)
    airflow.redis.save()
    found = CeleryHunt(airflow, [*keys, planted]).run()

    places = {finding.place.split("/")[0] for finding in found if finding.key == planted}
    assert {"db pg_dumpall", "file pg_wal", "file redis", "file host_a", "file postgres.log"} <= places | {
        "file host_a" if place == "file host_b" else place for place in places
    }
    assert any(finding.key == planted and "xcomEntries" in finding.place for finding in found)
    row.trials = len(keys)
    leaks = {finding for finding in found if finding.key in keys}
    row.leaked = len({finding.key for finding in leaks})
    assert not leaks
    assert row.is_good


class CeleryHunt(Hunt):
    """A hunt in PostgreSQL, its log and Redis too."""

    def _database(self) -> Iterator[tuple[str, bytes]]:
        assert isinstance(self._airflow, CeleryDeployment)
        yield "db pg_dumpall", self._airflow.dump()
        for path in (self._airflow.data / "pg_wal").glob("0*"):
            yield f"file pg_wal/{path.name}", path.read_bytes()
