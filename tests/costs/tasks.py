"""The cost operators, as a task of a DAG run has them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_closeai.operators.costs import CostReportOperator, SnapshotCostsOperator


def context_of(run_id: str = "r", kind: str = "scheduled", **fields: Any) -> Any:
    ti = SimpleNamespace(dag_id="d", run_id=run_id, task_id="t", map_index=-1, try_number=1)
    return {
        "dag": None,  # Airflow 2 asks for it when it renders a notifier
        "ti": ti,
        "dag_run": SimpleNamespace(run_type=kind, run_after=fields.pop("run_after", None)),
        **fields,
    }


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
