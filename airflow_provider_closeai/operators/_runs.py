"""What a task needs to know of its run: the time that it stands for, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_closeai.costs import Run

_SCHEDULED = ("scheduled", "backfill", "backfill_job")
_ASSET_TRIGGERED = ("asset_triggered", "dataset_triggered")


def now() -> datetime:
    """Return the time. The clock of the cost operators, which tests and simulations replace."""
    return datetime.now(UTC)


def run_of(context: Mapping[str, Any]) -> Run:
    """Return what the cost service needs to know of a run."""
    from airflow_provider_closeai.costs import Run, run_key

    ti = context.get("ti")
    if ti is None:  # called by hand, outside of any DAG run
        return Run()
    return Run(
        key=run_key(ti.dag_id, ti.run_id, ti.task_id, ti.map_index),
        due=due(context),
        is_first=is_first(context),
        is_asset_triggered=_kind(context) in _ASSET_TRIGGERED,
    )


def due(context: Mapping[str, Any]) -> datetime | None:
    """Return the time that a run stands for; ``None`` where it stands for none."""
    # A manual run's interval is the last whole one, which may have ended long before it.
    field = "data_interval_end" if _kind(context) in _SCHEDULED else "logical_date"
    found: datetime | None = context.get(field)
    return found or getattr(context.get("dag_run"), "run_after", None)


def is_first(context: Mapping[str, Any]) -> bool:
    """Return whether this is the first try of a scheduled run, and no run of its DAG succeeded before it."""
    is_first_try = getattr(context.get("ti"), "try_number", 1) == 1
    is_scheduled = _kind(context) == "scheduled"
    return is_first_try and is_scheduled and not context.get("prev_start_date_success", True)


def _kind(context: Mapping[str, Any]) -> str:
    kind = getattr(context.get("dag_run"), "run_type", "")
    return str(getattr(kind, "value", kind))
