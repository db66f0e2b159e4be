"""A migrated database per pytest process, and nothing of this machine's shared cache."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_cell import AIRFLOW

from airflow_provider_closeai.simulator import Simulator

# Read once by Airflow, at its import.
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = os.path.join(os.environ["AIRFLOW_HOME"], "dags")
os.environ["AIRFLOW__CORE__FERNET_KEY"] = base64.urlsafe_b64encode(bytes(32)).decode()  # of all processes
# What is retried though it should not be fails its test at once, not after two times five minutes.
os.environ["AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY"] = "0"


ROSTER = """
version: 1
owns: ["team-*"]
defaults: {balance: 100, model_pricing: {gpt-4o: 1}}
accounts:
  - alias: team-search
    count: 2
    model_pricing: {gpt-4o: 1, gpt-4o-mini: "0.5"}
  - alias: team-ads
"""


def copy_database(source: Path, copy: Path) -> None:
    """Copy a database of SQLite with what lies beside it."""
    with (
        contextlib.closing(sqlite3.connect(source)) as one,
        contextlib.closing(sqlite3.connect(copy)) as other,
    ):
        one.backup(other)


@pytest.fixture(scope="session")
def database() -> None:
    """Migrate this process's database, or copy the one that another process of this run has migrated."""
    from airflow.utils.db import initdb

    Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).mkdir(exist_ok=True)
    home = Path(os.environ["AIRFLOW_HOME"])
    run = home.parent if "PYTEST_XDIST_WORKER" in os.environ else home
    ours, migrated = home / "airflow.db", run / "migrated.db"
    with open(run / "migrating", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if migrated.exists():
            copy_database(migrated, ours)
        else:
            initdb()
            copy_database(ours, migrated)
    if (3, 0) <= AIRFLOW < (3, 2):
        from airflow.sdk.execution_time import supervisor

        # As Airflow does it itself since 3.2: these make a new API server for every task, a second each.
        supervisor.in_process_api_server = functools.lru_cache(1)(supervisor.in_process_api_server)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep the cache that all processes of a host share to this test."""
    from airflow_provider_closeai.client.cache import Cache

    directory = tmp_path / "shared"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    Cache._unshared.clear()


@pytest.fixture
def sim(
    database: None, closeai_connection: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulator]:
    """Give the platform, with ``closeai_default`` leading to it, and a database to run DAGs with."""
    connection = {**closeai_connection.connection(), "extra": {"max_late": 0.1}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))
    yield closeai_connection
    with (
        contextlib.closing(sqlite3.connect(Path(os.environ["AIRFLOW_HOME"], "airflow.db"))) as stored,
        stored,
    ):
        stored.execute("delete from variable")  # all tests of a process share its database


@pytest.fixture
def stored_variables(database: None) -> Callable[[str], dict[str, str]]:
    """Give a function that reads from Airflow's database the Variables whose names have this part."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    def read(part: str) -> dict[str, str]:
        with create_session() as session:
            return {row.key: row.get_val() for row in session.query(Variable).all() if part in row.key}

    return read


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the Variables that watchers keep."""
    from watches import Variables

    from airflow_provider_closeai.hooks import stores
    from airflow_provider_closeai.triggers import events

    found = Variables()
    for module in (stores, events):
        monkeypatch.setattr(module, "Variable", found)
    return found


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    """Give a file that says who has which keys."""
    path = tmp_path / "roster.yaml"
    path.write_text(ROSTER)
    return path


@pytest.fixture
def dag(database: None, request: pytest.FixtureRequest) -> Any:
    """Give an empty DAG, named after the test, for a ``with``."""
    from airflow.providers.common.compat.sdk import DAG, timezone

    name = re.sub(r"[^\w.-]", "_", request.node.name)
    return DAG(name, schedule=None, catchup=False, start_date=timezone.datetime(2026, 1, 1))
