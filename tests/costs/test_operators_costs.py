"""The operators: parameters, refusals, alerts and outlets. Whole runs are in test_example_dags_costs.py."""

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
    BaseNotifier,
    BaseOperator,
)
from books import Book, Clock, local

from airflow_provider_closeai.costs.errors import SnapshotRefused
from airflow_provider_closeai.operators.costs import (
    CostReportOperator,
    SnapshotCostsOperator,
    deletion_recorder,
    ledger_asset,
)
from airflow_provider_closeai.simulator import Simulator

ON_3 = not version("apache-airflow").startswith("2.")


def context_of(run_id: str = "r", kind: str = "scheduled", **fields: Any) -> Any:
    ti = SimpleNamespace(dag_id="d", run_id=run_id, task_id="t", map_index=-1, try_number=1)
    return {
        "dag": None,  # Airflow 2 asks for it when it renders a notifier
        "ti": ti,
        "dag_run": SimpleNamespace(run_type=kind, run_after=fields.pop("run_after", None)),
        **fields,
    }


@pytest.fixture
def sim(closeai_connection: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    closeai_connection.add_account("search.web", monthly_cost="12.00000001")
    return closeai_connection


def snapshot(tmp_path: Path, context: Any = None, **options: Any) -> Any:
    operator = SnapshotCostsOperator(task_id="t", ledger=str(tmp_path / "ledger"), **options)
    return operator.execute(context or context_of())


def report_operator(tmp_path: Path, **options: Any) -> CostReportOperator:
    return CostReportOperator(
        task_id="t",
        ledger=str(tmp_path / "ledger"),
        **{
            "month": "current",
            "output": str(tmp_path / "out"),
            "currency": "CNY",
            "formats": ["json"],
            "thresholds": ["80%", "100%"],
            **options,
        },
    )


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


def test_a_report_that_comes_after_the_turn(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    clock.at = local("11-30 23:58")
    snapshot(tmp_path)
    clock.at = local("12-01 00:01")
    with pytest.raises(AirflowFailException, match="no usable snapshot of 2026-12"):
        report_operator(tmp_path).execute(context_of())
    record = report_operator(tmp_path, month=" latest ").execute(context_of())
    assert (record["billing_month"], record["status"]) == ("2026-11", "estimated")


def test_a_run_that_is_cleared_later_closes_its_own_month(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    for at in ("11-30 23:58", "12-31 23:58"):
        clock.at = local(at)
        snapshot(tmp_path, context_of(at))
    close = report_operator(tmp_path, month="previous", close="even if uncertain")
    record = close.execute(context_of(data_interval_end=local("12-01 00:05")))
    assert (record["billing_month"], record["closed"]) == ("2026-11", True)


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


def test_owners_and_budgets_from_files(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    (tmp_path / "owners.csv").write_text("alias,team,cost_center\nsearch.*,Search,CC-1\n")
    (tmp_path / "budgets.yaml").write_text("Search: 12.00000001\n")
    operator = report_operator(
        tmp_path, owners=str(tmp_path / "owners.csv"), budgets=str(tmp_path / "budgets.yaml")
    )
    result = operator.execute(context_of())
    assert [alert["threshold"] for alert in result["alerts"]] == ["80%", "100%"]
    assert result["files"] == {"json": str(tmp_path / "out/closeai-costs-2026-11.json")}
    found = json.loads(Path(result["files"]["json"]).read_text())
    assert found["owners"][0]["cost_center"] == "CC-1"
    assert json.loads(json.dumps(result)) == result
    operator.owners = str(tmp_path / "gone.csv")
    with pytest.raises(AirflowFailException, match=r"owners: the file .*gone.csv cannot be read"):
        operator.execute(context_of())


class Notifier(BaseNotifier):
    template_fields = ("text",)

    def __init__(
        self,
        text: str = "{{ closeai_alerts | length }} alerts of {{ closeai_report.billing_month }}",
        *,
        is_broken: bool = False,
    ) -> None:
        super().__init__()
        self.text = text
        self.is_broken = is_broken
        self.told: list[str] = []

    def notify(self, context: Any) -> None:
        if self.is_broken:
            raise OSError("no mail server")
        self.told.append(self.text)


def test_notifiers_are_told_once(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    notifier = Notifier()
    operator = report_operator(tmp_path, owners={"*": "A"}, budgets={"A": 10}, notifiers=notifier)
    operator.execute(context_of("first"))
    operator.execute(context_of("second"))
    assert notifier.told == ["2 alerts of 2026-11"]


def test_notifiers_may_get_every_report(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    snapshot(tmp_path)
    notifier = Notifier("{{ closeai_alerts | length }} alerts; {{ closeai_digest }}")
    operator = report_operator(tmp_path, notifiers=notifier, notify_on="report")
    for run_id in ("a", "b"):
        operator.execute(context_of(run_id))
    assert len(notifier.told) == 2
    assert notifier.told[0].startswith("0 alerts; CloseAI costs, November 2026 (open)\n")
    assert "cost 12.0000 CNY" in notifier.told[0]
    with pytest.raises(AirflowFailException, match="notify_on: 'never' is not one of alerts, report"):
        report_operator(tmp_path, notify_on="never").execute(context_of())


def test_a_broken_notifier_keeps_no_other_from_being_told(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    snapshot(tmp_path)
    good, broken = Notifier(), Notifier(is_broken=True)
    operator = report_operator(tmp_path, owners={"*": "A"}, budgets={"A": 10}, notifiers=[broken, good])
    told = r"Notifier: no mail server.*a retry, or the next report, sends them again"
    with pytest.raises(RuntimeError, match=told):
        operator.execute(context_of())
    assert good.told == ["2 alerts of 2026-11"]
    assert (tmp_path / "out/closeai-costs-2026-11.json").exists()
    broken.is_broken = False
    for run_id in ("next", "after"):
        operator.execute(context_of(run_id))
    assert broken.told == ["2 alerts of 2026-11"], "what could not be told is told by the next run, once"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"month": "2027-05"}, "month: 2027-05 is in the future"),
        ({"month": "2026-09"}, "holds no usable snapshot of 2026-09"),
        ({"currency": "RMB"}, "For the renminbi that is CNY"),
        ({"formats": "pdf"}, "formats: 'pdf'"),
        ({"time_zone": "Mars"}, "there is no zone 'Mars'"),
        ({"thresholds": ["much"]}, "thresholds: 'much'"),
        ({"ledger": None}, "ledger: it is empty"),
        ({"formats": 5}, "formats: none given"),
        ({"final_within": "soon"}, "final_within: 'soon' is no timedelta"),
        ({"final_within": -15}, "final_within: -15 is no timedelta"),
        ({"final_within": "inf"}, "final_within: 'inf' is no timedelta"),
        ({"close": "perhaps"}, "close is 'perhaps'"),
        ({"ledger": ""}, "ledger: it is empty"),
        ({"close": True}, "2026-11 is not over"),
        ({"budgets": [{"team": "A", "budget": 1, "currency": "USD"}]}, "is in USD"),
        ({"billed_cost": "half"}, "billed_cost: 'half'"),
    ],
)
def test_wrong_parameters_are_not_tried_again(
    sim: Simulator, clock: Clock, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    snapshot(tmp_path)
    operator = report_operator(tmp_path)
    for name, value in options.items():
        setattr(operator, name, value)
    with pytest.raises(AirflowFailException, match=told):
        operator.execute(context_of())


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
    record(list(CloseAIHook().iter_sub_accounts()))
    [file] = (tmp_path / "ledger/deleted/billing_month=2026-11").iterdir()
    assert "12.00000001" in file.read_text()


def test_object_storage(sim: Simulator, clock: Clock, book: Book, tmp_path: Path) -> None:
    """A file:// ledger is the same as its folder."""
    snapshot(tmp_path)
    operator = report_operator(
        tmp_path, output=(tmp_path / "out").as_uri(), formats="html,csv,json,focus,focus-csv", statements=True
    )
    operator.ledger = (tmp_path / "ledger").as_uri()
    files = operator.execute(context_of())["files"]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == len(files) == 10


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


def test_a_second_run_gives_the_same_result(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    """Clear and re-run, two reports, a close run twice: the same JSON where nothing changed."""
    clock.at = local("11-24 09:00")
    snapshot(tmp_path)
    options = {"owners": {"*": "A", "old.*": "B"}, "budgets": {"A": 10}, "formats": "html,csv,json,focus"}
    report = report_operator(tmp_path, **options)
    first = report.execute(context_of())
    clock.at = local("11-24 10:00")
    assert report.execute(context_of()) == first
    assert {**report.execute(context_of("other")), "alerts": first["alerts"]} == first
    assert report.execute(context_of("other"))["alerts"] == [], "told by the first run"
    clock.at = local("12-01 00:05")
    close = report_operator(
        tmp_path, month="previous", close="even if uncertain", **{**options, "thresholds": ()}
    )
    due: dict[str, Any] = {"data_interval_end": local("12-01 00:05")}
    first = close.execute(context_of("close", **due))
    clock.at = local("12-20 00:05")
    for run_id in ("close", "backfilled"):
        assert close.execute(context_of(run_id, **due)) == first
    assert len(list((tmp_path / "ledger/closed").rglob("*.csv"))) == 1
    assert not (tmp_path / "ledger/adjustments").exists()


def test_a_month_of_which_nothing_is_known_is_not_closed(
    sim: Simulator, clock: Clock, tmp_path: Path
) -> None:
    """The first unpause of a close in the middle of a month."""
    clock.at = local("11-24 09:00")
    snapshot(tmp_path)
    close = report_operator(tmp_path, month="previous", close="even if uncertain")
    with pytest.raises(AirflowSkipException, match="has nothing of 2026-10: there is nothing to close"):
        close.execute(context_of(data_interval_end=local("11-01 00:05")))
    assert not (tmp_path / "out").exists()
    close.month = "2026-10"
    with pytest.raises(AirflowFailException, match="no usable snapshot of 2026-10"):
        close.execute(context_of())


def test_a_report_that_a_snapshot_started_must_find_it(sim: Simulator, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="holds no usable snapshot"):
        report_operator(tmp_path, month="latest").execute(context_of(kind="asset_triggered"))
