"""Requests to the service: frozen structs, each made and validated by its one ``parse``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import arguments
from airflow_provider_closeai.costs.accounting.alerts import Threshold, parse_thresholds
from airflow_provider_closeai.costs.accounting.money import parse_amount, parse_currency
from airflow_provider_closeai.costs.accounting.months import require_month, zone_name
from airflow_provider_closeai.costs.accounting.owners import Rule, parse_budgets, parse_owners
from airflow_provider_closeai.costs.inputs import cell_text, short_repr
from airflow_provider_closeai.costs.places import OpenPath, local_path
from airflow_provider_closeai.costs.render.files import parse_formats
from airflow_provider_closeai.costs.render.focus import BILLED_COSTS
from airflow_provider_closeai.costs.store.ledger import Ledger, run_key
from airflow_provider_closeai.costs.tables import FORMATS, load_pyarrow

_IDS = 2**63  # larger than any id in Parquet and databases


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """
    The run that makes a request.

    :param key: its short name in the ledger, the same for all its tries (:func:`.run_key`).
    :param due: the time that it stands for, or ``None``.
    :param is_first: whether no earlier run of its DAG succeeded.
    :param is_asset_triggered: whether a new snapshot started it.
    """

    key: str = msgspec.field(default_factory=lambda: run_key(uuid.uuid4()))
    due: datetime | None = None
    is_first: bool = False
    is_asset_triggered: bool = False


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Record one complete listing; see :meth:`parse`."""

    ledger: Ledger
    time_zone: str
    file_format: str
    max_lag: timedelta
    control_total: bool

    @classmethod
    def parse(
        cls,
        *,
        ledger: Any,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        file_format: str = defaults.FILE_FORMAT,
        max_lag: timedelta | float = defaults.MAX_LAG,
        control_total: bool = True,
        open_path: OpenPath = local_path,
    ) -> SnapshotRequest:
        """
        Validate a request.

        :param ledger: the ledger's folder: a path object, or text.
        :param time_zone: where the billing month turns: an IANA name, or a zone of ``zoneinfo`` or
            ``pendulum``.
        :param file_format: ``csv`` or ``parquet``.
        :param max_lag: how long after its due time a run may still record: a timedelta or seconds.
        :param control_total: also record the main account's use, as the platform reports it.
        :param open_path: turns a path into a path object.
        :raises InvalidParameter: one is wrong; names it.
        """
        extension = arguments.parse_choice("file_format", file_format, FORMATS)
        if extension == "parquet":
            load_pyarrow()
        return cls(
            time_zone=zone_name(time_zone),
            max_lag=arguments.parse_span("max_lag", max_lag),
            file_format=extension,
            control_total=arguments.parse_flag("control_total", control_total),
            ledger=Ledger(open_path("ledger", ledger)),
        )


class DeletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Record the last state of accounts that are about to be deleted; see :meth:`parse`."""

    ledger: Ledger
    time_zone: str

    @classmethod
    def parse(
        cls, *, ledger: Any, time_zone: str | tzinfo = defaults.TIME_ZONE, open_path: OpenPath = local_path
    ) -> DeletionRequest:
        """
        Validate a request.

        :param ledger: the ledger's folder.
        :param time_zone: where the billing month turns.
        :param open_path: turns a path into a path object.
        :raises InvalidParameter: one is wrong; names it.
        """
        return cls(time_zone=zone_name(time_zone), ledger=Ledger(open_path("ledger", ledger)))


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Close a month, or compute its figures; see :meth:`parse`."""

    ledger: Ledger
    month: str
    currency: str
    owners: tuple[Rule, ...]
    budgets: dict[str, Decimal]
    final_within: timedelta
    time_zone: str
    even_if_uncertain: bool

    @classmethod
    def parse(
        cls,
        *,
        ledger: Any,
        month: str,
        currency: str,
        owners: Any = None,
        budgets: Any = None,
        final_within: timedelta | float = defaults.FINAL_WITHIN,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        even_if_uncertain: bool = False,
        open_path: OpenPath = local_path,
    ) -> CloseRequest:
        """
        Validate a request.

        :param ledger: the ledger's folder.
        :param month: ``YYYY-MM``, ``current``, ``previous``, or ``latest``: the newest snapshot's.
        :param currency: ISO 4217 code of the platform's amounts.
        :param owners: who pays: a mapping, a list, JSON text, or the path of a YAML or CSV file.
        :param budgets: budgets by team, in the same forms as ``owners``.
        :param final_within: how close to the month's end a snapshot makes it final.
        :param time_zone: where the billing month turns.
        :param even_if_uncertain: close the month even while its end is in doubt.
        :param open_path: turns a path into a path object.
        :raises InvalidParameter: one is wrong; names it.
        """
        code = parse_currency(currency)
        return cls(
            owners=tuple(parse_owners(arguments.load_rules("owners", owners, open_path))),
            budgets=parse_budgets(arguments.load_rules("budgets", budgets, open_path), code),
            ledger=Ledger(open_path("ledger", ledger)),
            month=cell_text("month", month).strip(),
            currency=code,
            final_within=arguments.parse_span("final_within", final_within),
            time_zone=zone_name(time_zone),
            even_if_uncertain=arguments.parse_flag("even_if_uncertain", even_if_uncertain),
        )


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Report a month; see :meth:`parse`."""

    month: CloseRequest
    output: Any
    formats: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    close: bool
    account: str
    billed_cost: str
    statements: bool
    notify_on: str
    public_url: str | None

    @classmethod
    def parse(
        cls,
        *,
        output: Any,
        formats: Sequence[str] | str = defaults.FORMATS,
        thresholds: Sequence[str] | str = defaults.THRESHOLDS,
        close: bool | str = False,
        account: str | int = defaults.ACCOUNT,
        billed_cost: str = defaults.BILLED_COST,
        statements: bool = False,
        notify_on: str = defaults.NOTIFY_ON,
        public_url: str | None = None,
        open_path: OpenPath = local_path,
        **month: Any,
    ) -> ReportRequest:
        """
        Validate a request.

        :param output: the folder of the report's files.
        :param formats: some of ``html``, ``csv``, ``json``, ``parquet``, ``focus``, ``focus-csv``,
            ``focus-parquet``.
        :param thresholds: when to alert, such as ``80%`` or ``forecast 100%`` of the budget.
        :param close: also close the month: ``True``, or ``even if uncertain``: even while its end is in
            doubt.
        :param account: the main account's name.
        :param billed_cost: FOCUS ``BilledCost``: ``effective`` or ``zero``.
        :param statements: also write a page for each team.
        :param notify_on: when to call notifiers: ``alerts``: if there are new alerts; ``report``: always.
        :param public_url: the URL of the output folder.
        :param open_path: turns a path into a path object.
        :param month: the parameters of :meth:`CloseRequest.parse`.
        :raises InvalidParameter: one is wrong; names it.
        """
        closes, even_if_uncertain = arguments.parse_close(close)
        return cls(
            formats=parse_formats(formats),
            thresholds=tuple(parse_thresholds(thresholds)),
            close=closes,
            account=arguments.parse_label("account", account),
            billed_cost=arguments.parse_choice("billed_cost", billed_cost, BILLED_COSTS),
            statements=arguments.parse_flag("statements", statements),
            notify_on=arguments.parse_choice("notify_on", notify_on, ("alerts", "report")),
            public_url=arguments.parse_public_url(public_url),
            output=open_path("output", output),
            month=CloseRequest.parse(open_path=open_path, even_if_uncertain=even_if_uncertain, **month),
        )


class NoteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Book a note by hand; see :meth:`parse`."""

    ledger: Ledger
    month: str
    sub_account_id: int
    amount: Decimal
    reason: str
    currency: str
    alias: str

    @classmethod
    def parse(
        cls,
        *,
        ledger: Any,
        month: str,
        sub_account_id: int,
        amount: Decimal | str,
        reason: str,
        currency: str,
        alias: str = "",
        open_path: OpenPath = local_path,
    ) -> NoteRequest:
        """
        Validate a request.

        :param ledger: the ledger's folder.
        :param month: the month to book it in, ``YYYY-MM``.
        :param sub_account_id: the account whose cost changes.
        :param amount: the change; negative lowers the cost.
        :param reason: why, for readers of the report; surrounding white space is ignored.
        :param currency: the amount's currency.
        :param alias: the account's alias, for readers.
        :param open_path: turns a path into a path object.
        :raises InvalidParameter: one is wrong; names it.
        """
        if isinstance(sub_account_id, bool) or not isinstance(sub_account_id, int):
            raise InvalidParameter(f"sub_account_id: {short_repr(sub_account_id)} is not a whole number.")
        if not 0 <= sub_account_id < _IDS:
            raise InvalidParameter(f"sub_account_id: an account's id is from 0 to {_IDS - 1}.")
        return cls(
            sub_account_id=sub_account_id,
            reason=arguments.parse_label("reason", reason),
            currency=parse_currency(currency),
            month=require_month(month),
            amount=parse_amount("amount", amount),
            alias=cell_text("alias", alias),
            ledger=Ledger(open_path("ledger", ledger)),
        )
