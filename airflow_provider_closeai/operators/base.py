"""What the operators share: the connection, how errors are logged, and when Airflow retries.

DAG files are parsed every few seconds, so nothing here imports the client, requests or tenacity at the top.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import textwrap
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs
from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, BaseOperatorLink

from airflow_provider_closeai import DOCS_URL
from airflow_provider_closeai.operators._fields import PlainFields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.hooks.closeai import CloseAIHook

log = logging.getLogger(__name__)

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
