"""A real scheduler: tasks killed with SIGKILL, pools, and the hunt for keys in all that Airflow keeps.

One Airflow serves the whole module; with pytest-xdist one per worker, unless it is told ``--dist loadfile``.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from crashes import ALIAS, Scene
from days import EXAMPLES
from deployment import Run, wait_until
from hunt import Hunt
from scheduler_world import HAS_STATE_STORE, SCENES, World
from worlds import needs_airflow, new_home

from airflow_provider_closeai import costs
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.simulator import Request

pytestmark = needs_airflow(3, why="Airflow 2 has no LocalExecutor on SQLite")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with new_home("scheduler") as home:
        started = World(home)
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="module")
def crashed(world: World) -> dict[str, Scene]:
    """Begin all crashes together: the scheduler's waits overlap."""
    for scene in world.scenes.values():
        scene.begin(world.airflow)
    return world.scenes


@pytest.mark.parametrize("name", SCENES)
def test_a_killed_task_is_recovered_exactly(crashed: dict[str, Scene], name: str) -> None:
    scene = crashed[name]
    crash, platform, run = scene.crash, scene.platform, scene.run
    assert run is not None
    run.ended()

    assert not platform.problems
    assert len(scene.killed) == len(crash.kills)
    assert run.outcome() == f"success {crash.tries}"
    accounts = platform.simulator.accounts(ALIAS)
    assert len(accounts) == crash.count == platform.made(ALIAS)
    assert [record["id"] for record in run.xcom()] == [one["id"] for one in accounts]
    wire = "".join(call[0].upper() for call in platform.calls())
    expected = crash.wire if HAS_STATE_STORE else crash.wire_without_store or crash.wire
    # On a busy machine a listing is too old by the time of the post, and is read again.
    assert re.fullmatch(re.sub(r"L\+?", "L+", expected.replace("|", "")), wire), wire
    if HAS_STATE_STORE:
        entry = run.journal("create")
        assert entry["posted"]
        assert entry["settled"] == ("C" in expected.rpartition("|")[2])


def test_a_pool_of_one_slot_is_exact_on_several_hosts(world: World) -> None:
    platform, airflow = world.pooled, world.airflow
    answer = airflow.call("POST", "pools", {"name": "e2e_one_slot", "slots": 1, "description": ""})
    assert answer.status_code in (201, 409), answer.text
    runs: list[Run] = []

    def first_waits_for_the_other(request: Request) -> None:
        if request.call == "create":
            assert platform.simulator.count("create") == 1
            wait_until(lambda: len(runs) == 2, "both runs have begun")
            wait_until(
                lambda: sorted(str(run.task()["state"]) for run in runs) == ["running", "scheduled"],
                "the pool keeps one task waiting",
            )

    platform.script = first_waits_for_the_other
    fields = {"connection": "pooled", "alias": ALIAS, "count": 2}
    runs.extend([airflow.trigger("e2e_pooled_a", **fields), airflow.trigger("e2e_pooled_b", **fields)])

    assert [run.ended() for run in runs] == ["success", "success"]
    assert not platform.problems
    assert platform.calls() == ["list", "create", "list", "list"]
    assert len(platform.simulator.accounts(ALIAS)) == 2
    assert runs[0].xcom() == runs[1].xcom()


def test_without_a_pool_the_surplus_of_several_hosts_is_named_and_kept(world: World) -> None:
    platform, airflow = world.unpooled, world.airflow

    def both_at_once(request: Request) -> None:
        if request.call == "create":
            wait_until(lambda: platform.simulator.count("create") == 2, "both posts have come")
        elif platform.simulator.count("create") == 2:
            wait_until(lambda: platform.made(ALIAS) == 4, "both posts are worked on")

    platform.script = both_at_once
    fields = {"connection": "unpooled", "alias": ALIAS, "count": 2}
    runs = [airflow.trigger(f"e2e_unpooled_{host}", **fields) for host in "ab"]

    assert [run.ended() for run in runs] == ["failed", "failed"]
    assert not platform.problems
    assert len(platform.simulator.accounts(ALIAS)) == 4
    assert platform.simulator.count("delete") == 0
    for run in runs:
        assert run.outcome() == "failed 1"
        assert "has 4 sub-accounts, 2 were asked for: ids [1, 2, 3, 4]" in run.log("create", 1)


def test_a_snapshot_starts_the_report(world: World) -> None:
    """By the ledger's asset, whose metadata is what the snapshot found."""
    airflow = world.airflow

    def started(dag_id: str, *but: str) -> Run:
        def found() -> Run | None:
            runs = airflow.runs()
            return next((run for run in runs if run.dag_id == dag_id and run.run_id not in but), None)

        run: Run = wait_until(found, f"{dag_id} is started")
        assert run.ended() == "success"
        return run

    # The schedule starts the last run that was missed, which records something where that was not long ago.
    missed = started("closeai_costs_daily")
    was_late = missed.task("snapshot")["state"] == "skipped"
    earlier = [] if was_late else [started("closeai_costs_report").run_id]
    world.examples.simulator.add_account("search.web", monthly_cost="50.00000001")
    snapshot = airflow.trigger("closeai_costs_daily")
    assert snapshot.ended() == "success"
    taken = snapshot.xcom("snapshot")

    report = started("closeai_costs_report", *earlier)
    assert airflow.get(report.path)["run_type"] == "asset_triggered"
    (event,) = airflow.get(f"{report.path}/upstreamAssetEvents")["asset_events"]
    assert (event["source_dag_id"], event["extra"]) == ("closeai_costs_daily", taken)
    reported = report.xcom("report")
    assert reported["total"] == taken["total"] == "50.00000001"
    events = airflow.get("assets/events?source_dag_id=closeai_costs_report")["asset_events"]
    made, *_ = [event for event in events if event["source_run_id"] == report.run_id]
    assert made["extra"].items() >= reported.items()
    assert report.outcome("tell") == "success 1"
    assert report.xcom("tell")[0].startswith("Search has spent 50.00 CNY")


def example_ids(world: World) -> list[str]:
    found = world.airflow.get("dags?tags=example&limit=100")["dags"]
    names = sorted(dag["dag_id"] for dag in found)
    assert names == [path.stem for path in EXAMPLES], "an example DAG cannot be imported"
    return names


def run_examples(world: World, phase: str) -> dict[str, Run]:
    """Start every example DAG; that which fills the ledger comes before those that read it."""
    conf = {"closeai_provisioning": {"alias": f"team-{phase}", "really_delete": phase != "good"}}
    runs = {}
    for name in sorted(example_ids(world), key=lambda name: name != "closeai_costs_daily"):
        runs[name] = world.airflow.trigger(name, **conf.get(name, {}))
        if name == "closeai_costs_daily":
            runs[name].ended()
    return runs


def check_ends(runs: dict[str, Run], expected: dict[str, str]) -> None:
    ended = {name: run.ended() for name, run in runs.items()}
    assert ended == expected, "\n".join(runs[name].why() for name in runs if ended[name] != expected[name])


def observe_last_month(world: World) -> None:
    """Record a snapshot of the month before this one, as its last minute's: the counter of now, redated."""
    world.examples.simulator.add_account("team-old", monthly_cost="12.5")
    config = config_from(password=world.examples.simulator.key, host=world.examples.simulator.discovery_url)
    first = datetime.now(ZoneInfo("Asia/Shanghai")).replace(day=1, hour=0, minute=0, second=0)
    place = world.airflow.home / "costs" / "ledger"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(world.airflow.temporary))
        costs.snapshot(
            costs.SnapshotRequest.parse(ledger=place),
            lambda: CloseAIClient(config),
            run=costs.Run(key=costs.run_key("seed", "run", "task", -1)),
            clock=lambda: first - timedelta(minutes=1),
        )


def run_all(world: World) -> None:
    """Run every example DAG well, with trouble, and refused; and the other DAGs, each in its own way."""
    airflow, simulator = world.airflow, world.examples.simulator
    others = {
        dag_id: airflow.trigger(dag_id)
        for dag_id in (
            "e2e_sinks",
            "e2e_sks",
            "e2e_mapped",
            "e2e_keyed_roster",
            "e2e_wrong_key",
            "e2e_refused",
            "e2e_careless",
        )
    }
    others["e2e_literal"] = airflow.trigger("e2e_literal")
    others["e2e_planted"] = airflow.trigger("e2e_planted", text2=world.planted["conf"])

    observe_last_month(world)
    good = run_examples(world, "good")
    # Nobody looked after last month's turn: what was spent then is in doubt, and a close refuses doubt.
    expected = dict.fromkeys(good, "success") | {"closeai_costs_month_close": "failed"}
    check_ends(good, expected)

    for call, kind, options in (
        ("list", "garbage", {}),
        ("list", "rate_limit", {"retry_after": 1}),
        ("create", "cut_after", {}),
        ("update", "error_after", {}),
        ("delete", "status", {"status": 502, "body": echo(simulator.key)}),
        ("healthy", "parked", {}),
        ("links", "status", {"status": 500, "body": echo(simulator.key)}),
    ):
        simulator.fault(call, kind, **options)
    simulator.stop_base(0)
    troubled = run_examples(world, "troubled")
    check_ends(troubled, expected)
    simulator.start_base(0)
    simulator.clear_faults()

    # Not discovery: whether it is asked again by then is a matter of time, and its refusal fails the sensor.
    for call in ("list", "create", "update", "delete", "billing"):
        simulator.fault(call, "status", status=401, body=echo(simulator.key), times=None)
    simulator.fault("healthy", "unhealthy", times=None)
    (airflow.home / "costs" / "ledger").rename(airflow.home / "costs" / "moved")  # a report calls no API
    refused = run_examples(world, "refused")
    gate = refused["closeai_health_gate"]
    wait_until(lambda: gate.task("api_is_up")["state"] == "deferred", "the sensor waits in the triggerer")
    assert airflow.call("PATCH", f"{gate.path}/taskInstances/api_is_up", {"new_state": "failed"}).ok
    ended = {name: run.ended() for name, run in refused.items()}
    # Started by hand, a report without a ledger has nothing to tell, and what follows events asks nobody.
    fine = dict.fromkeys(("closeai_costs_report", "closeai_events"), "success")
    assert ended == dict.fromkeys(refused, "failed") | fine

    for run in [*others.values(), *airflow.runs()]:  # those of a schedule and of an asset too
        run.ended()
    failed = {
        f"{name}.{task['task_id']}": task["try_number"]
        for name, run in others.items()
        for task in run.tasks()
        if task["state"] == "failed"
    }
    assert failed == {
        **dict.fromkeys(("e2e_sinks.aws_down", "e2e_sinks.talkative"), 2),
        **{f"e2e_wrong_key.{task}": 1 for task in (*CALLS, *WAITS)},
        **{f"e2e_refused.{task}": 2 for task in CALLS},
        **{f"e2e_refused.{task}": 1 for task in WAITS},
        "e2e_sks.refused": 1,
        "e2e_careless.returns_accounts": 1,
        "e2e_careless.returns_tokens": 1,
        "e2e_careless.raises_accounts": 1,
        "e2e_planted.fails": 1,
    }


CALLS = ("create", "list", "reprice", "delete", "plan", "sync")
WAITS = ("wait_deferred", "wait_rescheduled")


def echo(key: str) -> dict[str, object]:
    """Give an error answer that repeats the key."""
    return {
        "error": {"message": f"Incorrect API key provided: {key}", "type": "x", "code": "invalid_api_key"}
    }


def test_no_key_is_anywhere(world: World) -> None:
    run_all(world)
    assert world.examples.simulator.counts().keys() >= {
        "links",
        "healthy",
        "list",
        "create",
        "update",
        "delete",
    }

    keys = world.secrets
    assert len(keys) > 30
    assert {secret["token"] for secret in world.vault.secrets.values()} < keys, "Vault was given none"
    assert len(world.vault.secrets) == 2
    hunt = Hunt(world.airflow, [*keys, *world.planted.values()])
    found = hunt.run()

    # What was planted is found, each where it was planted: the hunt sees all these places.
    for what, places in PLANTED_PLACES.items():
        seen = {finding.place for finding in found if finding.key == world.planted.get(what)}
        for place in places if what in world.planted else ():
            assert any(re.match(place, one) for one in seen), (
                f"{what} was not found in {place}, but in {seen}"
            )
    # A key that somebody wrote into the DAG file is there, and in no other table than that of DAG files.
    literal = {finding for finding in found if finding.key == world.literal}
    assert {finding.place for finding in literal} <= {
        "file dags/e2e_literal.py",
        "file airflow.db",
        "file airflow.db-wal",
        "db dag_code.source_code",
        "rest dagSources/e2e_literal",
    }
    assert literal
    leaks = {finding for finding in found - literal if finding.key in keys}
    assert not leaks
    assert hunt.searched["file"] > 1e6
    assert min(hunt.searched.values()) > 1e5


# By what was planted: regular expressions of places where it must be found.
PLANTED_PLACES = {
    "xcom": (r"db xcom\.value", r"rest .*/xcomEntries/return_value", r"file airflow\.db"),
    "log": (r"file logs/.*/attempt=1\.log",),  # logged at DEBUG
    "stdout": (r"file logs/.*/attempt=1\.log",),
    "base64": (r"file logs/.*/attempt=1\.log",),
    "exception": (r"file logs/.*/attempt=1\.log",),
    "variable": (r"db variable\.val", r"rest variables"),  # encrypted in the database
    "file": (r"file tmp/planted",),
    "serialized_dag": (r"db serialized_dag\.data", r"rest dags/e2e_planted/details"),
    "conf": (r"db dag_run\.conf", r"db log\.extra", r"rest eventLogs"),
    "rendered": (r"db rendered_task_instance_fields\.rendered_fields", r"rest .*/taskInstances/renders"),
    "task_state": (r"db task_state_store\.value", r"rest .*/state-store"),
}
