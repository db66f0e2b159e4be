"""Finds out which try of which task this is, and what Airflow stores for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import get_current_context

from airflow_provider_closeai.hooks.stores import TaskJournal, shared_names
from airflow_provider_closeai.provisioning import runner

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def this_try(context: Context | None = None) -> runner.Try:
    """
    Return which try of which task this is.

    :param context: the task's context; default: the running task's, if there is one.
    """
    now = context or _context_now()
    ti = now.get("ti")
    if ti is None:
        return runner.Try()
    states = now.get("task_state_store")  # Airflow 3.3 and later; its methods raise in an abandoned process
    parent = os.getppid()
    tries = getattr(ti, "try_number", None)
    return runner.Try(
        task="/".join(str(getattr(ti, name, "")) for name in ("dag_id", "run_id", "task_id", "map_index")),
        is_retry=isinstance(tries, int) and tries > 1,  # a program's stand-in may have no number
        own_journal=None if states is None else lambda alias: TaskJournal(states, alias),
        is_supervised=None if states is not None else lambda: os.getppid() == parent,
        names=shared_names(),
    )


def _context_now() -> Mapping[str, Any]:
    try:
        return get_current_context()
    except Exception:  # its class differs between Airflow 2 and 3
        return {}
