"""The objects that DAG authors pass, and what templates make of them, each in every form that people use."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, BaseNotifier, ObjectStoragePath
from books import Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.months import zone_name
from airflow_provider_closeai.costs.accounting.owners import parse_budgets
from airflow_provider_closeai.operators.costs import (
    CostReportOperator,
    SnapshotCostsOperator,
    deletion_recorder,
)
from airflow_provider_closeai.simulator import Simulator


def context_of(**fields: Any) -> Any:
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    run = SimpleNamespace(run_type="manual", run_after=None)
    return {"dag": None, "ti": ti, "dag_run": run, **fields}


@pytest.fixture
def sim(
    closeai_connection: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> Simulator:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    closeai_connection.add_account("search.web", monthly_cost="12.00000001")
    clock.at = local("11-24 09:00")
    return closeai_connection


def snapshot(ledger: Any, **options: Any) -> dict[str, Any]:
    return SnapshotCostsOperator(task_id="t", ledger=ledger, **options).execute(context_of())


def report(tmp_path: Path, **options: Any) -> dict[str, Any]:
    operator = CostReportOperator(
        task_id="t",
        **{
            "ledger": tmp_path / "ledger",
            "month": "latest",
            "output": tmp_path / "out",
            "currency": "CNY",
            "formats": "json",
            **options,
        },
    )
    return operator.execute(context_of())


ZONES: list[Any] = [
    "Asia/Shanghai",
    " Asia/Shanghai\n",
    ZoneInfo("Asia/Shanghai"),
    pendulum.timezone("Asia/Shanghai"),
    pendulum.timezone(8 * 3600),
    timezone(timedelta(hours=8)),
    timezone(timedelta(hours=8), "CST"),
]


@pytest.mark.parametrize("zone", ZONES, ids=repr)
def test_zones(sim: Simulator, clock: Clock, tmp_path: Path, zone: Any) -> None:
    """At 23:30 of UTC it is the new month in Shanghai: for the snapshot, the report and a deletion."""
    from airflow_provider_closeai.hooks.closeai import CloseAIHook

    clock.at = local("12-01 07:30")
    assert snapshot(tmp_path / "ledger", time_zone=zone)["billing_month"] == "2026-12"
    assert report(tmp_path, time_zone=zone, month="current")["billing_month"] == "2026-12"
    record = deletion_recorder(tmp_path / "ledger", context_of(), zone)
    assert record is not None
    record(list(CloseAIHook().iter_sub_accounts()), clock())
    assert [path.name for path in (tmp_path / "ledger/deleted").iterdir()] == ["billing_month=2026-12"]


@pytest.mark.parametrize("zone", [UTC, pendulum.UTC, "UTC", ZoneInfo("UTC"), timezone(timedelta(0))])
def test_utc(sim: Simulator, clock: Clock, tmp_path: Path, zone: Any) -> None:
    clock.at = local("12-01 07:30")
    assert snapshot(tmp_path / "ledger", time_zone=zone)["billing_month"] == "2026-11"
    assert report(tmp_path, time_zone=zone)["billing_month"] == "2026-11"


def test_zones_of_other_libraries() -> None:
    class OfPytz(pendulum.tz.timezone.FixedTimezone):
        zone = "Asia/Shanghai"

    assert zone_name(OfPytz(0)) == "Asia/Shanghai"
    assert zone_name(timezone(timedelta(hours=-5))) == "Etc/GMT+5"


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Asia/Shangai", "no zone 'Asia/Shangai'. Did you mean 'Asia/Shanghai'?"),
        ("asia/shanghai", "Did you mean 'Asia/Shanghai'?"),
        ("UTC+8", "Did you mean 'Etc/GMT-8'?"),
        ("+08:00", "Did you mean 'Etc/GMT-8'?"),
        ("GMT+8", "Did you mean 'Etc/GMT-8'?"),
        ("", "no zone ''. Give an IANA name"),
        (None, "no zone None"),
        (8, "no zone 8"),
        ("../etc/passwd", "no zone"),
        (timezone(timedelta(hours=5, minutes=30)), "no zone datetime.timezone"),
    ],
)  # fmt: skip
def test_a_wrong_zone_is_told_with_the_nearest(sim: Simulator, tmp_path: Path, zone: Any, told: str) -> None:
    for run in (
        lambda: snapshot(tmp_path / "ledger", time_zone=zone),
        lambda: report(tmp_path, time_zone=zone),
        lambda: deletion_recorder(tmp_path / "ledger", context_of(), zone),
    ):
        with pytest.raises((AirflowFailException, InvalidParameter)) as caught:
            run()
        assert told in str(caught.value)
        assert str(caught.value).startswith("time_zone: ")
    assert sim.count("list") == 0


@pytest.mark.parametrize(
    "kind", ["text", "path", "object store", "file", "spaces", "home", "home path", "file home"]
)
def test_folders(sim: Simulator, tmp_path: Path, kind: str) -> None:
    """A ledger and an output in every form. ~ is the worker's home; no folder is ever called ~."""
    place = tmp_path / ("home/ledger" if "home" in kind else "财务 ledger")
    ledger: Any = {
        "text": str(place),
        "path": place,
        "object store": ObjectStoragePath(f"file://{place}"),
        "file": f"file://{place}",
        "spaces": f" {place}\n",
        "home": "~/ledger",
        "home path": Path("~/ledger"),
        "file home": "file://~/ledger",
    }[kind]
    output = f"{ledger}-out" if isinstance(ledger, str) else type(ledger)(f"{ledger}-out")
    file = snapshot(ledger)["file"]
    assert (place / file).is_file()
    done = report(tmp_path, ledger=ledger, output=output.strip() if kind == "spaces" else output)
    assert (done["total"], len(done["files"])) == ("12.00000001", 1)
    found = {path.name for path in tmp_path.rglob("*-2026-11.json")}
    assert found == {"closeai-costs-2026-11.json"}
    assert not list(tmp_path.rglob("~*"))
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("parameter", "wrong", "told"),
    [
        ("ledger", "", "ledger: it is empty"),
        ("ledger", " ", "ledger: it is empty"),
        ("ledger", None, "ledger: it is empty"),
        ("ledger", 5, "ledger: 5 is not a folder"),
        ("ledger", ["/x"], "is not a folder"),
        ("ledger", "None", "ledger: 'None' is what a template makes of a value that is not there"),
        ("ledger", "None/ledger", "is what a template makes of a value that is not there"),
        ("ledger", "/data/{{ params.place }}", "not rendered"),
        ("output", "null", "output: 'null' is what a template makes of a value that is not there"),
        ("ledger", "~nobody-of-this-name/x", "this worker knows no such user"),
        ("ledger", "/data/\ud83d", "ledger: '/data/\\ud83d' holds half a character"),
        ("ledger", "/data\0", "ledger: '/data\\x00' holds a NUL character, which no path can have"),
        ("ledger", "foo://bucket/x", "ledger: 'foo://bucket/x' cannot be opened: "),
        ("output", "/data/\ud83d", "output: '/data/\\ud83d' holds half a character"),
        ("output", Path("/data\0"), "output: '/data\\x00' holds a NUL character"),
        ("account", "\ud83d", "account: '\\ud83d' holds half a character"),
        ("public_url", "https://a/\ud83d", "public_url: it is not a web address"),
        ("public_url", "http://ex ample.com", "public_url: it is not a web address"),
        ("public_url", "https://example.com:99999", "public_url: it is not a web address"),
        ("output", "", "output: it is empty"),
        ("output", None, "output: it is empty"),
        ("output", 5, "output: 5 is not a folder"),
        ("account", "", "account: '' is not text"),
        ("account", None, "account: None is not text"),
        ("account", True, "account: True is not text"),
        ("account", ["x"], "account: "),
        ("owners", "", "owners: it is empty"),
        ("owners", 5, "owners: int is neither a mapping nor a list"),
        ("owners", "{'search.*': 'Search'}", "In a template write {{ params.owners | tojson }}"),
        ("budgets", "[oh", "In a template write {{ params.budgets | tojson }}"),
        ("budgets", '{"A": 1e3, "A": 2}', "'A' is there twice in one object"),
        ("budgets", Path("/not/there.yaml"), "budgets: the file /not/there.yaml cannot be read"),
        ("budgets", {"Ads": "1e400"}, "budgets entry 1 ('Ads'): '1e400' is out of range"),
        ("budgets", {"Ads": 1e400}, "budgets entry 1 ('Ads'): inf is not an amount. Write a plain number"),
        ("budgets", {"Ads": float("nan")}, "budgets entry 1 ('Ads'): nan is not an amount"),
        ("budgets", {"Ads": "NaN"}, "is not an amount"),
        ("budgets", {"Ads": "1e-400"}, "is out of range"),
        ("budgets", {"Ads": -5}, "budgets entry 1 ('Ads'): a budget is above 0, not -5. Leave the team out"),
        ("budgets", {"Ads": True}, "True is not an amount"),
        ("budgets", {"Ads": None}, "None is not an amount"),
        ("thresholds", 80, "thresholds: 80 is none"),
        ("thresholds", [80], "thresholds: 80 is none"),
        ("notifiers", "mail", "notifiers: str is not a notifier"),
        ("notifiers", [print], "notifiers: builtin_function_or_method is not a notifier"),
        ("final_within", True, "final_within: True is neither a timedelta"),
        ("final_within", "soon", "final_within: 'soon' is neither a timedelta"),
        ("final_within", timedelta.max, "is neither a timedelta of 0 to 999,999,999 days"),
        ("owners", "[" * 200_000, "owners: it is text that is not JSON (it is nested too deeply)"),
        ("owners", {10**5000: "Ads"}, "owners rule 1: id: a number of 16610 bits is none that anybody wrote"),
        ("owners", [{"team": "Ads", "id": "1" * 5000}], "is not the id of a sub-account"),
        ("budgets", {"Ads": 10**5000}, "bits> is out of range"),
        ("close", "perhaps", "close is 'perhaps'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)  # fmt: skip
def test_wrong_objects_are_told(
    sim: Simulator, tmp_path: Path, parameter: str, wrong: Any, told: str
) -> None:
    snapshot(tmp_path / "ledger")
    with pytest.raises(AirflowFailException) as caught:
        report(tmp_path, **{parameter: wrong})
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


RULES = {"search.*": {"team": "Search", "cost_center": 0}}


@pytest.mark.parametrize(
    "kind", ["mapping", "list", "tuple", "json", "path", "object store", "text", "file", "home"]
)
def test_owners_and_budgets(sim: Simulator, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / ("home" if kind == "home" else "财务")
    folder.mkdir()
    (folder / "owners.yaml").write_text("search.*: {team: Search, cost_center: 0}\n")
    (folder / "budgets.csv").write_text("team,budget\nSearch,12.00000001\n")
    owners, budgets = (
        [{"alias": "search.*", "team": "Search", "cost_center": 0}],
        [{"team": "Search", "budget": "12.00000001"}],
    )
    forms: dict[str, Any] = {
        "mapping": (RULES, {"Search": Decimal("12.00000001")}),
        "list": (owners, budgets),
        "tuple": (tuple(owners), tuple(budgets)),
        "json": (json.dumps(RULES), '{"Search": 12.00000001}'),
        "path": (folder / "owners.yaml", folder / "budgets.csv"),
        "object store": tuple(
            ObjectStoragePath(f"file://{folder}/{name}") for name in ("owners.yaml", "budgets.csv")
        ),
        "text": (f"{folder}/owners.yaml", f" {folder}/budgets.csv\n"),
        "file": (f"file://{folder}/owners.yaml", f"file://{folder}/budgets.csv"),
        "home": ("~/owners.yaml", Path("~/budgets.csv")),
    }  # fmt: skip
    snapshot(tmp_path / "ledger")
    done = report(tmp_path, owners=forms[kind][0], budgets=forms[kind][1])
    assert [alert["threshold"] for alert in done["alerts"]] == ["80%", "100%"]
    [line] = json.loads(Path(done["files"]["json"]).read_text())["owners"]
    assert (line["team"], line["cost_center"]) == ("Search", "0")


@pytest.mark.parametrize("number", ["0.3", 0.3, Decimal("0.3"), " 0.3 "])
def test_a_budget_is_the_number_that_was_written(number: Any) -> None:
    assert parse_budgets({"Ads": number}, "CNY") == {"Ads": Decimal("0.3")}


@pytest.mark.parametrize("account", [7, "7", " 7 ", Decimal(7)])
def test_an_account_may_be_a_number(sim: Simulator, tmp_path: Path, account: Any) -> None:
    snapshot(tmp_path / "ledger")
    done = report(tmp_path, account=account, formats="html,focus")
    for file in done["files"].values():
        assert "7" in Path(file).read_text()
    assert ",7,7,CNY," in Path(done["files"]["focus"]).read_text()


@pytest.mark.parametrize(
    "hours", [timedelta(hours=6), pendulum.duration(hours=6), 21600, 21600.0, "21600", Decimal(21600)]
)
def test_spans(sim: Simulator, clock: Clock, tmp_path: Path, hours: Any) -> None:
    assert snapshot(tmp_path / "ledger", max_lag=hours)["sub_accounts"] == 1
    clock.at = local("12-01 00:01")
    snapshot(tmp_path / "other")
    assert report(tmp_path, month="2026-11", final_within=hours)["status"] == "estimated"
    assert report(tmp_path, month="2026-11", final_within=timedelta(days=7))["status"] == "estimated"


@pytest.mark.parametrize("thresholds", ["80%", ["80%"], ("80%",), "80%, ", {"80%": 1}, iter(["80%"])])
def test_thresholds(sim: Simulator, tmp_path: Path, thresholds: Any) -> None:
    snapshot(tmp_path / "ledger")
    done = report(tmp_path, thresholds=thresholds, owners={"*": "A"}, budgets={"A": 10})
    assert [alert["threshold"] for alert in done["alerts"]] == ["80%"]


@pytest.mark.parametrize("none", [(), [], None, ""])
def test_no_thresholds_disable_alerts(sim: Simulator, tmp_path: Path, none: Any) -> None:
    snapshot(tmp_path / "ledger")
    assert report(tmp_path, thresholds=none, owners={"*": "A"}, budgets={"A": 10})["alerts"] == []


@pytest.mark.parametrize(
    "formats", ["csv, json", "csv,json,", ["csv", "json"], ("CSV", "json"), {"csv", "json"}]
)
def test_formats(sim: Simulator, tmp_path: Path, formats: Any) -> None:
    snapshot(tmp_path / "ledger")
    assert len(report(tmp_path, formats=formats)["files"]) == 5


class Notifier(BaseNotifier):
    template_fields = ()

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told

    def notify(self, context: Any) -> None:
        self.told.append(context["closeai_report"]["billing_month"])


@pytest.mark.parametrize(
    "form",
    [lambda one: one, lambda one: [one], lambda one: (one,), lambda one: {one}, lambda one: iter([one])],
)
def test_notifiers(sim: Simulator, tmp_path: Path, form: Any) -> None:
    snapshot(tmp_path / "ledger")
    told: list[str] = []
    report(tmp_path, notifiers=form(Notifier(told)), owners={"*": "A"}, budgets={"A": 10})
    assert told == ["2026-11"]
    assert report(tmp_path, notifiers=None)["alerts"] == []


def test_a_flag_may_come_as_text(sim: Simulator, tmp_path: Path) -> None:
    assert snapshot(tmp_path / "ledger", control_total="False")["main_usage"] is None
    assert snapshot(tmp_path / "ledger", control_total="true")["main_usage"] is not None
    with pytest.raises(AirflowFailException, match="control_total is 'maybe'"):
        snapshot(tmp_path / "ledger", control_total="maybe")
