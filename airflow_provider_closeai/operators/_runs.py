"""Reads from a task's context the time that its run stands for, and how the run was started."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.costs import Run

_SCHEDULED = ("scheduled", "backfill", "backfill_job")
_ASSET_TRIGGERED = ("asset_triggered", "dataset_triggered")


def now() -> datetime:
    """Return the current time. Tests and simulations replace this clock of the cost operators."""
    return datetime.now(UTC)


def run_of(context: Mapping[str, Any]) -> Run:
    """Return what the cost service must know of a run; a plain program's context may be empty."""
    from airflow_provider_closeai.costs import Run, run_key

    ti = context.get("ti")
    names = [str(getattr(ti, name, "")) for name in ("dag_id", "run_id", "task_id", "map_index")]
    return Run(
        key=Run().key if ti is None else run_key(*names),
        due=due(context),
        is_first=is_first(context),
        is_asset_triggered=_kind(context) in _ASSET_TRIGGERED,
    )


def due(context: Mapping[str, Any]) -> datetime | None:
    """Return the time that the run stands for, or ``None``."""
    # A manual run's interval is the last complete one, which may have ended long before.
    field = "data_interval_end" if _kind(context) in _SCHEDULED else "logical_date"
    found = (context.get(field), getattr(context.get("dag_run"), "run_after", None))
    return next((each for each in found if isinstance(each, datetime)), None)


def is_first(context: Mapping[str, Any]) -> bool:
    """Return whether this is a scheduled run's first try and no run of its DAG succeeded before."""
    is_first_try = getattr(context.get("ti"), "try_number", 1) == 1
    is_scheduled = _kind(context) == "scheduled"
    return is_first_try and is_scheduled and not context.get("prev_start_date_success", True)


def _kind(context: Mapping[str, Any]) -> str:
    kind = getattr(context.get("dag_run"), "run_type", "")
    return str(getattr(kind, "value", kind))
