"""Guards mapped operators: Airflow stores their arguments as they are, in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_closeai.operators._fields import CheckedPartial
from airflow_provider_closeai.operators.base import CloseAIOperator


class NamedSink:
    """
    Shows a sink by its class's name.

    Airflow stores the ``str()`` of a mapped operator's arguments each time the file is parsed. A sink without
    a ``repr`` of its own would show its memory address, and make a new DAG version each time; another might
    show a key.
    """

    def __init__(self, sink: Any) -> None:
        self.sink = sink

    def __repr__(self) -> str:
        kind = self.sink if isinstance(self.sink, type) else type(self.sink)
        return f"{kind.__module__}.{kind.__qualname__}"


def with_named_sink(arguments: Any) -> Any:
    """Return the arguments with sinks from outside this package wrapped in :class:`NamedSink`."""
    if not isinstance(arguments, Mapping) or "deliver_to" not in arguments:
        return arguments
    given = arguments["deliver_to"]
    named = [_named(each) for each in given] if isinstance(given, list | tuple) else _named(given)
    return {**arguments, "deliver_to": named}


def _named(sink: Any) -> Any:
    ours = type(sink).__module__.startswith("airflow_provider_closeai.sinks.")
    return sink if sink is None or ours or hasattr(sink, "iter_references") else NamedSink(sink)


class DeliversKeys(CloseAIOperator):
    """Operators that deliver keys."""

    def __init__(self, *, deliver_to: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deliver_to = deliver_to.sink if isinstance(deliver_to, NamedSink) else deliver_to

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the operator; see Airflow's documentation."""
        return CheckedPartial(super().partial(**with_named_sink(kwargs)), with_named_sink)


def refuse_keys(arguments: Any) -> Any:
    """Return the arguments; raise if they contain keys."""
    if isinstance(arguments, Mapping) and arguments.get("sks") is not None:
        raise ValueError(
            "sks cannot be mapped: Airflow stores what a mapped operator is given in plain text. Map over "
            "sub_accounts or alias."
        )
    return arguments


def is_from_task(value: Any) -> bool:
    """Return whether a parameter, or a part of it, is another task's result."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        return any(is_from_task(item) for item in value)
    return hasattr(value, "iter_references")
