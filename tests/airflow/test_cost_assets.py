"""Assets of cost folders: whatever a folder is called, its DAGs parse, are stored, and start each other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, timezone
from airflow_cell import ON_3, run, serialized, sync

from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator, ledger_asset
from airflow_provider_closeai.simulator import Simulator

FOLDERS: list[Any] = [
    "/data/财务/costs",
    Path("/data/财务/costs 2026"),
    "s3://aws_default@finance/closeai/Büro",
    "s3://user:secret@finance/closeai/ledger/",
    "s3://finance",
    "gs://finance/költségek?x=1#y",
    "abfs://box@account.example/x",
    "~/ledger",
    "file://~/ledger-2",
    "data/ledger",
    "C:\\data\\ledger",
    "/data/a?b#c%20d",
    "/data/line\nbreak",
    "/data/emoji 🧾",
    "/" + "x/" * 1000,
    "/" + "财" * 600,
    "self",
    "context",
    "/",
    " /data/spaces ",
    "memory://box/x",
]


@pytest.fixture
def ascii_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow 3 think that its database is MySQL, with Latin-1 columns, as Airflow 2 always does."""
    with contextlib.suppress(ImportError):
        from airflow.sdk.definitions import asset

        monkeypatch.setattr(asset, "SQL_ALCHEMY_CONN", "mysql://")


def stored_assets() -> dict[str, str]:
    """Give the names (3) of all stored assets by URI."""
    from airflow.utils.session import create_session

    columns = "uri, name" if ON_3 else "uri, uri"
    with create_session() as session:
        rows = session.execute(sqlalchemy.text(f"select {columns} from {'asset' if ON_3 else 'dataset'}"))  # noqa: S608
        return dict(map(tuple, rows))


@pytest.mark.usefixtures("database", "ascii_database")
def test_dags_of_any_folder_are_stored() -> None:
    with DAG("producer", schedule=None, start_date=timezone.datetime(2026, 1, 1)) as producer:
        operators = [
            SnapshotCostsOperator(task_id=f"t{number}", ledger=folder)
            for number, folder in enumerate(FOLDERS)
        ]
        report = CostReportOperator(
            task_id="report", ledger=FOLDERS[0], month="latest", output=FOLDERS[1], currency="CNY"
        )
    assets = [ledger_asset(folder) for folder in FOLDERS]
    with DAG("consumer", schedule=assets, start_date=timezone.datetime(2026, 1, 1)) as consumer:
        pass
    assert [operator.outlets for operator in operators] == [[asset] for asset in assets]
    assert report.outlets == [assets[1]]
    for dag in (producer, consumer):
        assert "secret" not in serialized(dag).replace("user:secret@", "")  # the ledger itself is as written
        sync(dag)
    if not ON_3:
        DAG.bulk_write_to_db([producer, consumer])  # type: ignore[attr-defined]  # registers the assets
    stored = stored_assets()
    for asset in assets:
        assert asset.uri in stored
        assert asset.uri.isascii()
        assert len(asset.uri) <= 1500
        if ON_3:
            assert stored[asset.uri] == asset.name
            assert asset.name.isascii()
            assert asset.name.isprintable()
            assert len(asset.name) < 200
    assert len({asset.uri for asset in assets}) == len(FOLDERS)
    if ON_3:
        assert len({asset.name for asset in assets}) == len(FOLDERS)


@pytest.mark.skipif(not ON_3, reason="assets of Airflow 2 have no names")
def test_a_person_reads_the_name() -> None:
    for folder, name in (
        ("s3://aws_default@finance/closeai/ledger", "CloseAI costs: s3://finance/closeai/ledger"),
        ("/data/closeai costs/ledger/", "CloseAI costs: /data/closeai costs/ledger"),
        ("file:///data/ledger", "CloseAI costs: /data/ledger"),
        ("~/ledger", "CloseAI costs: ~/ledger"),
    ):
        assert ledger_asset(folder).name == name
    assert ledger_asset("/data/财务/costs").name.startswith("CloseAI costs: /data/.../costs #")


def test_one_folder_is_one_asset_however_it_is_written() -> None:
    folders: list[list[Any]] = [
        [
            "/data/财务",
            "/data/财务/",
            "/data//./财务",
            "file:///data/财务",
            Path("/data/财务"),
            " /data/财务\n",
        ],
        ["file:/data/x", "FILE:///data/x", ObjectStoragePath("file:///data/x"), "local:///data/x"],
        ["s3://finance/x", "s3://aws_default@finance/x", "S3://a:b@finance/x/"],
        ["~/ledger", "file://~/ledger", Path("~/ledger")],
    ]
    for spellings in folders:
        first = ledger_asset(spellings[0])
        assert [ledger_asset(spelling) for spelling in spellings] == [first] * len(spellings)


@pytest.mark.parametrize("wrong", ["", " ", None, 5, "{{ var.value.x }}", "/x/{% if a %}b{% endif %}"])
def test_what_is_no_folder_is_told_where_it_is_asked_for(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a folder\. Give the folder itself"):
        ledger_asset(wrong)


@pytest.mark.parametrize("strange", ["airflow://x", "", " ", None, 5, ["/x"], "{{ var.value.x }}"])
def test_an_automatic_outlet_never_breaks_parsing(strange: Any) -> None:
    with DAG("strange", schedule=None):
        assert SnapshotCostsOperator(task_id="t", ledger=strange).outlets == []
        report = CostReportOperator(task_id="r", ledger="/x", month="latest", output=strange, currency="CNY")
        assert report.outlets == []


@pytest.mark.slow  # tests/e2e has it under a real scheduler
def test_a_snapshot_starts_the_report(sim: Simulator, dag: Any, tmp_path: Path) -> None:
    """The event of a snapshot is of the very asset that a DAG is scheduled on, with what was recorded."""
    from airflow.utils.session import create_session

    sim.add_account("search.web", monthly_cost="12.5")
    ledger = tmp_path / "财务" / "costs"
    with dag:
        SnapshotCostsOperator(task_id="snapshot", ledger=ledger)
    sync(dag)
    if not ON_3:
        DAG.bulk_write_to_db([dag])  # type: ignore[attr-defined]
    assert run(dag).task("snapshot") == "success 1"
    [file] = (ledger / "snapshots").rglob("*.csv")
    kind = "asset" if ON_3 else "dataset"
    query = f"select e.extra from {kind}_event e join {kind} a on a.id = e.{kind}_id where a.uri = :uri"  # noqa: S608
    with create_session() as session:
        [(extra,)] = session.execute(sqlalchemy.text(query), {"uri": ledger_asset(ledger).uri})
    assert file.name in str(extra)
