"""What the operators share: the connection, and errors that stop Airflow's retries where none can help.

DAG files are parsed every few seconds, so nothing here imports the client, requests or tenacity at the top.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

if TYPE_CHECKING:
    from airflow_provider_closeai.hooks.closeai import CloseAIHook


class CloseAIOperator(BaseOperator):
    """
    Base of the operators.

    :param closeai_conn_id: the connection (templated).
    """

    def __init__(self, *, closeai_conn_id: str = "closeai_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.closeai_conn_id = closeai_conn_id

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
