"""Wait until the API can be used."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_closeai.asset_names import HEALTH
from airflow_provider_closeai.operators._assets import can_publish, connection_asset, publish, set_alias
from airflow_provider_closeai.operators._fields import PlainFields
from airflow_provider_closeai.operators.base import DocsLink, translate_errors

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_closeai.hooks.closeai import CloseAIHook


class HealthSensor(PlainFields, BaseSensorOperator):
    """
    Wait until enough bases are healthy, and return the base to use.

    Verdicts are shared by the processes of a host (of the deployment with ``"cache": "variable"``): however
    many sensors wait, a base is probed once per ``health_ttl``, and traffic that is served counts as a probe.
    A refused key fails the sensor at once; it waits while a base or discovery is down.

    :param require: which bases must be healthy: ``any``, ``primary`` (best-ranked) or ``all`` (templated).
    :param deferrable: wait in the triggerer instead of a worker; default: ``[operators]
        default_deferrable``.
    :param poke_interval: seconds between checks; the platform suggests 300.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = ("require", "closeai_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (DocsLink("sensors/health.md"),)

    def __init__(
        self,
        *,
        require: Literal["any", "primary", "all"] | str = "any",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 300,
        closeai_conn_id: str = "closeai_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.require = require
        self.deferrable = deferrable
        self.closeai_conn_id = closeai_conn_id
        set_alias(self, "closeai_health", kwargs)

    def execute(self, context: Context) -> Any:
        """Wait here, or check once and defer to the triggerer."""
        if not self.deferrable:
            with self._failing_though_soft():
                return super().execute(context)
        try:
            checked = self.poke(context)
        except Exception as error:
            if self.never_fail:  # as Airflow does when not deferred
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise
        if checked:  # a subclass may return a bool, as Airflow allows
            return getattr(checked, "xcom_value", None)
        from airflow_provider_closeai.triggers.health import HealthTrigger

        self.defer(
            trigger=HealthTrigger(self.closeai_conn_id, self.require, self.poke_interval),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Check once."""
        from airflow_provider_closeai.hooks.closeai import CloseAIHook
        from airflow_provider_closeai.provisioning.health import check_bases

        with translate_errors():
            self.require_given()
            hook = CloseAIHook(self.closeai_conn_id)
            found = check_bases(hook.get_conn, self.require)
        self._publish(context, hook, found.seen)
        return PokeReturnValue(is_done=found.base is not None, xcom_value=found.base)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, and fail as :meth:`execute` does."""
        with self._failing_though_soft():
            return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Any) -> str:
        """
        Finish after the triggerer's event.

        :param event: what :class:`~airflow_provider_closeai.triggers.health.HealthTrigger` sent.
        """
        from airflow_provider_closeai.client.errors import Rejected
        from airflow_provider_closeai.hooks.closeai import CloseAIHook

        result = event if isinstance(event, dict) else {}
        if result.get("status") == "healthy" and result.get("base"):
            self.log.info("Use %s.", result["base"])
            self._publish(context, CloseAIHook(self.closeai_conn_id), result.get("seen") or {})
            return str(result["base"])
        with translate_errors():
            raise Rejected(str(result.get("message") or f"The trigger sent an unknown event: {event}."))

    def _publish(self, context: Context, hook: CloseAIHook, seen: dict[str, Any]) -> None:
        """Update the asset if the bases' health is news: the page in Airflow's UI shows it."""
        from airflow_provider_closeai.provisioning.health import is_news

        if not seen or not can_publish(self, context):
            return
        try:
            if is_news(hook.get_conn(), seen):
                publish(self, context, connection_asset(self.closeai_conn_id, HEALTH, "CloseAI bases"), seen)
        except Exception as error:  # any error: the base can be used all the same
            self.log.warning("What was seen is not published (%s).", type(error).__name__)

    @contextlib.contextmanager
    def _failing_though_soft(self) -> Iterator[None]:
        """Fail if the key is refused, even with ``soft_fail``: that is meant to skip on timeouts."""
        try:
            yield
        except AirflowSkipException as skipped:
            if self.soft_fail and isinstance(skipped.__cause__, AirflowFailException):
                raise skipped.__cause__ from None
            raise
