"""No two rosters of a deployment own the same alias, and one whose path moves is not two."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Variable, task, timezone
from airflow_cell import AIRFLOW, run
from shared_names import Names
from support import client_of, in_threads

from airflow_provider_closeai.hooks import roster_claims
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.roster import SyncSubAccountsOperator
from airflow_provider_closeai.roster import RosterConflict, read_roster
from airflow_provider_closeai.simulator import Simulator


def test_two_files_of_a_deployment_do_not_own_the_same_alias(
    sim: Simulator, dag: Any, roster: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = roster.read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("team-*", "team-s*").partition("  - alias: team-ads")[0])
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    with dag:
        SyncSubAccountsOperator(task_id="sync", roster="{{ dag_run.conf['roster'] }}", max_create=9)
    assert run(dag, {"roster": str(roster)}).state == "success"
    assert run(dag, {"roster": str(copy)}).state == "success", "a copy is the same roster"
    before = sim.accounts()
    copy.write_text(text.replace("count: 2", "count: 3"))
    for second in (copy, other):
        caplog.clear()
        assert run(dag, {"roster": str(second)}).state == "failed"
        assert "both own 'team-s" in " ".join(caplog.messages)
        assert sim.accounts() == before
    assert run(dag, {"roster": str(roster)}).state == "success", "the first one goes on"


SHAS = ("a3f" * 13 + "0", "0b1" * 13 + "f")
#: A link to a folder, or none, and the folders that it leads to, one after the other.
MOVING = [
    ("repo", [f".worktrees/{sha}" for sha in SHAS]),  # git-sync 4
    ("repo", list(SHAS)),  # git-sync 3
    ("repo", [f"rev-{sha}" for sha in SHAS]),  # git-sync 2
    ("current", ["releases/20270101", "releases/20270102"]),
    ("", [f"dag_bundles/team/versions/{sha}/dags" for sha in SHAS]),  # GitDagBundle, versioned
    ("", ["dag_bundles/team/tracking_repo", f"dag_bundles/team/versions/{SHAS[0]}"]),  # and not
    ("", ["dag_bundles/team/versions/7", "dag_bundles/team/versions/8"]),  # any other bundle
    ("", ["bundles/team/tracking_repo", "bundles/team/versions/7"]),  # where Airflow is told to keep them
    ("..data", ["..2026_11_20_08_00_00.123456789", "..2026_11_26_09_30_00.987654321"]),  # a ConfigMap
    ("current", ["releases/2027-01-01T08.30Z", "releases/20270102_0900"]),
    ("current", ["releases/2027-01-01", "releases/2027_01_02"]),
    ("current", ["releases/20270101101500", "releases/20270102091500"]),  # Capistrano
    ("", ["2027-01-01T10:15:00", "2027-01-02T10:15:00.5Z"]),
    ("", ["2027-01-01T101500+0800", "2027-01-02T10:15:00-03:30"]),
]
#: Folders whose names are all that tells two rosters apart.
NAMES = [
    ("releases/search", "releases/ads"),
    ("versions/eu", "versions/us"),
    ("tracking", "."),
    ("tenants/1000001", "tenants/1000002"),
    ("10002000", "10003000"),  # cost centers
    ("123456789012", "210987654321"),  # AWS accounts
    ("201501011234", "201501011235"),
    ("201501019901", "201501019902"),
    ("20150101249999", "20150101246060"),  # no time of day
    ("20121231-20130131", "20130131-20130228"),
    ("2012-12-31-2013-01-31", "2013-01-31_2013-02-28"),
    ("1234567890" * 4, "1234567891" * 4),
    ("defaced", "effaced"),
    ("facade1", "facade2"),
    (SHAS[0][:7], SHAS[1][:7]),  # too short for a commit that nobody wrote rev- before
]


class Stored:
    """A file at an address."""

    def __init__(self, path: str, address: str = "s3://aws_default@bucket{}") -> None:
        self.read_bytes = Path(path).read_bytes
        self._address = address.format(path)

    def __str__(self) -> str:
        return self._address


def applied(
    dag: Any, folders: list[tuple[Path, Path]], place: Callable[[str], Any] = str, **options: Any
) -> list[Path]:
    """
    Apply rosters one after the other in one task: only there the Variables are known in which they are noted.

    :param folders: the folder as it is shown, and the one in which the file is.
    :param place: makes of a path what the hook is given.
    :returns: those that were refused.
    """
    refused = []

    def apply() -> None:
        for shown, real in folders:
            if shown != real:
                shown.unlink(missing_ok=True)
                shown.symlink_to(real)
            try:
                CloseAIHook().apply(place(f"{shown}/roster.yaml"), max_create=9, **options)
            except RosterConflict:
                refused.append(real)

    with dag:
        task(apply)()
    assert run(dag).state == "success"
    return refused


@pytest.mark.slow
def test_a_roster_is_the_same_in_each_commit(
    sim: Simulator, dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path changes with each commit, and it is not refused as a second roster of its aliases."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "7/bundles"))
    steps, wanted = [], set()
    for number, (link, folders) in enumerate(MOVING):
        for folder, names in zip(folders, (["search"], ["search", "ads"]), strict=True):
            real = tmp_path / str(number) / folder
            aliases = [f"team-{number}-{name}" for name in names]
            write(real, mapping(*aliases, owns=f"team-{number}-*"))
            steps.append((tmp_path / str(number) / link if link else real, real))
            wanted.update(aliases)
    assert applied(dag, steps) == []
    assert {account["alias"] for account in sim.accounts()} == wanted


@pytest.mark.parametrize(
    "place", ["file://{}".format, pytest.param(Stored, marks=pytest.mark.slow)], ids=["file", "s3"]
)
def test_a_roster_at_an_address_is_the_same_in_each_release(
    sim: Simulator, dag: Any, tmp_path: Path, place: Callable[[str], Any]
) -> None:
    folders = [tmp_path / f"releases/{date}" for date in ("20270101", "20270102")]
    for folder, names in zip(folders, (["team-a"], ["team-a", "team-b"]), strict=True):
        write(folder, mapping(*names))
    assert applied(dag, [(folder, folder) for folder in folders], place) == []
    assert {account["alias"] for account in sim.accounts()} == {"team-a", "team-b"}


@pytest.mark.slow
def test_a_file_is_the_same_by_all_addresses(sim: Simulator, dag: Any, tmp_path: Path) -> None:
    addresses = iter(["{}", "file:{}", "file://{}", "file://localhost{}"])
    folders = [tmp_path / f"releases/2027010{number}" for number in (1, 2, 3, 4)]
    for number, folder in enumerate(folders):
        write(folder, mapping("team-a", f"team-{number}"))
    places = [(folder, folder) for folder in folders]
    assert applied(dag, places, lambda path: Stored(path, next(addresses))) == []


@pytest.mark.slow
def test_rosters_in_folders_with_names_are_two(sim: Simulator, dag: Any, tmp_path: Path) -> None:
    """Taken for one, each would delete the other's accounts."""
    steps, second = [], []
    for number, pair in enumerate(NAMES):
        for folder, name in zip(pair, ("search", "ads"), strict=True):
            real = tmp_path / str(number) / folder
            write(real, mapping(f"team-{number}-{name}", owns=f"team-{number}-*"))
            steps.append((real, real))
        second.append(real)
    assert applied(dag, steps, prune=True, max_delete=1) == second
    assert {account["alias"] for account in sim.accounts()} == {f"team-{n}-search" for n in range(len(NAMES))}


def write(folder: Path, roster: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "roster.yaml").write_text(json.dumps(roster))


def mapping(*aliases: str, owns: str = "team-*") -> dict[str, Any]:
    """Make a roster as a DAG file holds it."""
    accounts = [{"alias": alias, "balance": 1, "model_pricing": {"gpt-4o": 1}} for alias in aliases]
    return {"version": 1, "owns": [owns], "accounts": accounts}


def sync_dag(name: str, roster: dict[str, Any], task_id: str = "sync") -> Any:
    """Parse a DAG file that holds a roster, and keeps it so."""
    with DAG(name, schedule=None, start_date=timezone.datetime(2026, 1, 1)) as dag:
        SyncSubAccountsOperator(task_id=task_id, roster=roster, max_create=9)
    return dag


def test_two_mappings_of_a_deployment_do_not_own_the_same_alias(
    sim: Simulator, database: None, roster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = mapping("team-ads", "team-news")
    assert run(sync_dag("one", first)).state == "success"
    assert run(sync_dag("one", mapping("team-ads"))).state == "success", "an edit is no second roster"
    before = sim.accounts()
    for name, second in {
        "two": mapping("team-ads", "team-search", owns="team-*s*"),
        "three": mapping("team-search"),
        "four": mapping("team-ads", owns="team-ads"),
    }.items():
        assert run(sync_dag(name, second)).state == "failed"
        assert f"of the task {name}/sync and of the task one/sync both own 'team-" in " ".join(
            caplog.messages
        )
    assert sim.accounts() == before
    assert run(sync_dag("one", mapping("team-ads"))).state == "success", "the newcomers do not stop it"
    assert run(sync_dag("five", mapping("group-a", owns="group-*"))).state == "success"
    with DAG("file", schedule=None, start_date=timezone.datetime(2026, 1, 1)) as file:
        SyncSubAccountsOperator(task_id="sync", roster=roster, max_create=9)
    assert run(file).state == "failed"
    assert f"The rosters {roster} and of the task one/sync both own" in " ".join(caplog.messages)


def test_a_task_group_in_one_dag_is_not_a_task_of_another(sim: Simulator, database: None) -> None:
    """Taken for one, each would delete the other's accounts."""
    assert run(sync_dag("a.b", mapping("team-ads"), "c")).state == "success"
    assert run(sync_dag("a", mapping("team-news"), "b.c")).state == "failed"


def test_one_mapping_in_two_dags_can_be_edited(
    sim: Simulator, database: None, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = mapping("team-ads"), mapping("team-ads", "team-news")
    assert [run(sync_dag(name, old)).state for name in ("often", "weekly")] == ["success"] * 2
    assert run(sync_dag("often", new)).state == "failed"
    assert "run the other task" in " ".join(caplog.messages)
    assert [run(sync_dag(name, new)).state for name in ("weekly", "often")] == ["success"] * 2
    assert len(sim.accounts()) == 2


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="before Variable.keys an outage cannot be told from absence")
def test_in_an_outage_no_claims_of_other_rosters_are_written_over(
    sim: Simulator, roster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import Variable

    def fail(prefix: str) -> Any:
        raise RuntimeError("no answer")

    written: list[str] = []
    monkeypatch.setattr(Variable, "get", lambda key, default: default)  # as Airflow does in an outage
    monkeypatch.setattr(Variable, "keys", fail)
    monkeypatch.setattr(Variable, "set", lambda key, text: written.append(text))
    CloseAIHook().apply(str(roster), max_create=9)
    assert written == []
    monkeypatch.setattr(Variable, "keys", lambda prefix: [prefix])  # it is over, and there are claims
    CloseAIHook().apply(str(roster))
    assert written == []
    monkeypatch.setattr(Variable, "keys", lambda prefix: [])
    CloseAIHook().apply(str(roster))
    assert len(written) == 1


def test_two_rosters_that_register_at_once_see_each_other(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two workers: both have read what is known before either writes."""
    known: dict[str, str] = {}
    both, here = threading.Barrier(2), threading.local()

    def read(key: str) -> str | None:
        text = known.get(key)
        if not hasattr(here, "has_read"):
            here.has_read = True
            both.wait(30)
        return text

    monkeypatch.setattr(roster_claims, "read_variable", read)
    monkeypatch.setattr(Variable, "set", known.__setitem__)
    names, entry = Names(), {"balance": 1, "model_pricing": {"m": 1}}

    def register(number: int) -> str:
        path = tmp_path / f"{number}.json"
        accounts = [{"alias": f"team-{number}", **entry}]
        path.write_text(json.dumps({"version": 1, "owns": ["team-*"], "accounts": accounts}))
        try:
            roster_claims.register(client_of(sim), read_roster(path), names=names)
        except RosterConflict:
            return "refused"
        return "noted"

    assert sorted(in_threads(2, register)) == ["noted", "refused"]
    [text] = known.values()
    assert len(json.loads(text)) == 1
    assert names.names == set()
