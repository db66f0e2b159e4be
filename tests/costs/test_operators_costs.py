"""The snapshot's operator, and what it shares with the report's: outlets, imports, the last line of a log."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    Asset,
    BaseOperator,
)
from books import Clock, local
from tasks import context_of, report_operator, snapshot

from airflow_provider_closeai.costs.errors import SnapshotRefused
from airflow_provider_closeai.operators.costs import (
    SnapshotCostsOperator,
    deletion_recorder,
    ledger_asset,
)
from airflow_provider_closeai.simulator import Simulator

ON_3 = not version("apache-airflow").startswith("2.")


def test_a_snapshot_and_its_retry(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    clock.at = local("11-24 09:00")
    first = snapshot(tmp_path)
    assert (first["billing_month"], first["sub_accounts"], first["total"]) == ("2026-11", 1, "12.00000001")
    clock.at = local("11-24 09:05")
    again = snapshot(tmp_path)
    other = snapshot(tmp_path, context_of("other"))
    files = sorted(
        str(path.relative_to(tmp_path / "ledger")) for path in (tmp_path / "ledger/snapshots").rglob("*.csv")
    )
    assert files == sorted([again["file"], other["file"]])
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    ("context", "is_late"),
    [
        (context_of(data_interval_end=local("11-24 08:00")), False),
        (context_of(data_interval_end=local("11-23 09:00")), True),
        (context_of(kind="backfill", data_interval_end=local("11-01 00:00")), True),
        # A manual run's interval is the last whole one; what counts is when it was asked for.
        (
            context_of(
                kind="manual", data_interval_end=local("11-23 00:00"), logical_date=local("11-24 08:59")
            ),
            False,
        ),
        (context_of(kind="manual", logical_date=local("10-01 00:00")), True),
        (context_of(kind="manual", logical_date=None, run_after=local("11-24 08:59")), False),
        (context_of(kind="manual"), False),
        (context_of(kind="asset_triggered", run_after=local("11-20 00:00")), True),
    ],
)
def test_only_runs_of_now(sim: Simulator, clock: Clock, tmp_path: Path, context: Any, is_late: bool) -> None:
    clock.at = local("11-24 09:00")
    if not is_late:
        assert snapshot(tmp_path, context)["sub_accounts"] == 1
        return
    with pytest.raises(AirflowSkipException, match=r"This run was due at .* late \(max_lag is 6 h\)"):
        snapshot(tmp_path, context)
    assert not (tmp_path / "ledger").exists()
    assert sim.count("list") == 0


def test_a_late_run_fails_only_where_an_amount_is_lost(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    clock.at = local("11-24 09:00")
    snapshot(tmp_path, context_of("24"))
    clock.at = local("12-25 12:00")

    def run(run_id: str = "30", tries: int = 1, **fields: Any) -> Any:
        context = context_of(run_id, data_interval_end=local("11-30 23:58"), **fields)
        context["ti"].try_number = tries
        return snapshot(tmp_path, context, max_lag=timedelta(minutes=2))

    with pytest.raises(
        AirflowFailException, match=r"24 days 12 h late.*after its last snapshot \(2026-11-24 09:00"
    ):
        run()
    with pytest.raises(AirflowFailException):
        run(prev_start_date_success=local("11-01 00:00"))
    with pytest.raises(AirflowFailException):
        run(tries=2, prev_start_date_success=None)
    with pytest.raises(AirflowSkipException, match="this DAG had not succeeded before"):
        run(prev_start_date_success=None)
    assert sim.count("list") == 1


def test_a_run_across_the_turn_records_what_is_true(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    clock.at = local("12-01 00:10")
    record = snapshot(tmp_path, context_of(data_interval_end=local("11-30 23:55")))
    assert record["billing_month"] == "2026-12"


def test_an_empty_listing_may_be_tried_again(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    sim.delete_account(1)
    with pytest.raises(SnapshotRefused):
        snapshot(tmp_path, context_of("next"))


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    folders: list[Any] = [tmp_path / "x", ObjectStoragePath(f"file://{tmp_path}/x"), f"{tmp_path}/x/"]
    for folder in folders:
        operator = SnapshotCostsOperator(task_id="t", ledger=folder)
        assert [asset.uri.removeprefix("file://") for asset in operator.outlets] == [f"{tmp_path}/x"]
    mine = Asset("mine")
    with DAG("e", schedule=None, default_args={"outlets": [mine]}):
        assert SnapshotCostsOperator(task_id="t", ledger="/x").outlets == [mine]
    with DAG("d", schedule=None):
        first = BaseOperator(task_id="first")
        templates: list[Any] = [first.output, None, "{{ var.value.x }}", "{% if x %}/y{% endif %}"]
        for number, unknown in enumerate(templates):
            assert SnapshotCostsOperator(task_id=f"t{number}", ledger=unknown).outlets == []


def test_outlets(tmp_path: Path) -> None:
    uri = "s3://aws_default@finance/closeai/ledger"
    operator = SnapshotCostsOperator(task_id="a", ledger=uri)
    assert operator.outlets == [ledger_asset(uri)]
    own = Asset("own")
    assert SnapshotCostsOperator(task_id="b", ledger=uri, outlets=[own]).outlets == [own]
    assert SnapshotCostsOperator(task_id="c", ledger="{{ var.value.ledger }}").outlets == []
    report = report_operator(tmp_path, output="s3://finance/reports")
    assert report.outlets == [ledger_asset("s3://finance/reports")]


def test_the_outlet_is_described(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    class Events:
        def __init__(self) -> None:
            self.given: list[Any] = []

        def __getitem__(self, asset: Asset) -> Any:
            self.given.append(SimpleNamespace(asset=asset, extra={}))
            return self.given[-1]

    events = Events()
    result = snapshot(tmp_path, context_of(outlet_events=events))
    [event] = events.given
    assert (event.asset, event.extra) == (ledger_asset(str(tmp_path / "ledger")), result)


def test_the_last_records_of_a_deletion(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    clock.at = local("11-24 09:00")
    assert deletion_recorder(None, context_of()) is None
    record = deletion_recorder(str(tmp_path / "ledger"), context_of())
    assert record is not None
    record(list(CloseAIHook().iter_sub_accounts()), clock())
    [file] = (tmp_path / "ledger/deleted/billing_month=2026-11").iterdir()
    assert "12.00000001" in file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["airflow_provider_closeai.operators.costs"])
def test_a_dag_file_pays_for_nothing(module: str) -> None:
    code = (
        f"import sys, {module}; print([n for n in sys.modules if n.startswith("
        "('airflow_provider_closeai.costs', 'airflow_provider_closeai.client', 'pyarrow', 'polars', "
        "'requests'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    loaded = done.stdout.splitlines()[-1]
    assert "airflow_provider_closeai" not in loaded
    assert "pyarrow" not in loaded
    assert "polars" not in loaded


def test_costs_import_no_airflow() -> None:
    code = """
import importlib, pkgutil, sys
import airflow_provider_closeai.costs as costs
for found in pkgutil.iter_modules(costs.__path__, costs.__name__ + "."):
    importlib.import_module(found.name)
print([name for name in sys.modules if name.split(".")[0] in ("airflow", "pyarrow", "polars", "yaml")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("wrong", [-6, timedelta(hours=-1), None, True, "6 hours", float("nan"), 1e300])
def test_lags_are_timedeltas(sim: Simulator, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(AirflowFailException, match="max_lag: "):
        snapshot(tmp_path, max_lag=wrong)
    assert sim.count("list") == 0


@pytest.mark.parametrize(
    ("field", "raw"),
    [("monthly_cost", '""'), ("balance", '"1e"'), ("token", "null"), ("alias", '"\\ud83d"'), ("id", '"x"')],
)
def test_an_account_that_cannot_be_read_stops_the_snapshot_alone(
    sim: Simulator, clock: Clock, tmp_path: Path, field: str, raw: str
) -> None:
    from airflow_provider_closeai.client.errors import UnreadableAccount
    from airflow_provider_closeai.operators.sub_accounts import ListSubAccountsOperator

    number = sim.add_account("spoiled")["id"]
    sim.spoil(number, field, raw)
    with pytest.raises(UnreadableAccount, match="nothing was recorded") as caught:
        snapshot(tmp_path)
    assert field == "alias" or field in str(caught.value)
    assert field == "id" or str(number) in str(caught.value)
    assert not (tmp_path / "ledger").exists()
    listed = ListSubAccountsOperator(task_id="list").execute(context_of())
    assert [account["alias"] for account in listed] == ["search.web"]


def test_every_task_ends_with_a_line_that_says_what_is_so(
    sim: Simulator, clock: Clock, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    def logged() -> str:
        text: str = capfd.readouterr().out + caplog.text
        caplog.clear()
        return text

    caplog.set_level("INFO")
    clock.at = local("11-24 09:00")
    report = report_operator(tmp_path, month="latest", owners={"*": "A"}, budgets={"A": 10})
    with pytest.raises(AirflowSkipException):
        report.execute(context_of())
    assert "has no snapshot yet: there is nothing to report" in logged()
    file = snapshot(tmp_path)["file"]
    assert (
        f"Recorded 1 sub-account, together 12.00000001 in 2026-11 so far: {tmp_path}/ledger/{file}"
        in logged()
    )
    files = report.execute(context_of())["files"]
    told = f"2026-11 is open: 12.00000001 CNY. New alerts: 2. Written: {files['json']}"
    assert told in logged()
    clock.at = local("11-25 09:00")
    with pytest.raises(AirflowSkipException):
        snapshot(tmp_path, context_of("late", data_interval_end=local("11-25 00:00")))
    assert "comes 9 h late" in logged()
