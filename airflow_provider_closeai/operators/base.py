"""What the operators share: the connection, and what Airflow's retries should do about an error.

DAG files are parsed every few seconds, so nothing here imports the client, requests or tenacity at the top.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

if TYPE_CHECKING:
    from airflow_provider_closeai.hooks.closeai import CloseAIHook

_LONGEST_WAIT = 24 * 3600.0

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
except (ImportError, AttributeError):  # Airflow before 3.3: the task's own retry_delay counts
    _WAIT_AS_TOLD = None
else:

    class _WaitAsTold(RetryPolicy):
        """Retry when the platform said it may be asked again, not before."""

        def evaluate(
            self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
        ) -> RetryDecision:
            seconds = getattr(exception, "retry_after", None)
            if not seconds:
                return RetryDecision.default()
            wait = timedelta(seconds=min(seconds, _LONGEST_WAIT))
            return RetryDecision.retry(wait, "the platform asked to wait")

    _WAIT_AS_TOLD = _WaitAsTold()


class CloseAIOperator(BaseOperator):
    """
    Base of the operators.

    A permanent error fails the task without Airflow retries. On Airflow 3.3 and later, where the platform
    said when it may be asked again, the retry waits for that instead of ``retry_delay``, unless the task
    has a ``retry_policy`` of its own.

    :param closeai_conn_id: the connection (templated).
    """

    def __init__(self, *, closeai_conn_id: str = "closeai_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.closeai_conn_id = closeai_conn_id
        if _WAIT_AS_TOLD is not None and self.retry_policy is None:
            self.retry_policy = _WAIT_AS_TOLD

    @contextlib.contextmanager
    def hook(self) -> Iterator[CloseAIHook]:
        """Yield the hook. A permanent error leaves as ``AirflowFailException``: no retry could help."""
        from airflow_provider_closeai.client.errors import CloseAIError
        from airflow_provider_closeai.hooks.closeai import CloseAIHook

        try:
            yield CloseAIHook(self.closeai_conn_id)
        except CloseAIError as error:
            if error.permanent:
                raise AirflowFailException(str(error)) from error
            raise
