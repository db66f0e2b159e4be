"""What fails at once, what is retried, and what a retry finds."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW, connect, prices, run

from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.simulator import Request, Simulator

Create, Update = CreateSubAccountsOperator, UpdatePricingOperator
Delete, List = DeleteSubAccountsOperator, ListSubAccountsOperator
PRICING = {"gpt-4": 1}


def test_permanent_errors_are_not_retried(sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sub = sim.add_account("sub")
    sim.add_account("two")
    sim.add_account("two")
    fixed = {"extra": {"api_bases": sim.base_urls}}
    connect(monkeypatch, sim, "refused", password="sk-not-known-there", **fixed)
    connect(monkeypatch, sim, "undiscovered", password="sk-not-known-there")
    connect(monkeypatch, sim, "sub_key", password=sub["token"], **fixed)
    connect(monkeypatch, sim, "wrong", extra={"timeout": 5})
    sim.fault("create", "status", status=400, body={"error": {"message": "no"}})
    again: dict[str, Any] = {"retries": 3, "retry_delay": 0}
    wish: dict[str, Any] = {"model_pricing": PRICING, "balance": 1, **again}
    with dag:
        Create(task_id="rejected", alias="new", **wish)
        Create(task_id="differs", alias="sub", if_exists="match", **wish)
        Create(task_id="too_many", alias="two", **{**wish, "model_pricing": {"gpt-3.5-turbo": 1}})
        Create(task_id="exists", alias="sub", if_exists="fail", **wish)
        Create(task_id="invalid", alias="new", count="{{ 0 }}", **wish)
        List(task_id="refused", closeai_conn_id="refused", **again)
        Update(task_id="forbidden", alias="a", model_pricing={"m": 1}, closeai_conn_id="sub_key", **again)
        Delete(task_id="undiscovered", alias="a", closeai_conn_id="undiscovered", **again)
        List(task_id="misconfigured", closeai_conn_id="wrong", **again)
        Delete(task_id="guarded", alias="two", max_delete=1, **again)

    done = run(dag)

    assert {task: done.task(task) for task in dag.task_ids} == dict.fromkeys(dag.task_ids, "failed 1")
    assert (sim.count("create"), sim.count("update"), sim.count("delete")) == (1, 0, 0)
    assert len(sim.accounts()) == 3


def test_what_may_pass_is_retried(sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, sim, "impatient", extra={"max_attempts": 1, "deadline": 1})
    sim.fault("list", "error_before", times=2)
    sim.fault("list", "rate_limit", retry_after=2)
    with dag:
        List(task_id="list", closeai_conn_id="impatient", retries=3, retry_delay=0)

    done = run(dag)

    assert done.task("list") == "success 4"
    assert sim.count("list") == 4
    if AIRFLOW >= (3, 3):
        third, fourth = (request.at for request in sim.requests[-2:])
        assert fourth - third >= 2  # when the platform said that it may be asked again


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow 3.3 brought retry policies")
def test_the_retry_policy_waits_as_told_within_reason() -> None:
    from airflow.providers.common.compat.sdk import RetryAction, RetryDecision, RetryPolicy

    from airflow_provider_closeai.client.errors import NotSent, RateLimited

    class Own(RetryPolicy):
        def evaluate(self, *arguments: Any, **options: Any) -> RetryDecision:
            return RetryDecision.default()

    own = Own()
    assert List(task_id="own", retry_policy=own).retry_policy is own
    policy: Any = List(task_id="task").retry_policy
    for error in (NotSent("x"), RuntimeError("x"), RateLimited("x", retry_after=0)):
        assert policy.evaluate(error, 1, 3).action is RetryAction.DEFAULT
    for told, waits in ((7, 7), (1e9, 86400), (float("inf"), 86400)):
        decision = policy.evaluate(RateLimited("x", retry_after=told), 1, 3)
        assert decision.action is RetryAction.RETRY
        assert decision.retry_delay.total_seconds() == waits


def test_a_missing_account_may_appear_so_it_is_retried(sim: Simulator, dag: Any) -> None:
    account: dict[str, Any] = {}

    def appear(request: Request) -> None:
        if request.call == "list" and sim.count("list") > 2 and not account:
            account.update(sim.add_account("late"))

    sim.on_request = appear
    with dag:
        Update(task_id="update", alias="late", model_pricing=PRICING, retries=1, retry_delay=0)
    done = run(dag)
    assert done.task("update") == "success 2"


@pytest.mark.parametrize(
    "fault",
    [
        "cut_after",
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("error_after", "garbage", "cut_before")),
    ],
)
def test_an_unknown_outcome_is_settled_within_the_try(sim: Simulator, dag: Any, fault: str) -> None:
    sim.fault("create", fault)
    with dag:
        Create(task_id="create", alias="a", model_pricing=PRICING, balance=1, count=2, settle=0.1)

    done = run(dag)

    assert done.task("create") == "success 1"
    assert [record["id"] for record in done.result("create")] == [item["id"] for item in sim.accounts("a")]
    assert len(sim.accounts("a")) == 2
    assert sim.count("create") == (2 if fault == "cut_before" else 1)


def test_a_retry_on_another_host_creates_nothing_twice(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first try dies after its post; the second finds a listing that does not show it yet."""
    connect(monkeypatch, sim, "impatient", extra={"max_attempts": 1})
    other_host = tmp_path / "other-host"
    other_host.mkdir()
    sim.settings.list_lag = 3600
    sim.fault("create", "cut_after")
    sim.fault("list", "error_before", skip=1)

    def watch(request: Request) -> None:
        if request.call == "list" and sim.count("list") == 2:
            tempfile.tempdir = str(other_host)  # put back by the fixture that isolates the cache
        if request.call == "list" and sim.count("list") == 5:
            sim.settings.list_lag = 0

    sim.on_request = watch
    with dag:
        Create(
            task_id="create",
            alias="a",
            model_pricing=PRICING,
            balance=1,
            count=3,
            settle=2,
            closeai_conn_id="impatient",
            retries=1,
            retry_delay=0,
        )

    done = run(dag)

    assert done.task("create") == "success 2"
    assert len(sim.accounts("a")) == 3
    assert sim.count("create") == 1
    assert len(done.result("create")) == 3


def test_a_retry_after_nothing_was_done_creates_what_is_missing(sim: Simulator, dag: Any) -> None:
    sim.fault("create", "cut_before", times=3)
    with dag:
        Create(
            task_id="create",
            alias="a",
            model_pricing=PRICING,
            balance=1,
            count=2,
            settle=0.1,
            retries=1,
            retry_delay=0,
        )

    done = run(dag)

    assert done.task("create") == "success 2"
    assert len(sim.accounts("a")) == 2
    assert sim.count("create") == 4


def test_dead_prices_warn_in_the_log_and_do_not_fail(sim: Simulator, dag: Any) -> None:
    with dag, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Create(task_id="create", alias="a", model_pricing=[{"model": "m", "auto_following": True}], balance=1)
        done = run(dag)
    assert done.task("create") == "success 1"
    assert prices(sim.accounts("a")[0]) == {"m": 1}
