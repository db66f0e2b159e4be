"""What the operators share: the connection, how errors are logged, and when Airflow retries.

DAG files are parsed every few seconds, so nothing here imports the client, requests or tenacity at the top.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, KeysView, Mapping, ValuesView
from datetime import timedelta
from operator import is_
from typing import TYPE_CHECKING, Any

import attrs
from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, BaseOperatorLink

from airflow_provider_closeai import DOCS_URL

if TYPE_CHECKING:
    from typing import Self

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.hooks.closeai import CloseAIHook

log = logging.getLogger(__name__)

_CONN_ID = "closeai_conn_id"
_LONGEST_WAIT = 24 * 3600.0
_LINE = 100  # characters of a line that Airflow's log view does not cut
_SHORT = 200  # characters of an exception

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
except (ImportError, AttributeError):  # Airflow before 3.3: the task's own retry_delay is used
    _WAIT_AS_ASKED = None
else:

    class _WaitAsAsked(RetryPolicy):
        """Retry not before the time that the platform asked for."""

        def evaluate(
            self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
        ) -> RetryDecision:
            seconds = getattr(exception, "retry_after", None)
            if not seconds:
                return RetryDecision.default()
            wait = timedelta(seconds=min(seconds, _LONGEST_WAIT))
            return RetryDecision.retry(wait, "the platform asked to wait")

    _WAIT_AS_ASKED = _WaitAsAsked()


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """
    Log an error of this package in short lines; raise a permanent one as ``AirflowFailException``.

    The lines come before the exception, and Airflow's log view, which cuts long lines, shows them in full.
    The exception is raised with its first sentences only, except for a wrong parameter or setting, whose text
    has the cure. A temporary error is raised as itself, with its ``retry_after``.
    """
    from airflow_provider_closeai.client.errors import CloseAIError

    try:
        yield
    except CloseAIError as error:
        sentences = re.split(r"(?<=[.!?]) (?=[A-Z'])", " ".join(str(error).split()))
        for sentence in sentences:
            for line in textwrap.wrap(sentence, _LINE, break_on_hyphens=False):
                log.error("%s", line)  # noqa: TRY400  # a traceback would bury the message
        log.error("Documentation: docs/troubleshooting.md, %s", DOCS_URL.format(page="troubleshooting.md"))  # noqa: TRY400
        if not isinstance(error, ValueError):
            error.args = (_first(sentences),)
        raise (AirflowFailException(str(error)) if error.permanent else error) from None


def _first(sentences: list[str]) -> str:
    """Join the first sentences up to the short length, at least one."""
    lengths = itertools.accumulate(len(sentence) + 1 for sentence in sentences)
    return " ".join(sentences[: max(1, sum(length <= _SHORT + 1 for length in lengths))])


@attrs.define
class DocsLink(BaseOperatorLink):
    """
    A link to the operator's page, under a task's details.

    :param page: a file of docs/, for instance ``operators/create.md``.
    """

    page: str  # an attrs field: Airflow 2 stores it in the serialized DAG and makes the link in the webserver
    name = "Documentation"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's URL."""
        return DOCS_URL.format(page=self.page)


@attrs.define
class ReportLink(BaseOperatorLink):
    """A link to the page that the task wrote, if its folder's URL was given."""

    name = "Cost report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page's URL: the task knows it, Airflow 2's webserver reads it from the result."""
        if hasattr(operator, "page_url"):
            return operator.page_url or ""
        from airflow.models.xcom import XCom

        result = XCom.get_value(key="return_value", ti_key=ti_key)
        return str((result or {}).get("url") or "")


class PlainFields:
    """
    Keeps template fields in a form that Airflow renders and stores unchanged.

    Jinja would render an ``Enum`` member as its name; a generator shows an address, and is empty when read
    again. A given value that is rendered as ``None`` is noted: a limit must not silently vanish.
    """

    template_fields: Collection[str]
    _became_none: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an operator; one from a mapped task notes arguments that another task left out (``None``)."""
        made = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            left_out = (name for name, value in kwargs.items() if value is None and _is_own(cls, name))
            vars(made)["_became_none"] = tuple(left_out)
        return made

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the operator; see Airflow's documentation. Drops ``None`` where it is the default."""
        given = {
            name: value
            for name, value in kwargs.items()
            if value is not None or not _is_none_by_default(cls, name)
        }
        found: Any = super().partial(**given)  # type: ignore[misc]
        connection_id(found.kwargs.get(_CONN_ID))
        return found

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
            names = ", ".join(name.removeprefix("is_") for name in self._became_none)
            raise InvalidParameter(
                f"{names}: what was given, or a part of it, is None now that the task runs. Was the task "
                "that gives it skipped, or marked success by hand, or is a variable not there? Give a "
                "value, or leave the parameter out. Nothing was sent."
            )


def connection_id(value: Any) -> Any:
    """
    Return a connection's id without surrounding white space; another task's result, or ``None``, as it is.

    :raises TypeError: it is not text: Airflow would store a connection itself, password included, in the
        serialized DAG.
    """
    if value is None or hasattr(value, "iter_references"):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{_CONN_ID}: give the connection's id as text, not a {type(value).__name__}.")
    return value.strip()


def _is_own(kind: type, name: str) -> bool:
    """Return whether a name is a template field of this package, not of a user's subclass."""
    ours = (each for each in kind.__mro__ if each.__module__.startswith(f"{__package__.partition('.')[0]}."))
    return any(name in vars(each).get("template_fields", ()) for each in ours)


def _is_none_by_default(kind: type, name: str) -> bool:
    signatures = (
        inspect.signature(vars(each)["__init__"]) for each in kind.__mro__ if "__init__" in vars(each)
    )
    found = next((each.parameters[name] for each in signatures if name in each.parameters), None)
    return found is not None and found.default is None and _is_own(kind, name)


def is_mapped(operator: object) -> bool:
    """Return whether an operator was made from a mapped operator when that runs."""
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
    Return a value in plain form, but the same object unless something in it must change.

    By identity Airflow knows that another task's result is rendered already; a copy it would render again,
    with whatever others wrote as a template.
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


class CloseAIOperator(PlainFields, BaseOperator):
    """
    Base class of the operators.

    A permanent error fails the task without Airflow retries. On Airflow 3.3 and later, if the platform said
    when it may be asked again, the retry waits for that instead of ``retry_delay``, unless the task has a
    ``retry_policy`` of its own. Mapped tasks are labelled with their alias, unless ``map_index_template``
    is given. A subclass sets its page: ``operator_extra_links = (DocsLink("operators/list.md"),)``.

    :param closeai_conn_id: the connection (templated).
    """

    operator_extra_links: Collection[BaseOperatorLink] = (DocsLink("connection.md"),)

    def __init__(self, *, closeai_conn_id: str = "closeai_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.closeai_conn_id = closeai_conn_id
        if _WAIT_AS_ASKED is not None and self.retry_policy is None:
            self.retry_policy = _WAIT_AS_ASKED

    def pre_execute(self, context: Context) -> None:
        """Label a mapped task; Airflow ignores a default set in ``__init__``."""
        super().pre_execute(context)
        now: Any = context
        is_mapped = getattr(now.get("ti"), "map_index", -1) >= 0
        if is_mapped and now.get("map_index_template") is None and (label := self._map_label()):
            now["map_index_template"] = label

    def _map_label(self) -> str | None:
        """Return the template of a mapped task's label: its alias, if it has one."""
        return None if getattr(self, "alias", None) is None else self._as_text("(task.alias | string)[:100]")

    def _as_text(self, expression: str) -> str:
        """Return a template that renders text: with native rendering ``7`` would become a number."""
        is_native = self.dag.render_template_as_native_obj
        return f"{{{{ {expression} | pprint }}}}" if is_native else f"{{{{ {expression} }}}}"

    @contextlib.contextmanager
    def hook(self) -> Iterator[CloseAIHook]:
        """Yield the hook, within :func:`translate_errors`."""
        from airflow_provider_closeai.hooks.closeai import CloseAIHook

        with translate_errors():
            self.require_given()
            yield CloseAIHook(self.closeai_conn_id)
