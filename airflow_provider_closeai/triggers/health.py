"""Makes the sensor's decision in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.operators._fields import connection_id

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_closeai.provisioning.health import HealthCheck

T = TypeVar("T")


class HealthTrigger(BaseTrigger):
    """
    Fire when enough bases are healthy.

    Blocking work runs in threads of its own, and triggers of one connection that check at the same time
    share one check. Temporary failures are waited out; a refused key or a wrong connection fires an error.

    :param closeai_conn_id: the connection; only its id is stored, never its key.
    :param require: ``any``, ``primary`` or ``all``.
    :param poke_interval: seconds between checks.
    """

    def __init__(
        self, closeai_conn_id: str = "closeai_default", require: str = "any", poke_interval: float = 300
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.closeai_conn_id = connection_id(closeai_conn_id)
        self.require = require
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments."""
        arguments = {name: getattr(self, name) for name in ("closeai_conn_id", "require", "poke_interval")}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check until the outcome is decided."""
        while True:
            try:
                found = await check_together(self.closeai_conn_id, self.require)
            except CloseAIError as error:
                yield TriggerEvent({"status": "error", "message": str(error)})
                return
            if found.base is not None:
                yield TriggerEvent({"status": "healthy", "base": found.base, "seen": found.seen})
                return
            await asyncio.sleep(self.poke_interval)


async def check_together(closeai_conn_id: str, require: str) -> HealthCheck:
    """
    Check once, shared with every other trigger of this loop that asks the same at this moment.

    :param require: ``any``, ``primary`` or ``all``.
    :raises CloseAIError: waiting cannot help, as with a refused key.
    """
    loop = asyncio.get_running_loop()
    key = (loop, closeai_conn_id, require)
    task = _running.get(key)
    if task is None:

        def forget(done: asyncio.Task[HealthCheck]) -> None:
            del _running[key]
            if not done.cancelled():
                done.exception()  # else asyncio logs that its exception was never retrieved

        task = _running[key] = loop.create_task(_check(closeai_conn_id, require))
        task.add_done_callback(forget)
    return await asyncio.shield(task)  # cancelling one trigger must not end the others' check


async def _check(closeai_conn_id: str, require: str) -> HealthCheck:
    try:
        connection = await get_async_connection(closeai_conn_id)
    except AirflowNotFoundException:
        # Airflow 3.3 also raises this if it cannot be asked asynchronously, as in `airflow dags test`.
        connection = await sync_to_async(BaseHook.get_connection)(closeai_conn_id)
    return await in_thread(_check_blocking, connection, require)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """
    Call a function that may block, in a thread that only this package's triggers use.

    :param function: it may also read and write Variables.
    """
    # With asgiref: on Airflow 3.1 reading a Variable in any other thread breaks the triggerer, since only
    # asgiref routes the SDK's messages back to the loop that owns their socket.
    return await sync_to_async(function, thread_sensitive=False, executor=_threads)(*arguments)


def _check_blocking(connection: Connection, require: str) -> HealthCheck:
    # Imported here: the triggerer loads trigger classes on its event loop, and these imports are slow.
    from airflow_provider_closeai.hooks.connection import client_from
    from airflow_provider_closeai.provisioning.health import check_bases

    return check_bases(lambda: client_from(connection), require)


# Checks of dead bases wait for timeouts. In the loop's own threads (six on two cores) they would hold up all
# other triggers.
_threads = ThreadPoolExecutor(16, thread_name_prefix="closeai-health")
_running: dict[tuple[asyncio.AbstractEventLoop, str, str], asyncio.Task[HealthCheck]] = {}
