"""Bring what DAG authors pass to one form; all else is parsed by the requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def notifiers(value: Any) -> list[Any]:
    """Return notifiers as a list."""
    if value is None:
        return []
    is_many = isinstance(value, Iterable) and not isinstance(value, str) and not hasattr(value, "notify")
    return list(value) if is_many else [value]


def require_notifiers(found: Iterable[Any]) -> None:
    """Check that each is a notifier."""
    for one in found:
        if isinstance(one, type) or not callable(getattr(one, "notify", None)):
            from airflow_provider_closeai.client.errors import InvalidParameter

            raise InvalidParameter(
                f"notifiers: {_kind(one)} is not a notifier. Give objects of Airflow's notifiers, "
                "for instance SmtpNotifier(...)."
            )


def _kind(one: Any) -> str:
    return f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__
