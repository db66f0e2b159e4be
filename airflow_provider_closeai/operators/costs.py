"""Record what sub-accounts cost, and report it. What the figures mean: docs/costs.md."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    Asset,
    BaseOperator,
)

from airflow_provider_closeai.operators.base import CloseAIOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseNotifier, Context

    from airflow_provider_closeai.client.models import SubAccount
    from airflow_provider_closeai.costs.figures import Report
    from airflow_provider_closeai.costs.ledger import Ledger
    from airflow_provider_closeai.costs.months import Month

_SCHEDULED = ("scheduled", "backfill", "backfill_job")


def ledger_asset(ledger: str | os.PathLike[str]) -> Asset:
    """
    Return the asset of a ledger: the outlet of a snapshot, and the schedule of a report.

    :param ledger: as the operators take it. The connection's name in it is no part of the asset.
    """
    return Asset(re.sub(r"//[^/@]*@", "//", str(ledger).rstrip("/")))


class SnapshotCostsOperator(CloseAIOperator):
    """
    Record one complete listing of the sub-accounts' balances and monthly costs: one file of the ledger.

    ``monthly_cost`` can only be read now. So a run whose time is over fails instead of recording today's
    value under another day: leave ``catchup`` off.

    Returns ``file``, ``billing_month``, ``observed_at``, ``sub_accounts``, ``total``, ``main_usage``.

    :param ledger: the ledger's folder, a local one or any that Airflow's object storage knows, for instance
        ``s3://aws_default@finance/closeai/ledger`` (templated). It is also the outlet, unless ``outlets`` are
        given, it is a template, or the task is mapped.
    :param file_format: ``csv``, or ``parquet`` (the extra ``parquet``).
    :param time_zone: where the billing month turns. The platform does not say it; its times suggest
        Asia/Shanghai.
    :param max_lag: how long after the end of its interval a run may still record.
    :param control_total: also record what the platform says the main account used.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = ("ledger", "closeai_conn_id")

    def __init__(
        self,
        *,
        ledger: str | os.PathLike[str],
        file_format: Literal["csv", "parquet"] | str = "csv",
        time_zone: str = "Asia/Shanghai",
        max_lag: timedelta = timedelta(hours=6),
        control_total: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _set_outlet(self, ledger, kwargs)
        self.ledger = ledger
        self.file_format = file_format
        self.time_zone = time_zone
        self.max_lag = max_lag
        self.control_total = control_total

    def execute(self, context: Context) -> dict[str, Any]:
        """Take a snapshot; see docs/operators/snapshot_costs.md."""
        from airflow_provider_closeai.costs import months, snapshot
        from airflow_provider_closeai.costs.tables import file_format

        with self.hook() as hook:
            snapshot.refuse_the_past(_due(context), months.now(), _span("max_lag", self.max_lag))
            taken = snapshot.take_snapshot(
                hook.get_conn(),
                _ledger(self.ledger),
                run=_run(context),
                zone=self.time_zone,
                extension=file_format("file_format", self.file_format),
                with_main_usage=self.control_total,
            )
        record = taken.record()
        _describe_outlets(self, context, record)
        return record


class CostReportOperator(BaseOperator):
    """
    Report a month's costs from the ledger, by owner and by account, exact to the last decimal.

    Calls no API. Returns ``billing_month``, ``currency``, ``status``, ``closed``, ``total``, ``forecast``,
    ``files``, ``warnings``, and ``alerts``: those that no earlier run reported.

    :param ledger: the ledger's folder (templated).
    :param month: ``YYYY-MM``, ``current``, ``previous``, or ``latest``: of the newest snapshot (templated).
    :param output: the folder of the report's files (templated).
    :param currency: ISO 4217 code of the platform's amounts; it names none itself (templated).
    :param formats: some of ``html``, ``csv``, ``json``, ``parquet`` (the extra), ``focus`` (templated).
    :param owners: who pays: a mapping from alias patterns or ``id:<id>`` to a team, or to a mapping with
        ``team`` and ``cost_center``; or the path of a YAML or CSV file (templated).
    :param budgets: by team: a mapping, or the path of a YAML or CSV file (templated).
    :param thresholds: of the budget, at which a team is reported once a month: ``80%``, ``forecast 100%``.
    :param notifiers: called once with all new alerts, as ``closeai_alerts`` in their templates.
    :param close: close the month: its figures stand from then on, and a later close only appends lines.
    :param final_within: how close to the month's end a snapshot makes it final.
    :param time_zone: where the billing month turns; the same as the snapshot's.
    :param account: the main account's name, on the page and as FOCUS ``BillingAccountId`` (templated).
    :param billed_cost: FOCUS ``BilledCost``: ``effective``, or ``zero`` where the prepaid credit is a row of
        its own elsewhere.
    """

    template_fields: Sequence[str] = (
        "ledger",
        "month",
        "output_folder",
        "currency",
        "formats",
        "owners",
        "budgets",
        "account",
    )
    template_fields_renderers = {"owners": "json", "budgets": "json"}  # noqa: RUF012

    def __init__(
        self,
        *,
        ledger: str | os.PathLike[str],
        month: str,
        output: str | os.PathLike[str],
        currency: str,
        formats: Sequence[str] | str = ("html", "csv", "json"),
        owners: Any = None,
        budgets: Any = None,
        thresholds: Sequence[str] = ("80%", "100%", "forecast 100%"),
        notifiers: BaseNotifier | Sequence[BaseNotifier] = (),
        close: bool = False,
        final_within: timedelta = timedelta(minutes=15),
        time_zone: str = "Asia/Shanghai",
        account: str = "CloseAI",
        billed_cost: Literal["effective", "zero"] | str = "effective",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _set_outlet(self, output, kwargs)
        self.ledger = ledger
        self.month = month
        self.output_folder = output  # BaseOperator.output is Airflow's own
        self.currency = currency
        self.formats = formats
        self.owners = owners
        self.budgets = budgets
        self.thresholds = thresholds
        self.notifiers = list(notifiers or ()) if isinstance(notifiers, Sequence | None) else [notifiers]
        self.close = close
        self.final_within = final_within
        self.time_zone = time_zone
        self.account = account
        self.billed_cost = billed_cost

    def execute(self, context: Context) -> dict[str, Any]:
        """Report; see docs/operators/cost_report.md."""
        from airflow_provider_closeai.costs import alerts, months
        from airflow_provider_closeai.costs.closing import close_month
        from airflow_provider_closeai.costs.ledger import SNAPSHOTS
        from airflow_provider_closeai.costs.outputs import formats_of
        from airflow_provider_closeai.costs.publish import publish, result_of
        from airflow_provider_closeai.provisioning import inputs

        with _failing_for_good():
            formats = formats_of(self.formats)
            thresholds = alerts.thresholds_of(self.thresholds)
            ledger = _ledger(self.ledger)
            # A run that is cleared later still speaks of its own time.
            asked = self.month
            if str(asked).strip() == "latest":
                newest = ledger.newest(SNAPSHOTS)
                asked = newest.month if newest else "current"
            month = months.asked_month(asked, self.time_zone, _due(context))
            report = self._report(ledger, month)
            for warning in report.warnings:
                self.log.warning("%s", warning)
            if inputs.flag("close", self.close) and close_month(ledger, report, run=_run(context)):
                report = self._report(ledger, month)
            folder = _path(self.output_folder)
            files = publish(report, ledger, folder, formats, account=self.account, billed=self.billed_cost)
            new = alerts.untold(ledger, report, thresholds, run=_run(context))
        record = result_of(report, files, new)
        _describe_outlets(self, context, record)
        self._notify(context, record)
        alerts.remember(ledger, report, new, run=_run(context))
        return record

    def _report(self, ledger: Ledger, month: Month) -> Report:
        from airflow_provider_closeai.costs import months
        from airflow_provider_closeai.costs.owners import budgets_of, owners_of
        from airflow_provider_closeai.costs.report import build_report

        currency = months.currency_of(self.currency)
        return build_report(
            ledger,
            month,
            currency=currency,
            owners=owners_of(_rules("owners", self.owners)),
            budgets=budgets_of(_rules("budgets", self.budgets), currency),
            final_within=_span("final_within", self.final_within),
        )

    def _notify(self, context: Context, record: dict[str, Any]) -> None:
        if not record["alerts"]:
            return
        for alert in record["alerts"]:
            self.log.warning("%s", alert["text"])
        told: Any = context
        told["closeai_alerts"], told["closeai_report"] = record["alerts"], record
        failed = []
        for notifier in self.notifiers:
            try:
                # Airflow 2's own call only logs what a notifier raises.
                notifier._update_context(told)
                notifier.render_template_fields(told)
                notifier.notify(told)
            except Exception as error:
                self.log.exception("%s could not tell the alerts.", type(notifier).__name__)
                failed.append(f"{type(notifier).__name__}: {error}")
        if failed:
            raise RuntimeError(
                f"The report is written, but notifiers failed: {'; '.join(failed)}. The alerts count as not "
                "told: a retry, or the next report, tells them again. Correct the notifier's connection."
            )


def deletion_recorder(
    ledger: str | os.PathLike[str] | None, context: Context, time_zone: str = "Asia/Shanghai"
) -> Callable[[Sequence[SubAccount]], None] | None:
    """
    Return what records accounts in a ledger just before they are deleted; ``None`` without a ledger.

    Call it before the accounts are listed: their counters count as of this moment.

    :param ledger: the ledger's folder.
    :param context: the task's.
    :param time_zone: where the billing month turns.
    """
    if ledger is None:
        return None
    from airflow_provider_closeai.costs import months
    from airflow_provider_closeai.costs.snapshot import record_deleted

    began = months.now()

    def record(accounts: Sequence[SubAccount]) -> None:
        record_deleted(_ledger(ledger), accounts, began, run=_run(context), zone=time_zone)

    return record


def _set_outlet(operator: BaseOperator, folder: object, kwargs: dict[str, Any]) -> None:
    """Let a folder that is known now be the outlet, where the user gave none."""
    is_path = isinstance(folder, str) or hasattr(folder, "joinpath")  # ObjectStoragePath is no os.PathLike
    is_known = is_path and str(folder) and not re.search(r"{{|{%", str(folder))
    if is_known and not operator.outlets and "outlets" not in kwargs:
        operator.outlets = [ledger_asset(str(folder))]


def _ledger(folder: str | os.PathLike[str]) -> Ledger:
    from airflow_provider_closeai.costs.ledger import ledger_at

    return ledger_at(_path(folder) if folder else folder)


def _path(name: str | os.PathLike[str]) -> Any:
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # not before: it loads fsspec

    return ObjectStoragePath(str(name))


def _span(name: str, value: Any) -> timedelta:
    if not isinstance(value, timedelta) or value < timedelta(0):
        from airflow_provider_closeai.client.errors import InvalidParameter

        raise InvalidParameter(f"{name}: {value!r} is no timedelta of 0 or more.")
    return value


def _rules(name: str, source: Any) -> Any:
    """Read a file of owners or budgets; anything else is taken as it is."""
    if not isinstance(source, str):
        return source
    from airflow_provider_closeai.client.errors import InvalidParameter
    from airflow_provider_closeai.costs.owners import read_rules

    try:
        data = _path(source).read_bytes()
    except OSError as error:
        raise InvalidParameter(f"{name}: the file {source} cannot be read: {error}.") from error
    return read_rules(name, source, data)


def _due(context: Context) -> datetime | None:
    """Tell of which time a run is; ``None`` where it is of none."""
    dag_run: Any = context.get("dag_run")
    kind = getattr(dag_run, "run_type", "")
    if str(getattr(kind, "value", kind)) in _SCHEDULED:
        due: datetime | None = context.get("data_interval_end")
    else:  # a manual run's interval is the last whole one, which may have ended long before it
        due = context.get("logical_date")
    return due or getattr(dag_run, "run_after", None)


def _run(context: Context) -> str:
    from airflow_provider_closeai.costs.ledger import run_key

    ti = context["ti"]
    return run_key(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)


def _describe_outlets(operator: BaseOperator, context: Context, record: dict[str, Any]) -> None:
    run: Any = context
    for outlet in operator.outlets if "outlet_events" in run else ():
        if isinstance(outlet, Asset):
            run["outlet_events"][outlet].extra = record


@contextlib.contextmanager
def _failing_for_good() -> Iterator[None]:
    """Let a permanent error leave as ``AirflowFailException``: no retry could help."""
    from airflow_provider_closeai.client.errors import CloseAIError

    try:
        yield
    except CloseAIError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from error
        raise
