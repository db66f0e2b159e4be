"""Rotate the keys of an alias. Results are records without keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.operators._mapping import DeliversKeys
from airflow_provider_closeai.operators.base import DocsLink
from airflow_provider_closeai.paths import path_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.sinks.base import TokenSink


class RotateSubAccountsOperator(DeliversKeys):
    """
    Replace an alias's old keys without an interruption.

    Run it as often as you like, daily or hourly: each run does what is due. It creates and delivers what is
    missing of ``count`` accounts younger than ``every``, and deletes an old one once ``count`` newer ones
    are ``grace`` old and the sink has held their keys for ``grace``. Returns the current ``sub_accounts``,
    what this run ``created``, ``delivered`` and ``deleted``, and what is due next.

    :param alias: the accounts' exact alias (templated).
    :param model_pricing: models and factors of new accounts (templated).
    :param balance: virtual balance of each new account, a number >= 0 (templated).
    :param deliver_to: a sink (airflow_provider_closeai.sinks) that gets the keys; preferably one that can
        tell what it holds, and since when.
    :param count: how many accounts younger than ``every`` must exist, >= 1 (templated).
    :param every: the age at which a key is replaced: a timedelta, or text such as ``90d`` (templated).
    :param grace: time in which all users of a key read its successor from the sink, >= 1 h (templated).
    :param max_rotate: how many keys that were old before rotation began may be replaced at a time: a number,
        or a percentage of ``count`` (templated).
    :param rotate_from: replace and delete nothing before this time (templated).
    :param ledger: a cost ledger (docs/ledger.md) that gets the last records before anything is
        deleted (templated).
    :param settle: see CreateSubAccountsOperator.
    :param batch_size: accounts per call, >= 1.
    :param time_zone: where the ledger's billing month turns; must match the snapshot's.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "alias",
        "model_pricing",
        "balance",
        "count",
        "every",
        "grace",
        "max_rotate",
        "rotate_from",
        "ledger",
        "closeai_conn_id",
    )
    template_fields_renderers = {"model_pricing": "json"}  # noqa: RUF012  # as Airflow declares it
    operator_extra_links = (DocsLink("operators/rotate.md"),)

    def __init__(
        self,
        *,
        alias: str,
        model_pricing: dict[str, Any] | list[dict[str, Any]] | str,
        balance: Any,
        deliver_to: TokenSink,
        count: int | str = 1,
        every: timedelta | str = timedelta(days=90),
        grace: timedelta | str = timedelta(days=7),
        max_rotate: int | str = "10%",
        rotate_from: datetime | str | None = None,
        ledger: str | os.PathLike[str] | None = None,
        settle: float = 30,
        batch_size: int = 100,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(deliver_to=deliver_to, **kwargs)
        self.alias = alias
        self.model_pricing = model_pricing
        self.balance = balance
        self.count = count
        self.every = every
        self.grace = grace
        self.max_rotate = max_rotate
        self.rotate_from = rotate_from
        self.ledger = path_text(ledger)
        self.settle = settle
        self.batch_size = batch_size
        self.time_zone = time_zone

    def execute(self, context: Context) -> dict[str, Any]:
        """Rotate; see docs/operators/rotate.md."""
        from airflow_provider_closeai.operators.costs import deletion_recorder

        with self.hook() as hook:
            done = hook.rotate_sub_accounts(
                self.alias,
                self.model_pricing,
                self.balance,
                self.deliver_to,
                self.count,
                record=deletion_recorder(self.ledger, context, self.time_zone),
                context=context,
                every=self.every,
                grace=self.grace,
                max_rotate=self.max_rotate,
                rotate_from=self.rotate_from,
                batch_size=self.batch_size,
                settle=self.settle,
            )
            return done.record()
