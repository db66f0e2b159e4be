"""The hook: makes a client from an Airflow connection, and API calls from what users want."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_closeai import get_provider_info
from airflow_provider_closeai.client.errors import CloseAIError, ConfigError
from airflow_provider_closeai.client.models import ApiBase, BaseHealth, SecretToken, SubAccount
from airflow_provider_closeai.hooks.connection import CONN_TYPE, client_from
from airflow_provider_closeai.hooks.keys import openai_client, sink_keys
from airflow_provider_closeai.hooks.tries import this_try
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.inputs import alias_text, whole_number
from airflow_provider_closeai.provisioning.reading import select
from airflow_provider_closeai.provisioning.requests import (
    CreateOptions,
    CreateRequest,
    DeleteOptions,
    DeleteRequest,
    RepriceOptions,
    RepriceRequest,
    RotateOptions,
    RotateRequest,
)
from airflow_provider_closeai.provisioning.selection import Selection

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context
    from openai import OpenAI

    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.costs import Run
    from airflow_provider_closeai.hooks.rosters import ApplyOptions, PlanOptions
    from airflow_provider_closeai.roster import Applied, Plan
    from airflow_provider_closeai.sinks.base import TokenSink

_TEST_SECONDS = 20.0


class CloseAIHook(BaseHook):
    """
    Talk to the CloseAI platform through an Airflow connection of type ``closeai``.

    Its methods are those of the platform's open API, made safe: discovery is asked once per host and TTL (per
    deployment with ``"cache": "variable"``), dead bases are avoided, creates are exact, and deletes are
    guarded. See docs/connection.md.

    :param closeai_conn_id: the connection; its password is the main account's sk.
    """

    conn_name_attr = "closeai_conn_id"
    default_conn_name = "closeai_default"
    conn_type = CONN_TYPE
    hook_name = "CloseAI"

    def __init__(self, closeai_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given: object = closeai_conn_id
        if not isinstance(given, str) or not given.strip():  # a connection object would show its key
            kind = type(given).__name__
            raise ConfigError(f"closeai_conn_id: give the id of a connection, not a {kind} or an empty text.")
        self.closeai_conn_id = given.strip()
        self._client: CloseAIClient | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow 2.11 to 3.1; later ones read the provider info."""
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import IntegerField, PasswordField, StringField
        from wtforms.validators import NumberRange, Optional

        widgets: dict[str, Any] = {}
        for name, field in get_provider_info.CONNECTION_FIELDS.items():
            schema = field["schema"]
            label, text = lazy_gettext(field["label"]), field["description"]
            if "minimum" in schema:
                checks = [Optional(), NumberRange(min=schema["minimum"])]
                widgets[name] = IntegerField(
                    label, validators=checks, description=text, widget=BS3TextFieldWidget()
                )
            elif schema.get("format") == "password":
                widgets[name] = PasswordField(label, description=text, widget=BS3PasswordFieldWidget())
            else:
                widgets[name] = StringField(label, description=text, widget=BS3TextFieldWidget())
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's labels and placeholders for Airflow 2.11 to 3.1."""
        return {
            "hidden_fields": get_provider_info.HIDDEN_FIELDS,
            "relabeling": get_provider_info.RELABELING,
            "placeholders": get_provider_info.PLACEHOLDERS,
        }

    def get_conn(self) -> CloseAIClient:
        """
        Return the connection's client, made once per hook.

        :raises ConfigError: a setting is wrong; names the form's field.
        """
        if self._client is None:
            self._client = client_from(self.get_connection(self.closeai_conn_id))
        return self._client

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection for Airflow's *Test* button: discovery, and one account of the listing."""
        try:
            client = client_from(self.get_connection(self.closeai_conn_id), longest=_TEST_SECONDS)
            bases = client.refresh_bases()
            total = client.page(1, 1).total
        except CloseAIError as error:
            return False, str(error)
        counted = "" if total is None else f"; {total} sub-accounts"
        return True, f"{len(bases)} bases known, best {bases[0].api}{counted}."

    def list_bases(self) -> list[ApiBase]:
        """Return the bases, best first, from the shared cache while it is fresh."""
        return self.get_conn().list_bases()

    def get_base_url(self) -> str:
        """
        Return the base to use now, without a trailing slash.

        For a model, see :meth:`get_openai_client`.

        :raises NoHealthyBase: none is healthy.
        """
        return self.get_conn().get_base_url()

    def check_health(self) -> list[BaseHealth]:
        """Return every base's health; probe only where it is older than ``health_ttl``."""
        return self.get_conn().check_health()

    def iter_sub_accounts(
        self, alias: str | None = None, sk: str | SecretToken | None = None
    ) -> Iterator[SubAccount]:
        """
        Stream sub-accounts, page by page, each once; ``alias`` and ``sk`` match exactly.

        An entry that cannot be read is skipped with a warning that names its id.

        :param alias: only accounts with exactly this alias.
        :param sk: only the account with exactly this key.
        """
        wanted = None if alias is None else alias_text(alias)
        return self.get_conn().iter_sub_accounts(alias=wanted, sk=sk)

    def find_sub_accounts(self, sub_accounts: Any) -> list[SubAccount]:
        """
        Return sub-accounts as they are now, in the order of the listing; skip those that are gone.

        :param sub_accounts: ids, or the records that other tasks returned.
        """
        return select(
            self.get_conn(), Selection.parse(sub_accounts, parameters=("sub_accounts",)), missing="ignore"
        )

    def get_sub_account(self, account_id: int) -> SubAccount | None:
        """Return one sub-account; ``None`` if it does not exist."""
        return self.get_conn().get_sub_account(whole_number("account_id", account_id, 0))

    def create_sub_accounts(
        self,
        alias: str,
        model_pricing: Mapping[str, Any] | list[dict[str, Any]] | str,
        balance: Any,
        count: int | str = 1,
        *,
        context: Context | None = None,
        **options: Unpack[CreateOptions],
    ) -> list[SubAccount]:
        """
        Ensure that exactly ``count`` accounts of the alias exist; see docs/operators/create.md.

        :param alias: the accounts' alias.
        :param model_pricing: models and factors; any other model has no permission.
        :param balance: virtual balance of each new account; existing ones keep theirs.
        :param count: how many accounts must exist.
        :param context: the task's context; default: the running task's, if there is one. A try after the
            first waits before it believes that no account exists.
        :param options: ``if_exists``, ``batch_size``, ``settle``.
        :returns: the accounts, keys included: ``account.token.reveal()``.
        """
        request = CreateRequest.parse(alias, model_pricing, balance, count, **options)
        return runner.create(self.get_conn(), request, this_try(context))

    def create_many(
        self, wanted: Iterable[Mapping[str, Any]], *, context: Context | None = None
    ) -> list[list[SubAccount]]:
        """
        Do what :meth:`create_sub_accounts` does for many aliases, with shared listings and waits.

        :param wanted: for each alias the parameters of :meth:`create_sub_accounts`.
        :param context: as there.
        :returns: the accounts of each alias, in the order of ``wanted``.
        :raises CloseAIError: the first error, once all other aliases are done; further errors are logged.
        """
        requests = [CreateRequest.parse(**each) for each in wanted]
        results = runner.create_all(self.get_conn(), requests, this_try(context))
        failed = [result for result in results if isinstance(result, CloseAIError)]
        for error in failed[1:]:
            self.log.error("%s", error)
        if failed:
            raise failed[0]
        return [result for result in results if isinstance(result, list)]

    def update_pricing(
        self,
        model_pricing: Mapping[str, Any] | list[dict[str, Any]] | str,
        sub_accounts: Any = None,
        alias: str | None = None,
        sks: Any = None,
        *,
        context: Context | None = None,
        **options: Unpack[RepriceOptions],
    ) -> list[SubAccount]:
        """
        Set prices without renaming accounts or losing models; see docs/operators/pricing.md.

        :param model_pricing: models and factors.
        :param sub_accounts: ids or records. Give exactly one of ``sub_accounts``, ``alias`` and ``sks``.
        :param alias: all accounts with exactly this alias.
        :param sks: keys.
        :param context: as in :meth:`create_sub_accounts`.
        :param options: ``mode``, ``batch_size``, ``dry_run``.
        :returns: the selected accounts as they are afterwards.
        """
        request = RepriceRequest.parse(model_pricing, sub_accounts, alias, sks, **options)
        return runner.reprice(self.get_conn(), request, this_try(context).names)

    def delete_sub_accounts(
        self,
        sub_accounts: Any = None,
        alias: str | None = None,
        sks: Any = None,
        *,
        record: runner.Record | None = None,
        **options: Unpack[DeleteOptions],
    ) -> list[SubAccount]:
        """
        Read accounts, check them, and delete them; see docs/operators/delete.md.

        :param sub_accounts: ids or records. Give exactly one of ``sub_accounts``, ``alias`` and ``sks``.
        :param alias: all accounts with exactly this alias.
        :param sks: keys.
        :param record: called just before the deletion, with the accounts and when their listing began.
        :param options: ``missing``, ``max_delete``, ``batch_size``, ``dry_run``.
        :returns: the accounts as they were just before.
        """
        request = DeleteRequest.parse(sub_accounts, alias, sks, **options)
        return runner.delete(self.get_conn(), request, record)

    def rotate_sub_accounts(
        self,
        alias: str,
        model_pricing: Mapping[str, Any] | list[dict[str, Any]] | str,
        balance: Any,
        deliver_to: TokenSink,
        count: int | str = 1,
        *,
        record: runner.Record | None = None,
        context: Context | None = None,
        **options: Unpack[RotateOptions],
    ) -> runner.Rotation:
        """
        Replace old keys without an interruption; see docs/operators/rotate.md.

        :param alias: the accounts' alias.
        :param model_pricing: models and factors of new accounts.
        :param balance: virtual balance of each new account.
        :param deliver_to: the sink that gets the keys.
        :param count: how many accounts that are not old must exist.
        :param record: called just before a deletion, with the accounts and when their listing began.
        :param context: as in :meth:`create_sub_accounts`.
        :param options: ``every``, ``grace``, ``max_rotate``, ``rotate_from``, ``batch_size``, ``settle``.
        """
        request = RotateRequest.parse(alias, model_pricing, balance, count, **options)
        keys = sink_keys(self.get_conn, deliver_to, {request.wanted.alias: request.wanted.count})
        return runner.rotate(self.get_conn(), request, keys, this_try(context), record)

    def get_openai_client(self, alias: str | None = None, account: Any = None, **options: Any) -> OpenAI:
        """
        Return an ``openai.OpenAI`` on the base that is healthy now, with a sub-account's key.

        Make it in the task that uses it: later, base and key may differ.

        :param alias: use the key of its newest account that is enabled and has prices.
        :param account: use this account's key: an id, a record or an account. Give exactly one of the two.
        :param options: for ``openai.OpenAI``, such as ``timeout`` and ``max_retries``.
        :raises MissingAccounts: there is no such account.
        :raises MaskedKeys: the listing hides the key.
        :raises NoHealthyBase: no base is healthy.
        """
        return openai_client(self.get_conn(), alias, account, options)

    def plan(self, roster: Any, **options: Unpack[PlanOptions]) -> Plan:
        """
        Plan what a roster would change, and change nothing. See docs/operators/plan.md.

        :param roster: a path, a mapping, or a roster.
        :param options: ``prune``, ``max_create``, ``max_delete``, ``deliver_to``, ``ledger``, ``time_zone``.
        """
        from airflow_provider_closeai.hooks.rosters import plan_roster  # most tasks need none

        return plan_roster(self.get_conn, roster, options)

    def apply(
        self,
        plan: Any,
        *,
        context: Context | None = None,
        run: Run | None = None,
        **options: Unpack[ApplyOptions],
    ) -> Applied:
        """
        Apply a roster, or what of a plan is still wanted. See docs/operators/sync.md.

        :param plan: a plan, its record, or what :meth:`plan` takes.
        :param context: as in :meth:`create_sub_accounts`.
        :param run: the task's run, for the ledger.
        :param options: those of :meth:`plan`, ``settle``, ``batch_size``, ``dry_run``.
        """
        from airflow_provider_closeai.hooks.rosters import apply_roster

        return apply_roster(self.get_conn, plan, options, this_try(context), run)
