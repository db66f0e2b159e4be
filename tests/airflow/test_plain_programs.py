"""Operators as plain programs and simple tests call them: ``execute`` with a context that somebody made."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from airflow_cell import AIRFLOW

from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.operators.costs import SnapshotCostsOperator
from airflow_provider_closeai.operators.roster import PlanSubAccountsOperator, SyncSubAccountsOperator
from airflow_provider_closeai.operators.sub_accounts import (
    CreateSubAccountsOperator,
    DeleteSubAccountsOperator,
    ListSubAccountsOperator,
    RotateSubAccountsOperator,
    UpdatePricingOperator,
)
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.simulator.values import ZONE

WANTED: dict[str, Any] = {"alias": "team", "model_pricing": {"gpt-4": 1}, "balance": 1}
ROSTER = {"version": 1, "owns": ["team"], "accounts": [{**WANTED, "count": 2}]}
CONTEXTS: dict[str, Callable[[], Any]] = {
    "nothing": dict,
    "a task instance": lambda: {"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", try_number=1)},
    "its task id": lambda: {"ti": SimpleNamespace(task_id="t")},
    "a mock": lambda: {"ti": Mock()},
    "a magic mock": lambda: {"ti": MagicMock()},
    "mocks only": MagicMock,
}


class Sink:
    def deliver(self, account: Any) -> str:
        return f"memory:{account.id}"


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Any:
    with Simulator(start=datetime.now(ZONE), speed=1) as sim:
        connect(sim, monkeypatch)
        yield sim


def connect(sim: Simulator, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    connection = {**sim.connection(), "extra": {"max_late": 0.1, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_every_operator_takes_any_context(sim: Simulator, context: Callable[[], Any], tmp_path: Path) -> None:
    ledger = str(tmp_path)
    records = CreateSubAccountsOperator(task_id="t", **WANTED, count=2).execute(context())
    assert len(sim.accounts("team")) == len(records) == 2
    assert len(ListSubAccountsOperator(task_id="t").execute(context())) == 2
    SnapshotCostsOperator(task_id="t", ledger=ledger).execute(context())
    UpdatePricingOperator(task_id="t", alias="team", model_pricing={"gpt-4": 2}).execute(context())
    plan = PlanSubAccountsOperator(task_id="t", roster=ROSTER).execute(context())
    SyncSubAccountsOperator(task_id="t", plan=plan, ledger=ledger).execute(context())
    assert [float(each["model_pricing"][0]["pricing_factor"]) for each in sim.accounts("team")] == [1, 1]
    rotate = RotateSubAccountsOperator(task_id="t", **WANTED, count=2, deliver_to=Sink(), ledger=ledger)
    assert len(rotate.execute(context())["sub_accounts"]) == 2
    DeleteSubAccountsOperator(task_id="t", alias="team", ledger=ledger).execute(context())
    assert sim.accounts("team") == []


class Variables:
    """A store that several hosts share, in the place of Airflow's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.texts: dict[str, str] = {}
        self.was_claimed = False

    def keys(self, prefix: str = "") -> list[str]:
        with self.lock:
            return [key for key in self.texts if key.startswith(prefix)]

    def set(self, key: str, value: str, description: str = "") -> None:
        with self.lock:
            self.texts[key] = value
            self.was_claimed |= key.startswith("closeai_lock.")

    def delete(self, key: str) -> None:
        with self.lock:
            self.texts.pop(key, None)


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Variable.keys is of Airflow 3.3")
def test_variables_that_work_are_used_whoever_gives_them(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.sdk import Variable

    connect(sim, monkeypatch, lock="deployment")
    shared = Variables()
    for name in ("keys", "set", "delete"):
        monkeypatch.setattr(Variable, name, getattr(shared, name))
    create = CreateSubAccountsOperator(task_id="t", **WANTED, count=2, settle=0.5)
    context = CONTEXTS["a task instance"]
    create.execute(context())
    assert shared.was_claimed
    sim.settings.list_lag = 0.3
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # another host
    create.execute(context())
    assert len(sim.accounts("team")) == 2


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="SUPERVISOR_COMMS is Airflow 3's")
def test_a_process_whose_supervisor_is_none_has_no_lock_over_hosts(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    context = CONTEXTS["a task instance"]()
    assert len(CloseAIHook().create_sub_accounts("team", {"gpt-4": 1}, 1, context=context)) == 1
