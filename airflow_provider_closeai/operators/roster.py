"""Plan what a roster changes, and apply it. Results are JSON without keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, BaseOperatorLink

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.asset_names import ACCOUNTS, PLAN
from airflow_provider_closeai.operators import _approval, _runs
from airflow_provider_closeai.operators._assets import (
    connection_asset,
    describe_outlets,
    publish,
    set_alias,
)
from airflow_provider_closeai.operators._mapping import DeliversKeys
from airflow_provider_closeai.operators.base import DocsLink
from airflow_provider_closeai.paths import path_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.sinks.base import TokenSink

__all__ = ["PlanSubAccountsOperator", "SyncSubAccountsOperator", "accounts_asset"]

log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | Mapping[str, Any]


def accounts_asset(closeai_conn_id: str = "closeai_default") -> Asset:
    """
    Return the asset of a main account's sub-accounts, to schedule a DAG on their changes.

    :param closeai_conn_id: SyncSubAccountsOperator's connection.
    """
    return connection_asset(closeai_conn_id, ACCOUNTS, "CloseAI sub-accounts")


class _Rosters(DeliversKeys):
    """Operators on a roster."""

    def _options(self) -> dict[str, Any]:
        """Return the options that both operators take."""
        names = ("prune", "max_create", "max_delete", "deliver_to", "ledger", "time_zone")
        return {name: getattr(self, name) for name in names}


class PlanSubAccountsOperator(_Rosters):
    """
    Plan what a roster would change, and change nothing.

    Returns the plan: JSON without keys, with ``markdown`` for Airflow's approval form, ``digest``,
    ``counts``, ``actions`` and ``notes``. The log has one line for each change.

    :param roster: the path of a YAML or JSON file, local or in any store that Airflow's object storage
        supports; or a mapping (templated).
    :param prune: also delete the accounts of owned aliases that are not in the roster; needs ``max_delete``
        (templated).
    :param max_create: refuse a plan that creates more (templated).
    :param max_delete: refuse a plan that deletes more: a number, or a percentage of the owned accounts,
        rounded up (templated).
    :param fail_on_changes: fail if anything would change: a drift check (templated).
    :param deliver_to: the sink that SyncSubAccountsOperator delivers keys to; rotation depends on what it
        holds.
    :param ledger: the cost ledger that budgets are checked against; only read here (templated).
    :param time_zone: where the billing month turns; must match the snapshot's.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "roster",
        "prune",
        "max_create",
        "max_delete",
        "fail_on_changes",
        "ledger",
        "closeai_conn_id",
    )
    template_fields_renderers = {"roster": "json"}  # noqa: RUF012  # as Airflow declares it
    operator_extra_links: Collection[BaseOperatorLink] = (DocsLink("operators/plan.md"),)

    def __init__(
        self,
        *,
        roster: Source,
        prune: bool | str = False,
        max_create: int | str | None = None,
        max_delete: int | str | None = None,
        fail_on_changes: bool | str = False,
        deliver_to: TokenSink | None = None,
        ledger: str | os.PathLike[str] | None = None,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(deliver_to=deliver_to, **kwargs)
        self.roster = path_text(roster)
        self.prune = prune
        self.max_create = max_create
        self.max_delete = max_delete
        self.ledger = path_text(ledger)
        self.time_zone = time_zone
        self.fail_on_changes = fail_on_changes
        set_alias(self, "closeai_plans", kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan; see docs/operators/plan.md."""
        from airflow_provider_closeai.provisioning import inputs
        from airflow_provider_closeai.roster import DriftFound, markdown
        from airflow_provider_closeai.roster.render import published, summary

        plans = _approval.PlansOfRun(context)
        with self.hook() as hook:
            must_not_change = inputs.flag("fail_on_changes", self.fail_on_changes)
            plan: Any = hook.plan(self.roster, **self._options())
            log.info("Plan %s of %s: %s.", plan.digest, plan.title, summary(plan).lower())
            if must_not_change and plan.actions:
                raise DriftFound(
                    f"What is there is not what {plan.title} says: {summary(plan)}. Nothing was "
                    "changed. This log names each difference. Apply the roster, or correct it."
                )
            is_only = plans.add(plan.digest)
            record: dict[str, Any] = plan.record()
            asset = connection_asset(self.closeai_conn_id, PLAN, "CloseAI plan")
            publish(self, context, asset, published(plan))
            return record | {"markdown": markdown(plan), _approval.IS_ONLY: is_only}


class SyncSubAccountsOperator(_Rosters):
    """
    Make the sub-accounts match a roster, or apply what is approved of a plan.

    Give exactly one of ``roster`` and ``plan``. Run it as often as you like, kill it wherever you like.
    After Airflow's approval it does what is approved *and* still wanted, and lists the rest. Returns what
    it ``created``, ``repriced``, ``deleted`` and ``delivered``, what it ``skipped``, what is
    ``not_approved``, and the current ``sub_accounts``: never a key.

    :param roster: as PlanSubAccountsOperator takes it (templated).
    :param plan: what PlanSubAccountsOperator returned: ``plan.output`` (templated).
    :param prune: as PlanSubAccountsOperator takes it; only with ``roster``: a plan has its own (templated).
    :param max_create: refuse to create more (templated).
    :param max_delete: refuse to delete more (templated).
    :param settle: see CreateSubAccountsOperator.
    :param batch_size: accounts per call, >= 1.
    :param deliver_to: a sink (airflow_provider_closeai.sinks) that gets every key that it does not hold.
    :param ledger: the cost ledger that budgets are checked against; gets the listing, and the last records
        before anything is deleted (templated).
    :param dry_run: only log what would be done (templated).
    :param time_zone: where the billing month turns; must match the snapshot's.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "roster",
        "plan",
        "prune",
        "max_create",
        "max_delete",
        "ledger",
        "is_dry_run",
        "closeai_conn_id",
    )
    template_fields_renderers = {"roster": "json", "plan": "json"}  # noqa: RUF012  # as Airflow declares it
    operator_extra_links: Collection[BaseOperatorLink] = (DocsLink("operators/sync.md"),)

    def __init__(
        self,
        *,
        roster: Source | None = None,
        plan: Any = None,
        prune: bool | str = False,
        max_create: int | str | None = None,
        max_delete: int | str | None = None,
        settle: float = 30,
        batch_size: int = 100,
        deliver_to: TokenSink | None = None,
        ledger: str | os.PathLike[str] | None = None,
        dry_run: bool | str = False,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(deliver_to=deliver_to, **kwargs)
        self.roster = path_text(roster)
        self.prune = prune
        self.max_create = max_create
        self.max_delete = max_delete
        self.ledger = path_text(ledger)
        self.time_zone = time_zone
        self.plan = plan
        self.settle = settle
        self.batch_size = batch_size
        self.is_dry_run = dry_run  # BaseOperator already has a method ``dry_run``
        set_alias(self, "closeai_accounts", kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply; see docs/operators/sync.md."""
        with self.hook() as hook:
            wanted = self._wanted(context)
            done: Any = hook.apply(
                wanted,
                context=context,
                run=_runs.run_of(context),
                settle=self.settle,
                batch_size=self.batch_size,
                dry_run=self.is_dry_run,
                **self._options(),
            )
        record: dict[str, Any] = done.record()
        self._tell_followers(context, record, has_changed=done.has_changed)
        return record

    def _wanted(self, context: Context) -> Any:
        from airflow_provider_closeai.client.errors import InvalidParameter
        from airflow_provider_closeai.provisioning import inputs
        from airflow_provider_closeai.roster import Plan

        if (self.plan is None) == (self.roster is None):
            what = "none is given" if self.plan is None else "both are given"
            raise InvalidParameter(f"roster, plan: {what}. Give exactly one of them. Nothing was sent.")
        if self.plan is None:
            return self.roster
        plan = Plan.parse(self.plan)
        record = inputs.from_json("plan", self.plan)
        _approval.check(context, plan, record if isinstance(record, Mapping) else {})
        return plan

    def _tell_followers(self, context: Context, record: dict[str, Any], *, has_changed: bool) -> None:
        """Update the asset if accounts changed, for other DAGs; outlets that were given, always."""
        extra = {"roster": record["roster"], **record["counts"]}
        describe_outlets(self, context, extra)
        if has_changed:
            publish(self, context, accounts_asset(self.closeai_conn_id), extra)
