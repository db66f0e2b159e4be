"""Keeps operators' arguments in a form that Airflow may store, and renders only templates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping, ValuesView
from operator import is_
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

_CONN_ID = "closeai_conn_id"


class PlainFields:
    """
    Keeps template fields in a form that Airflow renders and stores unchanged.

    Jinja would render an ``Enum`` member as its name; a generator shows an address, and is empty when read
    again. A given value that is rendered as ``None`` is noted: a limit must not silently vanish.
    """

    template_fields: Collection[str]
    _became_none: tuple[str, ...] = ()
    _mapped: frozenset[str] = frozenset()  # the arguments that a mapped task got for itself

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an operator; if from a mapped one, note arguments that another task gave as ``None``."""
        made = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            mapped = kwargs["dag"].get_task(kwargs["task_id"])
            once = mapped.partial_kwargs
            own = frozenset(name for name, value in kwargs.items() if value is not once.get(name, once))
            given = _given_by_tasks(mapped, own)
            left_out = (name for name in given if kwargs.get(name, name) is None and _is_own(cls, name))
            vars(made).update(_mapped=own, _became_none=tuple(sorted(left_out)))  # before __init__ does
        return made

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the operator; see Airflow's documentation."""
        plain = {
            name: _plain(value) if name in cls.template_fields else value for name, value in kwargs.items()
        }
        found: Any = super().partial(**plain)  # type: ignore[misc]
        above = (getattr(found.kwargs.get(name), "default_args", None) for name in ("dag", "task_group"))
        for given in (found.kwargs, *above):
            check_connection_id(given or {})
        return CheckedPartial(found, check_connection_id)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Any,
        seen_oids: set[int],
    ) -> None:
        """Render templates, but nothing that another task gave: with ``expand_kwargs`` Airflow would."""
        if parent is self and is_mapped(self):
            now: Any = context
            given = _given_by_tasks(_mapped_of(self), self._mapped, now["ti"].map_index)
            data = (getattr(self, name) for name in template_fields if parameter_of(name) in given)
            seen_oids = seen_oids | set(map(id, data))
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)  # type: ignore[misc]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == _CONN_ID:
            value = connection_id(value)
        if name in self.template_fields:
            value = _plain(value)
            old = vars(self).get(name)
            is_lost = _has_lost(old, value) or (name in self._became_none and value == old)
            lost = {name} if is_lost and _is_own(type(self), name) else set()
            if lost or name in self._became_none:
                super().__setattr__("_became_none", tuple(sorted({*self._became_none} - {name} | lost)))
        super().__setattr__(name, value)

    def require_given(self) -> None:
        """
        Check that no given value was rendered as ``None``.

        :raises InvalidParameter: one was.
        """
        from airflow_provider_closeai.client.errors import InvalidParameter

        if self._became_none:
            names = ", ".join(map(parameter_of, self._became_none))
            raise InvalidParameter(
                f"{names}: what was given, or a part of it, is None now that the task runs. Was the task "
                "that gives it skipped, or marked success by hand, or is a variable not there? Clear that "
                "task, or give a value. Nothing was sent."
            )


def connection_id(value: Any) -> Any:
    """
    Return a connection's id without surrounding white space; another task's result, or ``None``, unchanged.

    :raises TypeError: it is not text: Airflow would store a connection itself, password included, in the
        serialized DAG.
    """
    if value is None or hasattr(value, "iter_references"):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{_CONN_ID}: give the connection's id as text, not a {type(value).__name__}.")
    return value.strip()


def check_connection_id(arguments: Mapping[str, Any]) -> Any:
    """Return an operator's arguments; raise if its connection id, or one of a list of them, is not text."""
    given = arguments.get(_CONN_ID)
    for each in given if isinstance(given, list | tuple) else [given]:
        connection_id(each)
    return arguments


class CheckedPartial:
    """
    The result of ``partial``; checks mapped arguments, since Airflow stores them unchanged.

    :param partial: Airflow's own result.
    :param check: returns arguments in a form that Airflow may store, or raises.
    """

    def __init__(self, partial: Any, check: Callable[[Any], Any]) -> None:
        self._partial = partial
        self._check = check

    def expand(self, **mapped: Any) -> Any:
        return self._partial.expand(**self._check(mapped))

    def expand_kwargs(self, kwargs: Any, **options: Any) -> Any:
        if isinstance(kwargs, list | tuple):
            kwargs = [self._check(each) if isinstance(each, Mapping) else each for each in kwargs]
        return self._partial.expand_kwargs(kwargs, **options)


def parameter_of(field: str) -> str:
    """Return the name of the parameter that a template field keeps."""
    return {"is_dry_run": "dry_run", "output_folder": "output"}.get(field, field)


def _given_by_tasks(mapped: Any, arguments: Collection[str], map_index: int | None = None) -> Collection[str]:
    """
    Return which arguments of a mapped task other tasks gave.

    :param arguments: those that it got for itself.
    :param map_index: of its row, with ``expand_kwargs``; ``None``: of any row.
    """
    given = mapped.expand_input.value
    if isinstance(given, Mapping):
        return {name for name, value in given.items() if _is_of_a_task(value)}
    rows = given if isinstance(given, list | tuple) else [given]
    if map_index is not None and len(rows) > 1:
        rows = [rows[map_index]]
    return arguments if any(map(_is_of_a_task, rows)) else ()


def is_row_of_a_task(operator: Any) -> bool:
    """Return whether another task gives all of an operator's mapped arguments (``expand_kwargs``)."""
    if not is_mapped(operator):
        return False
    given = _mapped_of(operator).expand_input.value
    return any(map(_is_of_a_task, given if isinstance(given, list | tuple) else [given]))


def _mapped_of(operator: Any) -> Any:
    return operator.dag.get_task(operator.task_id)


def _is_of_a_task(value: Any) -> bool:
    return hasattr(value, "iter_references")


def _is_own(kind: type, name: str) -> bool:
    """Return whether a name is a template field of this package, not of a user's subclass."""
    ours = (each for each in kind.__mro__ if each.__module__.startswith(f"{__package__.partition('.')[0]}."))
    return any(name in vars(each).get("template_fields", ()) for each in ours)


def is_mapped(operator: object) -> bool:
    """Return whether an operator was made from a mapped one at run time."""
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def _has_lost(given: Any, rendered: Any) -> bool:
    """Return whether a given value, or a part of it, was rendered as ``None``."""
    if isinstance(given, Mapping) and isinstance(rendered, Mapping):
        return any(_has_lost(each, rendered.get(key, each)) for key, each in given.items())
    if isinstance(given, list | tuple) and isinstance(rendered, list | tuple):
        return any(map(_has_lost, given, rendered))
    return given is not None and rendered is None


def _plain(value: Any) -> Any:
    """
    Return a value in plain form: the same object unless something in it must change.

    Airflow recognizes another task's result, already rendered, by identity; it would render a copy again,
    and take whatever others wrote for a template.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Iterator | KeysView | ValuesView):
        return list(map(_plain, value))
    if isinstance(value, dict):
        pairs = [(_plain(key), _plain(each)) for key, each in value.items()]
        return value if _are_same(itertools.chain(*pairs), itertools.chain(*value.items())) else dict(pairs)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind) and not hasattr(value, "_fields"):  # Airflow can rebuild a named tuple
            parts = list(map(_plain, value))
            return value if _are_same(parts, value) else kind(parts)
    return value


def _are_same(parts: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(map(is_, parts, others))
