"""The page in Airflow's UI without an API server: what loads it, and what it makes of what was published."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow_cell import AIRFLOW, ON_3, python, run

from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator
from airflow_provider_closeai.sensors.health import HealthSensor
from airflow_provider_closeai.simulator import Simulator

HAS_PAGES = AIRFLOW >= (3, 1)
ROSTER = {"version": 1, "accounts": [{"alias": "<b>", "balance": 1, "model_pricing": {"gpt-4": 1}}]}

LOAD = """
import json, sys
from airflow.providers.common.compat.sdk import AirflowPlugin, conf
import airflow.providers.common.compat.version_compat
before = set(sys.modules)
import airflow_provider_closeai.plugins.page
print("found", json.dumps(sorted(set(sys.modules) - before)))
"""

MANAGER = """
import json, warnings
told = []
def note(message, category, filename, lineno, file=None, line=None):
    if "closeai" in f"{filename} {message}".lower():
        told.append(f"{category.__name__}: {message}")
warnings.showwarning = note
warnings.simplefilter("always")
from airflow import plugins_manager
if hasattr(plugins_manager, "_get_plugins"):
    plugins, errors = plugins_manager._get_plugins()
else:
    plugins_manager.ensure_plugins_loaded()
    plugins, errors = plugins_manager.plugins, plugins_manager.import_errors
(plugin,) = [plugin for plugin in plugins if plugin.name == "closeai"]
(info,) = [info for info in plugins_manager.get_plugin_info() if info["name"] == "closeai"]
print("found", json.dumps({
    "errors": dict(errors), "told": told, "views": plugin.external_views,
    "routes": [[route.path for route in each["app"].routes] for each in plugin.fastapi_apps],
    "info": {name: value for name, value in info.items() if value and name not in ("name", "source")}}))
"""

UNKNOWN_AIRFLOW = """
import json, sys
sys.modules["airflow.api_fastapi.core_api.security"] = None
from airflow_provider_closeai.plugins.page import CloseAIPlugin
plugin = CloseAIPlugin()
print("found", json.dumps([plugin.fastapi_apps, plugin.external_views]))
"""


def child(code: str, **environment: str) -> Any:
    done = python("-c", code, **environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1].removeprefix("found "))


@pytest.mark.slow
def test_the_plugin_loads_nothing_but_itself() -> None:
    package = "airflow_provider_closeai"
    assert set(child(LOAD)) - {package} == {f"{package}.plugins", f"{package}.plugins.page"}


def test_airflow_finds_it_without_a_word(database: None) -> None:
    found = child(MANAGER, AIRFLOW__API__BASE_URL="https://host.example/airflow/")
    assert (found["errors"], found["told"]) == ({}, [])
    if not HAS_PAGES:
        assert (found["views"], found["routes"], found["info"]) == ([], [], {})
        return
    assert found["routes"] == [["/"]]
    (view,) = found["views"]
    assert view["href"] == "/airflow/closeai/"
    assert set(found["info"]) == {"fastapi_apps", "external_views"}


@pytest.mark.slow
def test_an_airflow_that_is_not_as_expected_starts_without_the_page() -> None:
    assert child(UNKNOWN_AIRFLOW) == [[], []]


@pytest.mark.skipif(not ON_3, reason="Airflow 2's dags test knows no alias of datasets")
def test_what_was_seen_is_published_once(sim: Simulator, dag: Any) -> None:
    from airflow_provider_closeai.plugins import published

    with dag:
        HealthSensor(task_id="healthy")
        PlanSubAccountsOperator(task_id="plan", roster=ROSTER, max_create=1)
    run(dag)
    first = published.read([dag.dag_id])
    ((bases,), (plan,)) = (first.bases, first.plans)
    assert [base.healthy for base in bases.record.bases] == [True, True]
    assert bases.record.discovered_at is not None
    assert bases.task[:2] == (dag.dag_id, "healthy")
    assert (plan.asset, plan.record.has_changes, plan.now) == ("closeai_default", True, None)
    run(dag)
    second = published.read([dag.dag_id])
    assert second.bases == first.bases, "nothing changed, and it was published again"
    assert second.plans[0].at > plan.at
    nothing = published.read(["another_dag"])
    assert [nothing.bases, nothing.plans, nothing.reports, nothing.changes] == [[], [], [], []]


@pytest.mark.skipif(not ON_3, reason="Airflow 2's dags test knows no alias of datasets")
def test_a_run_that_is_cleared_and_fails_then_is_named(sim: Simulator, dag: Any) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    from airflow_provider_closeai.plugins import published

    with dag:
        PlanSubAccountsOperator(task_id="plan", roster=ROSTER, max_create=1)
    run(dag)
    (plan,) = published.read([dag.dag_id]).plans
    with create_session() as session:
        again = session.query(TaskInstance).filter_by(dag_id=dag.dag_id, task_id="plan").one()
        again.state, again.start_date = "failed", datetime.now(UTC)
    (cleared,) = published.read([dag.dag_id]).plans
    assert (plan.now, cleared.now) == (None, (plan.task[2], "failed"))


@pytest.mark.skipif(not ON_3, reason="Airflow 2's dags test knows no alias of datasets")
def test_a_change_of_health_is_published(sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_closeai.plugins import published

    extra = {"health_ttl": 0.001}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps({**sim.connection(), "extra": extra}))
    with dag:
        HealthSensor(task_id="healthy")
    run(dag)
    sim.stop_base(1)
    run(dag)
    (bases,) = published.read([dag.dag_id]).bases
    assert [base.healthy for base in bases.record.bases] == [True, False]


@pytest.mark.skipif(not ON_3, reason="Airflow 2's dags test knows no alias of datasets")
def test_sensors_that_are_deferred_or_mapped_publish_too(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat.sdk import AssetAlias

    from airflow_provider_closeai.plugins import published

    for number, name in enumerate(("one", "two")):  # each with a cache of its own
        extra = {"health_ttl": 0.001, "allowed_hosts": ["127.0.0.1", f"host{number}"]}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({**sim.connection(), "extra": extra}))
    sim.fault("healthy", "unhealthy", times=4)
    with dag:
        waits = HealthSensor(task_id="waits", closeai_conn_id="one", deferrable=True, poke_interval=0.01)
        mapped = HealthSensor.partial(task_id="mapped", outlets=[AssetAlias("closeai_health")])
        waits >> mapped.expand(closeai_conn_id=["one", "two"])
    assert run(dag).state == "success"
    events = published.read([dag.dag_id]).bases
    assert [(event.asset, event.task[1]) for event in events] == [("one", "waits"), ("two", "mapped")]


def test_what_is_none_of_ours_is_left_out_and_text_stays_text() -> None:
    from airflow_provider_closeai.plugins import page, published

    whole = {"roster": "<script>r\u202e</script>", "digest": "d", "summary": "s", "has_changes": True,
             "lines": ["<img src=x>", "中文"], "more_lines": 3}  # fmt: skip
    uri = "closeai://conn/plan"
    all_broken: list[Any] = [None, [], {}, "text", {**whole, "lines": 1}, {**whole, "roster": None}]
    for broken in all_broken:
        assert published._record(uri, "name", broken) == ("conn", None)
    assert published._record("closeai://conn/other", "name", whole) == ("conn", None)
    amount = {"billing_month": "2026-01", "currency": "CNY", "status": "open", "sub_accounts": 1,
              "headline": "", "teams": [], "more_teams": 0, "warnings": [], "url": None}  # fmt: skip
    for total, is_kept in (("12.5", True), ("1e999999", False), ("NaN", False), (12.5, False)):
        record = published._record("file:///x", "CloseAI costs: /x", {**amount, "total": total})[1]
        assert (record is not None) == is_kept, total
    base = {"api": "https://a", "healthy": True, "detail": ""}
    for moment, is_kept in (("2026-01-01T00:00:00", False), ("9999-12-31T23:59:59-14:00", True)):
        bases = {"bases": [{**base, "checked_at": moment}], "discovered_at": moment}
        record = published._record("closeai://conn/health", "name", bases)[1]
        assert (record is not None) == is_kept, moment
        if record is not None:
            event = published.Event("conn", datetime.now(UTC), record, ("d", "t", "r"))
            assert moment[:10] in page.render(published.Published(datetime.now(UTC), [event], [], [], []))
    event = published.Event("conn", datetime.now(UTC), published._record(uri, "n", whole)[1], ("d", "t", "r"))
    html = page.render(published.Published(datetime.now(UTC), [], [], [event], []))
    assert "&lt;script&gt;r\\u202e&lt;/script&gt;" in html
    assert "&lt;img src=x&gt;" in html
    assert "中文" in html
    assert html.count("<script>") == 1


@pytest.mark.skipif(not ON_3, reason="the page is of Airflow 3")
def test_a_roster_that_is_planned_seldom_stays_beside_one_that_is_planned_often(database: None) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    from airflow_provider_closeai.operators._assets import connection_asset
    from airflow_provider_closeai.plugins import published

    plan = {"digest": "d", "summary": "s", "has_changes": False, "lines": [], "more_lines": 0}
    outlet: Any = connection_asset("seldom#1", "plan", "CloseAI plan")
    asset = AssetModel(name=outlet.name, uri=outlet.uri, group="asset", extra={})
    with create_session() as session:
        session.add(asset)
        session.flush()
        for number, roster in enumerate(["seldom", *["often"] * 30, *["one", "two"]]):
            task = {"source_dag_id": "many", "source_task_id": "both" if number > 30 else roster}
            more = {"source_run_id": f"run{number}", "source_map_index": -1}
            event = AssetEvent(asset_id=asset.id, extra={"roster": roster, **plan}, **task, **more)
            session.add(event)
            session.flush()
    plans = published.read(["many"]).plans
    assert [(event.asset, event.record.roster, event.task[2]) for event in plans] == [
        ("seldom#1", "often", "run30"),
        ("seldom#1", "one", "run31"),
        ("seldom#1", "seldom", "run0"),
        ("seldom#1", "two", "run32"),
    ]


@pytest.mark.parametrize("name", ["team#1", "a?b", "a/b", "user:pw@x", "[x]", "数据", "a%20b"])
def test_a_connection_of_any_name_has_an_asset_of_its_own(name: str) -> None:
    from airflow_provider_closeai.operators._assets import connection_asset
    from airflow_provider_closeai.plugins import published

    plan = {"roster": "r", "digest": "", "summary": "", "has_changes": False, "lines": [], "more_lines": 0}
    label, record = published._record(connection_asset(name, "plan", "CloseAI plan").uri, "n", plan)
    assert (label, record is not None) == (name, True)
