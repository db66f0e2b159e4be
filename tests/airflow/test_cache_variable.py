"""The cache in a Variable: what one host learned serves the others."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow_cell import run

from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.simulator import Simulator


def use(dag: Any) -> str:
    """Use the hook in a task of this process."""
    from airflow.providers.common.compat.sdk import task

    if not dag.task_ids:
        with dag:
            task(task_id="use")(lambda: CloseAIHook().get_base_url())()
    done = run(dag)
    assert done.task("use") == "success 1"
    return str(done.result("use"))


def another_host(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    tempfile.tempdir = str(tmp_path / name)  # put back by the fixture that isolates the cache


@pytest.fixture
def variables(stored_variables: Callable[[str], dict[str, str]]) -> Callable[[], dict[str, str]]:
    """Give a function that reads what the cache stored."""
    return lambda: stored_variables("closeai_bases")


@pytest.fixture
def in_variable(sim: Simulator, monkeypatch: pytest.MonkeyPatch, variables: Any) -> Simulator:
    connection = {**sim.connection(), "extra": {"cache": "variable"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))
    return sim


@pytest.mark.slow
def test_the_variable_is_shared_by_hosts(
    in_variable: Simulator, dag: Any, variables: Any, tmp_path: Path
) -> None:
    sim = in_variable
    assert use(dag) == sim.base_urls[0]
    assert sim.counts() == {"links": 1, "healthy": 2}
    (name, text), *others = variables().items()
    assert not others
    assert re.fullmatch(r"closeai_bases_[0-9a-f]{24}", name)
    assert re.match(r"[0-9a-f]{64} \{", text)
    assert sim.key not in text

    another_host(tmp_path, "second")
    assert use(dag) == sim.base_urls[0]
    assert sim.counts() == {"links": 1, "healthy": 2}
    assert list(variables()) == [name]


def test_a_forged_variable_is_ignored(
    in_variable: Simulator, dag: Any, variables: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    sim = in_variable
    use(dag)
    with Simulator() as evil:
        ((name, text),) = variables().items()
        forged = text.replace(sim.base_urls[0], evil.base_urls[0])
        assert forged != text
        with create_session() as session:
            session.query(Variable).filter_by(key=name).one().set_val(forged)
        another_host(tmp_path, "second")
        assert use(dag) == sim.base_urls[0]
        assert evil.requests == []
    assert sim.counts() == {"links": 2, "healthy": 4}
    assert "not ours or was changed" in caplog.text
    assert variables()[name] != forged


def test_variables_that_fail_do_not_fail_a_call(in_variable: Simulator, dag: Any, variables: Any) -> None:
    from airflow.utils.session import create_session

    def rename(old: str, new: str) -> None:
        with create_session() as session:
            session.execute(sqlalchemy.text(f"alter table {old} rename to {new}"))

    rename("variable", "variable_gone")
    try:
        assert use(dag) == in_variable.base_urls[0]
    finally:
        rename("variable_gone", "variable")
    assert in_variable.counts() == {"links": 1, "healthy": 2}
    assert variables() == {}


def test_test_connection_outside_of_a_task(in_variable: Simulator) -> None:
    """Variables may be out of reach there: that is no reason to fail."""
    assert CloseAIHook().test_connection()[0]
    assert in_variable.counts() == {"links": 1, "list": 1}
