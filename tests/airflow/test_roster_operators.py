"""PlanSubAccountsOperator and SyncSubAccountsOperator, and the hook's methods: parameters, results, logs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import ON_3, everything_stored, run
from cryptography.fernet import Fernet

from airflow_provider_closeai.client.errors import CloseAIError, InvalidParameter
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.roster import (
    PlanSubAccountsOperator,
    SyncSubAccountsOperator,
    accounts_asset,
)
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.sinks.file import EncryptedFileSink


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncryptedFileSink:
    connection = {"conn_type": "generic", "password": Fernet.generate_key().decode()}
    monkeypatch.setenv("AIRFLOW_CONN_FILE_KEY", json.dumps(connection))
    return EncryptedFileSink(tmp_path / "keys", "file_key")


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["text", "native"]
)
def test_a_plan_is_applied_in_the_same_dag(
    sim: Simulator, dag: Any, roster: Path, sink: EncryptedFileSink, native: bool, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    dag.render_template_as_native_obj = native
    old = sim.add_account("team-old")
    other = sim.add_account("other")
    drifted = sim.add_account("team-ads")
    options: dict[str, Any] = {"deliver_to": sink, "ledger": tmp_path / "ledger"}
    with dag:
        plan = PlanSubAccountsOperator(
            task_id="plan",
            roster="{{ dag_run.conf['roster'] }}",
            prune="{{ True }}",
            max_create="{{ 5 }}",
            max_delete="{{ '50%' }}",
            **options,
        )
        SyncSubAccountsOperator(task_id="sync", plan=plan.output, **options)
    caplog.set_level(logging.INFO)
    first = run(dag, {"roster": str(roster)})
    assert first.state == "success"
    planned, done = first.result("plan"), first.result("sync")
    assert planned["counts"] == {"create": 2, "reprice": 1, "delete": 1}
    assert f"`{planned['digest']}`" in planned["markdown"]
    assert (done["digest"], done["counts"]["created"], done["counts"]["delivered"]) == (
        planned["digest"],
        2,
        3,
    )
    assert [record["id"] for record in done["deleted"]] == [old["id"]]
    assert [record["id"] for record in done["repriced"]] == [drifted["id"]]
    there = {account["id"]: account for account in sim.accounts()}
    assert old["id"] not in there
    assert there[other["id"]]["token"] == other["token"]
    assert {sink.read(record["id"]).reveal() for record in done["sub_accounts"]} == {
        account["token"] for account in there.values() if account["alias"] != "other"
    }
    assert "create 2 of 'team-search': gpt-4o: 1, gpt-4o-mini: 0.5; balance 100 (missing)." in caplog.messages
    assert any(line.endswith("2 created, 1 repriced, 1 deleted, 3 delivered.") for line in caplog.messages)
    assert list((tmp_path / "ledger" / "snapshots").rglob("*.csv"))
    assert list((tmp_path / "ledger" / "deleted").rglob("*.csv"))
    stored = everything_stored() + caplog.text
    assert not [account for account in [*there.values(), old] if account["token"] in stored]

    again = run(dag, {"roster": str(roster)}).result("sync")
    assert list(again) == list(done)
    assert again["counts"] == {
        "aliases": 2, "sub_accounts": 3, "created": 0, "repriced": 0, "deleted": 0, "delivered": 0
    }  # fmt: skip


def test_a_roster_is_applied_at_once_and_what_is_right_is_left(
    sim: Simulator, dag: Any, roster: Path
) -> None:
    with dag:
        SyncSubAccountsOperator(task_id="sync", roster=roster, max_create=3)
    assert run(dag).result("sync")["counts"]["created"] == 3
    before = sim.accounts()
    assert run(dag).result("sync")["counts"]["created"] == 0
    assert sim.accounts() == before


def test_a_dry_run_changes_nothing(
    sim: Simulator, dag: Any, roster: Path, sink: EncryptedFileSink, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    sim.add_account("team-ads")
    before = sim.accounts()
    with dag:
        SyncSubAccountsOperator(
            task_id="sync", roster=roster, dry_run=True, deliver_to=sink, ledger=tmp_path / "ledger"
        )
    caplog.set_level(logging.INFO)
    assert run(dag).state == "success"
    assert sim.accounts() == before
    assert not (tmp_path / "ledger").exists()
    assert not (tmp_path / "keys").exists()
    assert "2 to create, 1 to reprice, 0 to delete (dry run, nothing was changed)" in caplog.text


def test_drift_fails_a_check_and_names_each_difference(
    sim: Simulator, dag: Any, roster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sim.add_account("team-ads")
    caplog.set_level(logging.INFO)
    with dag:
        PlanSubAccountsOperator(task_id="drift", roster=roster, fail_on_changes=True, retries=2)
    assert run(dag).task("drift") == "failed 1", "it is not worth a retry"
    assert "reprice 1 of 'team-ads': gpt-3.5-turbo: 1 -> gpt-4o: 1 (drift)." in caplog.text
    assert not [request for request in sim.requests if request.call in ("create", "update", "delete")]
    CloseAIHook().apply(str(roster))
    assert run(dag).task("drift") == "success 1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roster": "/nowhere/roster.yaml"}, "cannot be read: .* No such file"),
        ({"roster": {}}, "is empty"),
        (
            {"roster": {"version": 1, "accounts": []}, "prune": True},
            "max_delete is not given, and prune=True",
        ),
        ({}, "none is given"),
        ({"roster": {"version": 1, "accounts": []}, "plan": {}}, "both are given"),
        ({"plan": {"counts": {}}}, "and no plan"),
        (
            {
                "roster": {
                    "version": 1,
                    "defaults": {"balance": 1, "model_pricing": {"m": 1}},
                    "accounts": [{"alias": "a", "rotate": {"every": "90d"}}],
                }
            },
            "rotate is given, and deliver_to is None",
        ),
        (
            {
                "roster": {
                    "version": 1,
                    "defaults": {"balance": 1, "model_pricing": {"m": 1}},
                    "accounts": [{"alias": "a", "budget": 1, "over_budget": {}}],
                }
            },
            "over_budget is given, and ledger is None",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    sim: Simulator, dag: Any, options: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with dag:
        SyncSubAccountsOperator(task_id="sync", retries=2, **options)
    assert run(dag).task("sync") == "failed 1"
    assert not sim.requests
    import re

    assert re.search(message, " ".join(record.getMessage() for record in caplog.records))


def test_a_bound_that_is_exceeded_changes_nothing(sim: Simulator, dag: Any, roster: Path) -> None:
    for _ in range(3):
        sim.add_account("team-old")
    before = sim.accounts()
    with dag:
        SyncSubAccountsOperator(task_id="sync", roster=roster, prune=True, max_delete="34%")
    assert run(dag).state == "failed"
    assert sim.accounts() == before
    with pytest.raises(Exception, match="max_create is 2"):
        CloseAIHook().apply(str(roster), max_create=2)
    assert sim.accounts() == before


def test_an_empty_listing_needs_max_create(sim: Simulator, dag: Any, roster: Path) -> None:
    with pytest.raises(Exception, match="give max_create=3 for the first run"):
        CloseAIHook().apply(str(roster))
    assert not sim.accounts()


@pytest.mark.skipif(not ON_3, reason="Airflow 2's dags test knows no alias of datasets")
def test_followers_run_when_something_changed(sim: Simulator, dag: Any, roster: Path) -> None:
    with dag:
        SyncSubAccountsOperator(task_id="sync", roster=roster, max_create=3)
    run(dag)
    uri = accounts_asset().uri
    assert uri == "closeai://closeai_default/accounts"
    events = [line for line in everything_stored().splitlines() if line.startswith("asset_event: {")]
    told = [json.loads(line.partition(": ")[2]) for line in events]
    assert [event["created"] for event in told if event.get("roster") == str(roster)] == [3]
    run(dag)
    events = [line for line in everything_stored().splitlines() if line.startswith("asset_event: {")]
    assert len(events) == len(told), "nothing changed, and the followers were told"


def test_an_outlet_that_is_given_is_updated_by_each_run(sim: Simulator, dag: Any, roster: Path) -> None:
    with dag:
        SyncSubAccountsOperator(task_id="sync", roster=roster, max_create=3, outlets=[accounts_asset()])
    if not ON_3:
        dag.bulk_write_to_db([dag])  # as the DAG processor does: no other asset is updated
    told = []
    for _ in range(2):
        assert run(dag).state == "success"
        lines = [line.partition("_event: {") for line in everything_stored().splitlines()]
        events = [json.loads("{" + rest) for kind, _, rest in lines if kind in ("asset", "dataset")]
        told = [event["created"] for event in events if event.get("roster") == str(roster)]
    assert told == [3, 0]


def test_the_hook_plans_and_applies(sim: Simulator, roster: Path) -> None:
    hook = CloseAIHook()
    sim.add_account("team-ads")
    plan = hook.plan(str(roster))
    assert plan.counts == {"create": 2, "reprice": 1, "delete": 0}
    assert hook.apply(plan.record()).counts["created"] == 2
    assert hook.plan(json.loads(json.dumps({"version": 1, "accounts": [
        {"alias": "team-ads", "balance": 1, "model_pricing": {"gpt-4o": 1}}]}))).actions == ()  # fmt: skip
    with pytest.raises(InvalidParameter, match="does not belong to its digest"):
        hook.apply({**plan.record(), "max_create": 99})


@pytest.mark.parametrize(
    ("there", "options", "refused"),
    [
        ([], {}, "The listing is empty"),
        (["team-ads"], {"max_create": 1}, "creates 2 sub-accounts, and max_create is 1"),
        (["team-x", "team-y"], {"prune": True, "max_delete": 1}, r"deletes 2 sub-accounts \(2 pruned\)"),
    ],
)
def test_a_plan_beyond_a_bound_is_refused_by_the_hook_too(
    sim: Simulator,
    roster: Path,
    caplog: pytest.LogCaptureFixture,
    there: list[str],
    options: Any,
    refused: str,
) -> None:
    for alias in there:
        sim.add_account(alias)
    caplog.set_level(logging.INFO)
    with pytest.raises(CloseAIError, match=refused):
        CloseAIHook().plan(str(roster), **options)
    assert "create 2 of 'team-search'" in caplog.text, "look at the plan in this log"
    assert {request.method for request in sim.requests} == {"GET"}


def test_both_run_by_hand_without_a_dag_run(sim: Simulator, roster: Path, tmp_path: Path) -> None:
    nothing: Any = {}
    sim.add_account("other")
    plan = PlanSubAccountsOperator(task_id="plan", roster=roster).execute(nothing)
    options: dict[str, Any] = {"ledger": tmp_path / "ledger"}
    assert (
        SyncSubAccountsOperator(task_id="sync", plan=plan, **options).execute(nothing)["counts"]["created"]
        == 3
    )
    again = SyncSubAccountsOperator(task_id="again", roster=roster, **options).execute(nothing)
    assert (again["created"], len(again["sub_accounts"])) == ([], 3)
