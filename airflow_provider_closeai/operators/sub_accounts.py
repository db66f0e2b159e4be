"""Create, reprice, delete and list sub-accounts. Results are records without keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.operators._fields import CheckedPartial, is_mapped, is_row_of_a_task
from airflow_provider_closeai.operators._mapping import DeliversKeys, is_from_task, refuse_keys
from airflow_provider_closeai.operators.base import CloseAIOperator, DocsLink
from airflow_provider_closeai.operators.rotate import RotateSubAccountsOperator
from airflow_provider_closeai.paths import path_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_closeai.sinks.base import TokenSink

__all__ = [
    "CreateSubAccountsOperator",
    "DeleteSubAccountsOperator",
    "ListSubAccountsOperator",
    "RotateSubAccountsOperator",
    "UpdatePricingOperator",
]

log = logging.getLogger(__name__)


class CreateSubAccountsOperator(DeliversKeys):
    """
    Ensure that exactly ``count`` sub-accounts of an alias exist.

    Run it as often as you like, kill it wherever you like: there are ``count`` accounts afterwards. Returns
    their records (id, alias, balance, monthly_cost, model_pricing, ..., ``token_hint``): never a key. A
    record has ``pricing_differs: true`` if the account's prices are not the requested ones.

    :param alias: the accounts' exact alias; people must be able to read and type it (templated).
    :param model_pricing: models and factors, ``{"gpt-4": 1, "gpt-4o": "1.5"}`` or the API's list of dicts;
        any other model has no permission (templated).
    :param balance: virtual balance of each new account, a number >= 0; existing ones keep theirs (templated).
    :param count: how many accounts must exist, >= 1 (templated).
    :param if_exists: what to do with existing accounts: ``ensure`` keeps them as they are; ``update`` also
        sets their prices to the requested ones; ``match`` fails if prices differ; ``fail`` refuses if some
        existed before this task (templated).
    :param batch_size: accounts per post, >= 1.
    :param settle: seconds for which the listing must stay the same before an account is believed missing,
        whenever an earlier post may have worked.
    :param deliver_to: a sink (airflow_provider_closeai.sinks) that gets each account's key before the task
        succeeds, tried again on every retry; each record then has the reference in ``delivered_to``.
        ``None``: keys stay on the platform, where ``CloseAIHook`` reads them.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "alias",
        "model_pricing",
        "balance",
        "count",
        "if_exists",
        "closeai_conn_id",
    )
    template_fields_renderers = {"model_pricing": "json"}  # noqa: RUF012  # as Airflow declares it
    operator_extra_links = (DocsLink("operators/create.md"),)

    def __init__(
        self,
        *,
        alias: str,
        model_pricing: dict[str, Any] | list[dict[str, Any]] | str,
        balance: Any,
        count: int | str = 1,
        if_exists: Literal["ensure", "update", "match", "fail"] | str = "ensure",
        batch_size: int = 100,
        settle: float = 30,
        deliver_to: TokenSink | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(deliver_to=deliver_to, **kwargs)
        self.alias = alias
        self.model_pricing = model_pricing
        self.balance = balance
        self.count = count
        self.if_exists = if_exists
        self.batch_size = batch_size
        self.settle = settle

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Create what is missing; see docs/operators/create.md."""
        from airflow_provider_closeai.hooks.keys import sink_keys
        from airflow_provider_closeai.hooks.tries import this_try
        from airflow_provider_closeai.provisioning import runner
        from airflow_provider_closeai.provisioning.requests import CreateRequest

        with self.hook() as hook:
            request = CreateRequest.parse(
                self.alias,
                self.model_pricing,
                self.balance,
                self.count,
                if_exists=self.if_exists,
                batch_size=self.batch_size,
                settle=self.settle,
            )
            keys = None
            if self.deliver_to is not None:
                keys = sink_keys(hook.get_conn, self.deliver_to, {request.alias: request.count})
            accounts = runner.create(hook.get_conn(), request, this_try(context), needs_keys=keys is not None)
            records = [request.record(account) for account in accounts]
            if keys is not None:
                references = keys.deliver(accounts)
                records = [record | {"delivered_to": references[record["id"]]} for record in records]
        return records


class _Selects(CloseAIOperator):
    """Operators that work on accounts selected by ids, alias or keys."""

    def __init__(
        self, *, sub_accounts: Any = None, alias: str | None = None, sks: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if is_from_task(sks) or (sks is not None and is_mapped(self)):
            raise ValueError(
                "sks must not come from another task: XCom keeps it in plain text. Pass the records: "
                "sub_accounts=task.output."
            )
        self.sub_accounts = sub_accounts
        self.alias = alias
        self._sks = sks  # not a template field: the serialized DAG would show it

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Map the operator; see Airflow's documentation. Not over ``sks``."""
        return CheckedPartial(super().partial(**refuse_keys(kwargs)), refuse_keys)

    def _map_label(self) -> str | None:
        given = self.sub_accounts if isinstance(self.sub_accounts, list) else []
        aliases = [item.get("alias") if isinstance(item, Mapping) else None for item in given]
        if aliases and all(isinstance(alias, str) for alias in aliases):
            return self._as_text("(task.sub_accounts | map(attribute='alias') | unique | join(', '))[:100]")
        return super()._map_label()

    def _selection(self, context: Context) -> dict[str, Any]:
        sks = None if self._sks is None else self.render_template(self._sks, context)
        if sks is None and self._sks is not None:
            self._became_none = ("sks",)
            self.require_given()
        return {"sub_accounts": self.sub_accounts, "alias": self.alias, "sks": sks}


class UpdatePricingOperator(_Selects):
    """
    Set sub-accounts' price factors without renaming accounts or losing models by accident.

    Give exactly one of ``sub_accounts``, ``alias``, ``sks``. Returns the records as they are afterwards.

    :param model_pricing: models and factors (templated).
    :param sub_accounts: ids, or the records that other tasks returned: ``create.output``, of a mapped task
        too (templated).
    :param alias: all accounts with exactly this alias (templated).
    :param sks: keys. Rendered when the task runs and shown nowhere; best from a secrets backend:
        ``"{{ var.value.keys }}"``.
    :param mode: ``merge`` keeps other models; ``replace`` removes their permission (templated).
    :param batch_size: accounts per post, >= 1.
    :param dry_run: only log what would change, and return the records as they would be (templated).
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "model_pricing",
        "sub_accounts",
        "alias",
        "mode",
        "is_dry_run",
        "closeai_conn_id",
    )
    template_fields_renderers = {"model_pricing": "json", "sub_accounts": "json"}  # noqa: RUF012
    operator_extra_links = (DocsLink("operators/pricing.md"),)

    def __init__(
        self,
        *,
        model_pricing: dict[str, Any] | list[dict[str, Any]] | str,
        sub_accounts: Any = None,
        alias: str | None = None,
        sks: Any = None,
        mode: Literal["merge", "replace"] | str = "merge",
        batch_size: int = 100,
        dry_run: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(sub_accounts=sub_accounts, alias=alias, sks=sks, **kwargs)
        self.model_pricing = model_pricing
        self.mode = mode
        self.batch_size = batch_size
        self.is_dry_run = dry_run  # BaseOperator already has a method ``dry_run``

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Reprice; see docs/operators/pricing.md."""
        with self.hook() as hook:
            accounts = hook.update_pricing(
                self.model_pricing,
                **self._selection(context),
                context=context,
                mode=self.mode,
                batch_size=self.batch_size,
                dry_run=self.is_dry_run,
            )
        return [account.record() for account in accounts]


class DeleteSubAccountsOperator(_Selects):
    """
    Read sub-accounts, check them, and delete them. Returns their last records, including their costs.

    Give exactly one of ``sub_accounts``, ``alias``, ``sks``.

    :param sub_accounts: ids, or the records that other tasks returned: ``create.output``, of a mapped task
        too (templated).
    :param alias: all accounts with exactly this alias (templated).
    :param sks: keys. Rendered when the task runs and shown nowhere.
    :param missing: ``ignore``: an account that does not exist counts as deleted; ``fail``: as an error
        (templated).
    :param max_delete: refuse to delete more than this many (templated).
    :param batch_size: accounts per call, >= 1.
    :param dry_run: only log what would be deleted, and return it (templated).
    :param ledger: a cost ledger (docs/ledger.md) that gets the last records before anything is
        deleted (templated).
    :param time_zone: where the ledger's billing month turns; must match the snapshot's.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = (
        "sub_accounts",
        "alias",
        "missing",
        "max_delete",
        "is_dry_run",
        "ledger",
        "closeai_conn_id",
    )
    template_fields_renderers = {"sub_accounts": "json"}  # noqa: RUF012
    operator_extra_links = (DocsLink("operators/delete.md"),)

    def __init__(
        self,
        *,
        sub_accounts: Any = None,
        alias: str | None = None,
        sks: Any = None,
        missing: Literal["ignore", "fail"] | str = "ignore",
        max_delete: int | str | None = None,
        batch_size: int = 100,
        dry_run: bool | str = False,
        ledger: str | os.PathLike[str] | None = None,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        **kwargs: Any,
    ) -> None:
        super().__init__(sub_accounts=sub_accounts, alias=alias, sks=sks, **kwargs)
        self.ledger = path_text(ledger)
        self.time_zone = time_zone
        self.missing = missing
        self.max_delete = max_delete
        self.batch_size = batch_size
        self.is_dry_run = dry_run  # BaseOperator already has a method ``dry_run``

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Delete; see docs/operators/delete.md."""
        from airflow_provider_closeai.operators.costs import deletion_recorder

        with self.hook() as hook:
            accounts = hook.delete_sub_accounts(
                **self._selection(context),
                record=deletion_recorder(self.ledger, context, self.time_zone),
                missing=self.missing,
                max_delete=self.max_delete,
                batch_size=self.batch_size,
                dry_run=self.is_dry_run,
            )
        return [account.record() for account in accounts]


class ListSubAccountsOperator(CloseAIOperator):
    """
    Return the current records of sub-accounts, each once.

    Give ``alias`` or ``sub_accounts``, or neither for all sub-accounts.

    :param alias: only accounts with exactly this alias (templated).
    :param sub_accounts: only these: ids, or the records that other tasks returned: ``create.output``, of a
        mapped task too. Those that no longer exist are skipped (templated).
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = ("alias", "sub_accounts", "closeai_conn_id")
    template_fields_renderers = {"sub_accounts": "json"}  # noqa: RUF012
    operator_extra_links = (DocsLink("operators/list.md"),)

    def __init__(self, *, alias: str | None = None, sub_accounts: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alias = alias
        self.sub_accounts = sub_accounts

    def require_given(self) -> None:
        """Check also that a row from another task selects something."""
        from airflow_provider_closeai.client.errors import InvalidParameter

        super().require_given()
        if self.alias is None and self.sub_accounts is None and is_row_of_a_task(self):
            raise InvalidParameter(
                "alias, sub_accounts: the row that another task gave to expand_kwargs has neither, and all "
                "accounts are not taken to be meant. Give one of them in each row; to list all accounts of "
                "several connections, use expand(closeai_conn_id=...). Nothing was sent."
            )

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List; see docs/operators/list.md."""
        from airflow_provider_closeai.provisioning.inputs import refuse_none
        from airflow_provider_closeai.provisioning.selection import Selection
        from airflow_provider_closeai.provisioning.texts import count_of, ids_of

        with self.hook() as hook:
            if self.sub_accounts is None:
                accounts = list(hook.iter_sub_accounts(alias=self.alias))
            else:
                both = ("sub_accounts", "alias")
                Selection.parse(self.sub_accounts, self.alias, parameters=both)  # raises if both are given
                accounts = hook.find_sub_accounts(self.sub_accounts)
            if not accounts and self.alias is not None:
                refuse_none(self.alias)
        which = "" if self.alias is None else f" with exactly the alias {self.alias!r}"
        log.info("Listed %s%s: ids %s.", count_of(accounts), which, ids_of(accounts))
        return [account.record() for account in accounts]
