"""Cost operators in real runs: templates, native or not, and mapped tasks, with objects that people pass."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier, BaseOperator, timezone
from airflow_cell import run, serialized

from airflow_provider_closeai.operators import _runs
from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator
from airflow_provider_closeai.operators.sub_accounts import DeleteSubAccountsOperator
from airflow_provider_closeai.simulator import Simulator

TEAMS = {"search.*": "Search"}


class Notifier(BaseNotifier):
    template_fields = ()

    def notify(self, context: Any) -> None:
        """Take it."""


@pytest.mark.parametrize("is_native", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_templates(sim: Simulator, tmp_path: Path, is_native: bool) -> None:
    sim.add_account("search.web", monthly_cost="12.5")
    name = f"templates_{is_native}"
    with DAG(
        name,
        schedule=None,
        start_date=timezone.datetime(2026, 1, 1),
        render_template_as_native_obj=is_native,
        params={
            "place": str(tmp_path),
            "account": 7,
            "month": "latest",
            "formats": "html, json",
            "owners": TEAMS,
            "budgets": {"Search": 12.5},
        },
    ) as dag:
        snapshot = SnapshotCostsOperator(
            task_id="snapshot", ledger="{{ params.place }}/ledger", time_zone=ZoneInfo("Asia/Shanghai")
        )
        report = CostReportOperator(
            task_id="report",
            ledger=Path("{{ params.place }}/ledger"),
            month="{{ params.month }}",
            output=Path("{{ params.place }}/out"),
            currency="{{ 'CNY' }}",
            formats="{{ params.formats }}",
            owners="{{ params.owners | tojson }}",
            budgets="{{ params.budgets | tojson }}",
            account="{{ params.account }}",
            time_zone=pendulum.timezone("Asia/Shanghai"),
            thresholds="80%, 100%",
            notifiers=Notifier(),
        )
        leaves = CostReportOperator(
            task_id="leaves",
            ledger="{{ params.place }}/ledger",
            month="latest",
            output="{{ params.place }}/leaves",
            currency="CNY",
            formats=["{{ 'json' }}"],
            owners={"search.*": {"team": "{{ 'Search' }}", "cost_center": "{{ params.account }}"}},
            budgets=[{"team": "Search", "budget": "{{ params.budgets.Search }}"}],
            thresholds=(),
        )
        snapshot >> [report, leaves]
    done = run(dag)
    assert [done.task(task) for task in ("report", "leaves")] == ["success 1", "success 1"]
    assert [alert["threshold"] for alert in done.result("report")["alerts"]] == ["80%", "100%"]
    [line] = json.loads(Path(done.result("leaves")["files"]["json"]).read_text())["owners"]
    assert (line["team"], line["cost_center"]) == ("Search", "7")
    assert done.rendered("report")["ledger"] == f"{tmp_path}/ledger"
    assert "7" in (tmp_path / "out" / Path(done.result("report")["files"]["html"]).name).read_text()


def test_mapped_tasks(sim: Simulator, tmp_path: Path, dag: Any) -> None:
    sim.add_account("search.web", monthly_cost="12.5")
    with dag:
        snapshots = SnapshotCostsOperator.partial(
            task_id="snapshot", time_zone=ZoneInfo("Asia/Shanghai"), max_lag=3600
        ).expand(ledger=[str(tmp_path / "a"), str(tmp_path / "b")])
        reports = CostReportOperator.partial(
            task_id="report",
            month="latest",
            currency="CNY",
            formats="json",
            thresholds="80%",
            time_zone=pendulum.timezone("Asia/Shanghai"),
            owners=TEAMS,
            budgets={"Search": Decimal("12.5")},
            final_within=900,
        ).expand_kwargs(
            [
                {"ledger": str(tmp_path / name), "output": str(tmp_path / f"{name}-out"), "account": number}
                for number, name in enumerate("ab", 7)
            ]
        )
        snapshots >> reports
    first, second = serialized(dag), serialized(dag)
    assert first == second
    assert " at 0x" not in first
    done = run(dag)
    assert done.states("report") == ["success", "success"]
    assert [[alert["threshold"] for alert in result["alerts"]] for result in done.results("report")] == [
        ["80%"]
    ] * 2


def test_a_deletion_takes_the_same_objects(sim: Simulator, tmp_path: Path, dag: Any) -> None:
    account = sim.add_account("search.web", monthly_cost="12.5")
    with dag:
        DeleteSubAccountsOperator(
            task_id="delete",
            sub_accounts=[account["id"]],
            ledger=tmp_path / "财务",
            time_zone=ZoneInfo("Asia/Shanghai"),
        )
    assert run(dag).task("delete") == "success 1"
    [file] = (tmp_path / "财务" / "deleted").rglob("*.csv")
    assert "12.5" in file.read_text()


def test_the_dag_is_the_same_at_every_parse(tmp_path: Path, dag: Any) -> None:
    def parse() -> dict[str, Any]:
        with DAG("same", schedule=None, start_date=timezone.datetime(2026, 1, 1)) as same:
            CostReportOperator(
                task_id="report",
                ledger=tmp_path,
                month="latest",
                output=tmp_path / "out",
                currency="CNY",
                owners=tmp_path / "owners.csv",
                budgets={"A": Decimal("1.5")},
                account=7,
                notifiers=[Notifier()],
                time_zone=ZoneInfo("Asia/Shanghai"),
            )
        stored = serialized(same)
        assert " at 0x" not in stored
        assert str(tmp_path / "owners.csv") in stored
        return dict(json.loads(stored))

    assert parse() == parse()


class TellsWhetherItIsFirst(BaseOperator):
    def execute(self, context: Any) -> bool:
        scheduled = SimpleNamespace(run_type="scheduled")  # dag.test() makes runs by hand
        return _runs.is_first({**context, "dag_run": scheduled})


def test_airflow_knows_whether_a_run_is_the_first(database: None, dag: Any) -> None:
    with dag:
        TellsWhetherItIsFirst(task_id="t")
    assert [run(dag).result("t") for _ in range(2)] == [True, False]
