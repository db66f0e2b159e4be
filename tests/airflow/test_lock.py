"""The lock over hosts through Airflow's own Variables."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow_cell import AIRFLOW, run

from airflow_provider_closeai.operators.sub_accounts import CreateSubAccountsOperator
from airflow_provider_closeai.simulator import Simulator

HAS_KEYS = AIRFLOW >= (3, 3)


@pytest.fixture
def variables(stored_variables: Callable[[str], dict[str, str]]) -> Callable[[], list[str]]:
    """Give a function that lists our Variables."""
    return lambda: sorted(stored_variables("closeai"))


def create(dag: Any, count: int) -> Any:
    with dag:
        CreateSubAccountsOperator(
            task_id=f"create-{count}",
            alias="team",
            balance=1,
            model_pricing={"gpt-4": 1},
            count=count,
            settle=1,
        )


def test_a_create_claims_its_alias_in_variables_and_leaves_a_record(
    sim: Simulator, dag: Any, variables: Any
) -> None:
    create(dag, 2)
    done = run(dag)
    assert done.task("create-2") == "success 1"
    assert len(sim.accounts("team")) == 2
    names = variables()
    if not HAS_KEYS:
        assert names == []
        return
    [name] = names
    assert re.fullmatch(
        r"closeai_posts\.[0-9a-f]{24}\.[0-9a-f]{2}\.[0-9a-f]{16}\.[0-9a-f]{16}\.1\.s\.[0-9a-f.]+", name
    )
    assert sim.key not in name


@pytest.mark.skipif(not HAS_KEYS, reason="Variable.keys is of Airflow 3.3")
def test_another_host_whose_base_lags_creates_nothing(
    dag: Any, variables: Any, database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Simulator(bases=2) as sim:

        def connect(base: str) -> None:
            extra = {"api_bases": [base], "max_late": 0.1}
            connection = {**sim.connection(), "extra": extra}
            monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))

        connect(sim.base_urls[0])
        create(dag, 2)
        assert run(dag).task("create-2") == "success 1"
        sim.settings.list_lag = 0.7
        (tmp_path / "other").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other"))
        connect(sim.base_urls[1])
        assert run(dag).task("create-2") == "success 1"
        assert len(sim.accounts("team")) == 2


@pytest.mark.skipif(not HAS_KEYS, reason="Variable.keys is of Airflow 3.3")
def test_where_variables_do_not_work_nothing_is_created(sim: Simulator, dag: Any, database: None) -> None:
    from airflow.utils.session import create_session

    def rename(old: str, new: str) -> None:
        with create_session() as session:
            session.execute(sqlalchemy.text(f"alter table {old} rename to {new}"))

    create(dag, 2)
    rename("variable", "variable_gone")
    try:
        assert run(dag).task("create-2") == "failed 1"
    finally:
        rename("variable_gone", "variable")
    assert sim.count("create") == 0


@pytest.mark.skipif(HAS_KEYS, reason="Variable.keys is there")
def test_lock_deployment_is_refused_where_airflow_cannot(
    sim: Simulator, dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {**sim.connection(), "extra": {"lock": "deployment"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))
    create(dag, 2)
    assert run(dag).task("create-2") == "failed 1"
    assert sim.count("create") == 0


@pytest.mark.skipif(HAS_KEYS, reason="Variable.keys is there")
@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor"])
def test_that_several_hosts_have_no_lock_is_said_where_there_are_several(
    sim: Simulator,
    dag: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    executor: str,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    create(dag, 2)
    assert run(dag).task("create-2") == "success 1"
    assert ("CeleryExecutor run on several hosts" in caplog.text) == (executor == "CeleryExecutor")
