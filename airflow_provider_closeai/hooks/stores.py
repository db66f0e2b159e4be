"""Stores of texts in Airflow, shared by all its processes or by all tries of a task."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

from airflow.providers.common.compat.sdk import Variable, conf

from airflow_provider_closeai.local_state.folder import warn_once

_OF_ONE_HOST = ("LocalExecutor", "SequentialExecutor", "DebugExecutor")


class VariableStore:
    """
    The shared cache as an Airflow Variable: one for the whole deployment. Nothing in it is secret.

    :param name: the cache's name.
    """

    def __init__(self, name: str) -> None:
        self._key = f"closeai_bases_{name}"

    def read(self) -> str | None:
        """Return the Variable's text."""
        text: str | None = Variable.get(self._key, None)
        return text

    def write(self, text: str) -> None:
        """Set the Variable."""
        Variable.set(self._key, text, description="CloseAI: what is known of the API bases (signed)")


def read_variable(key: str) -> str | None:
    """Return a Variable's text; ``None`` if there is none. Raise if that cannot be known."""
    text: str | None = Variable.get(key, None)
    if text is None and hasattr(Variable, "keys") and key in Variable.keys(key):
        raise LookupError(key)  # Airflow reports an outage as absence; `keys` asks the database, and raises
    return text


class VariableNames:
    """
    Names that all hosts share, as keys of Variables: each is written once, and only its existence counts.

    They are listed with ``Variable.keys`` (Airflow 3.3), which asks only the database, and raises if that
    fails. ``Variable.get`` would ask secrets backends, and report an outage as absence.
    """

    def list(self, prefix: str) -> Sequence[str]:
        """Return all keys with this prefix, as of one moment."""
        return [str(key) for key in Variable.keys(prefix)]

    def add(self, name: str) -> None:
        """Write a Variable with this name."""
        Variable.set(name, "1", description="CloseAI: a lock, or a record of what was sent under it")

    def remove(self, name: str) -> None:
        """Delete the Variable."""
        Variable.delete(name)


def shared_names() -> VariableNames | None:
    """Return the names that all hosts share; ``None`` before Airflow 3.3, warning if hosts are several."""
    if not hasattr(Variable, "keys"):
        executor = conf.get("core", "executor", fallback=_OF_ONE_HOST[0])
        if executor not in _OF_ONE_HOST:
            warn_once(
                f"Tasks of {executor} run on several hosts, and this Airflow gives them no lock (3.3 does): "
                "tasks that share an alias need a queue of one worker: see docs/operators/create.md."
            )
        return None
    names = VariableNames()
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    if getattr(runner, "SUPERVISOR_COMMS", None) is None:
        # Not a task's process, though there is a context: a program or a test, which may be unable to read
        # Variables. In a task's process an outage is no reason to go without.
        try:
            names.list("closeai_")
        except Exception:
            return None
    return names


class TaskJournal:
    """
    The journal of one task over all its tries, in Airflow's task state store.

    :param states: ``context["task_state_store"]``.
    :param alias: the alias whose creation is journalled; a task may create under several.
    """

    def __init__(self, states: Any, alias: str) -> None:
        self._states = states
        self._key = f"closeai_create_{hashlib.sha256(alias.encode()).hexdigest()[:16]}"

    def read(self) -> str | None:
        """Return the entry's text."""
        text: str | None = self._states.get(self._key)
        return text

    def write(self, text: str) -> None:
        """Replace the entry."""
        self._states.set(self._key, text)
