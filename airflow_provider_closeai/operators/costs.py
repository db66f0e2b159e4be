"""Record sub-accounts' costs, and report them. What the figures mean: docs/costs.md."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.operators import _runs
from airflow_provider_closeai.operators._assets import describe_outlets, ledger_asset, lineage, set_outlet
from airflow_provider_closeai.operators._fields import PlainFields
from airflow_provider_closeai.operators.base import CloseAIOperator, DocsLink, ReportLink, translate_errors
from airflow_provider_closeai.paths import folder, path_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseNotifier, BaseOperatorLink, Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_closeai.client.models import SubAccount

_PATHS = 12

__all__ = ["CostReportOperator", "SnapshotCostsOperator", "deletion_recorder", "ledger_asset"]


class SnapshotCostsOperator(CloseAIOperator):
    """
    Record one complete listing of the sub-accounts' balances and monthly costs: one file of the ledger.

    ``monthly_cost`` can only be read as of now. So a run that is too late records nothing: it is skipped if
    another snapshot has all that it would have recorded, and fails if an amount is lost (docs/closing.md,
    "Late runs").

    Returns ``file``, ``billing_month``, ``observed_at``, ``sub_accounts``, ``total``, ``main_usage``.

    :param ledger: the ledger's folder, local or in any store that Airflow's object storage supports, such as
        ``s3://aws_default@finance/closeai/ledger`` (templated). It is also the outlet, unless ``outlets`` are
        given, it is a template, or the task is mapped.
    :param file_format: ``csv``, or ``parquet`` (the extra ``parquet``).
    :param time_zone: where the billing month turns: an IANA name, or a zone of ``zoneinfo`` or ``pendulum``.
        The platform does not state it; its times suggest Asia/Shanghai.
    :param max_lag: how long after the end of its interval a run may still record: a timedelta or seconds.
    :param control_total: also record the main account's consumption, as the platform reports it.
    :param closeai_conn_id: the connection (templated).
    """

    template_fields: Sequence[str] = ("ledger", "closeai_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (DocsLink("operators/snapshot_costs.md"),)

    def __init__(
        self,
        *,
        ledger: str | os.PathLike[str],
        file_format: Literal["csv", "parquet"] | str = defaults.FILE_FORMAT,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        max_lag: timedelta | float = defaults.MAX_LAG,
        control_total: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ledger = path_text(ledger)
        set_outlet(self, self.ledger, kwargs)
        self.file_format = file_format
        self.time_zone = time_zone
        self.max_lag = max_lag
        self.control_total = control_total

    def execute(self, context: Context) -> dict[str, Any]:
        """Take a snapshot; see docs/operators/snapshot_costs.md."""
        from airflow_provider_closeai.costs import SnapshotRequest, snapshot

        with self.hook() as hook, _skips(self):
            request = SnapshotRequest.parse(
                ledger=self.ledger,
                time_zone=self.time_zone,
                file_format=self.file_format,
                max_lag=self.max_lag,
                control_total=self.control_total,
                open_path=folder,
            )
            result = snapshot(request, hook.get_conn, run=_runs.run_of(context), clock=_runs.now)
        record = result.record()
        describe_outlets(self, context, record)
        number = record["sub_accounts"]
        self.log.info(
            "Recorded %d sub-account%s, together %s in %s so far: %s/%s",
            number,
            "s" * (number != 1),
            record["total"],
            record["billing_month"],
            request.ledger.root,
            record["file"],
        )
        return record

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Name the ledger as the output, for OpenLineage."""
        return lineage(outputs=[self.ledger])


class CostReportOperator(PlainFields, BaseOperator):
    """
    Report a month's costs from the ledger, by owner and by account, exact to the last decimal.

    Calls no API. Returns ``billing_month``, ``currency``, ``status``, ``closed``, ``total``, ``forecast``,
    ``files``, ``warnings``, ``headline``, ``digest``, ``url``, and ``alerts``: those not reported before.

    :param ledger: the ledger's folder (templated).
    :param month: ``YYYY-MM``, ``current``, ``previous``, or ``latest``: the newest snapshot's (templated).
    :param output: the folder of the report's files (templated).
    :param currency: ISO 4217 code of the amounts, which the platform does not state (templated).
    :param formats: some of ``html``, ``csv``, ``json``, ``parquet`` (the extra), ``focus``, ``focus-csv``,
        ``focus-parquet`` (the extra): a list, or a text with commas (templated).
    :param owners: who pays: a mapping from alias patterns or ``id:<id>`` to a team, or to a mapping with
        ``team`` and ``cost_center``; a list of rules; JSON text of either; or the path of a YAML or CSV file
        (templated).
    :param budgets: by team: a mapping, a list, JSON text of either, or the path of a YAML or CSV file
        (templated).
    :param thresholds: when to alert, once a month. For a team: ``80%`` of its budget, ``forecast 100%``; for
        an account: ``spike 300% over 10``, or ``balance``: it will not last the month. A list, or a text with
        commas. An empty list disables alerts.
    :param notifiers: one or several; each is called once with all new alerts, ``closeai_alerts`` in their
        templates; ``closeai_digest`` is the report in a few lines.
    :param notify_on: when to call notifiers: ``alerts``: if there are new alerts; ``report``: always.
    :param close: close the month: its figures then stand, and a later close only appends lines. It fails
        while the month's end is in doubt, unless this is ``"even if uncertain"``.
    :param final_within: how close to the month's end a snapshot makes it final: a timedelta or seconds.
    :param time_zone: where the billing month turns; must match the snapshot's.
    :param account: the main account's name, on the page and as FOCUS ``BillingAccountId`` (templated).
    :param billed_cost: FOCUS ``BilledCost``: ``effective``, or ``zero`` if the prepaid credit is a row of its
        own elsewhere.
    :param statements: also write a page for each team, in ``statements/<month>/``.
    :param public_url: the URL of the output folder in a browser (templated): the task then links to the
        report's page.
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
        "public_url",
    )
    template_fields_renderers = {"owners": "json", "budgets": "json"}  # noqa: RUF012
    operator_extra_links: Collection[BaseOperatorLink] = (
        ReportLink(),
        DocsLink("operators/cost_report.md"),
    )
    page_url: str | None = None

    def __init__(
        self,
        *,
        ledger: str | os.PathLike[str],
        month: str,
        output: str | os.PathLike[str],
        currency: str,
        formats: Sequence[str] | str = defaults.FORMATS,
        owners: Any = None,
        budgets: Any = None,
        thresholds: Sequence[str] | str = defaults.THRESHOLDS,
        notifiers: BaseNotifier | Sequence[BaseNotifier] | None = (),
        close: bool | Literal["even if uncertain"] | str = False,
        final_within: timedelta | float = defaults.FINAL_WITHIN,
        time_zone: str | tzinfo = defaults.TIME_ZONE,
        account: str | int = defaults.ACCOUNT,
        billed_cost: Literal["effective", "zero"] | str = defaults.BILLED_COST,
        statements: bool = False,
        notify_on: Literal["alerts", "report"] | str = defaults.NOTIFY_ON,
        public_url: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ledger = path_text(ledger)
        self.month = month
        self.output_folder = path_text(output)  # BaseOperator already has ``output``
        set_outlet(self, self.output_folder, kwargs)
        self.currency = currency
        self.formats = formats
        self.owners = path_text(owners)
        self.budgets = path_text(budgets)
        self.thresholds = thresholds
        self.notifiers = _as_list(notifiers)
        self.close = close
        self.final_within = final_within
        self.time_zone = time_zone
        self.account = account
        self.billed_cost = billed_cost
        self.statements = statements
        self.notify_on = notify_on
        self.public_url = public_url

    def execute(self, context: Context) -> dict[str, Any]:
        """Report; see docs/operators/cost_report.md."""
        from airflow_provider_closeai.costs import ReportRequest, report

        with translate_errors(), _skips(self):
            _require_notifiers(self.notifiers)
            request = ReportRequest.parse(
                ledger=self.ledger,
                month=self.month,
                output=self.output_folder,
                currency=self.currency,
                formats=self.formats,
                owners=self.owners,
                budgets=self.budgets,
                thresholds=self.thresholds,
                close=self.close,
                final_within=self.final_within,
                time_zone=self.time_zone,
                account=self.account,
                billed_cost=self.billed_cost,
                statements=self.statements,
                notify_on=self.notify_on,
                public_url=self.public_url,
                open_path=folder,
            )
            self.require_given()
            result = report(
                request,
                run=_runs.run_of(context),
                notify=lambda record: self._notify(context, record),
                clock=_runs.now,
            )
        record = result.record()
        self.page_url = record["url"]
        describe_outlets(self, context, result.published())
        self.log.info("%s", record["headline"])
        self.log.info(
            "%s is %s%s: %s %s. New alerts: %s. Written: %s",
            record["billing_month"],
            record["status"],
            " and closed" if record["closed"] else "",
            record["total"],
            record["currency"],
            len(record["alerts"]),
            _paths(record["files"].values()),
        )
        return record

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Name the ledger as the input and the report's folder as the output, for OpenLineage."""
        return lineage(inputs=[self.ledger], outputs=[self.output_folder])

    def _notify(self, context: Context, record: dict[str, Any]) -> None:
        from airflow_provider_closeai.client.errors import safe_text
        from airflow_provider_closeai.costs.errors import NotifierFailed

        for alert in record["alerts"]:
            self.log.warning("%s", alert["text"])
        shown: Any = context
        shown["closeai_alerts"], shown["closeai_report"] = record["alerts"], record
        shown["closeai_digest"] = record["digest"]
        failed = []
        for notifier in self.notifiers:
            try:
                # Airflow 2's own call would only log a notifier's error.
                notifier._update_context(shown)
                notifier.render_template_fields(shown)
                notifier.notify(shown)
            except Exception as error:  # any error of a notifier
                self.log.debug("%s failed.", type(notifier).__name__, exc_info=True)
                failed.append(f"{type(notifier).__name__}: {safe_text(str(error)) or type(error).__name__}")
        if failed:
            raise NotifierFailed(
                f"The report is written, but {len(failed)} of {len(self.notifiers)} notifiers failed: "
                f"{'; '.join(failed)}. The alerts count as not reported: a retry, or the next report, sends "
                "them again. Correct the notifier's connection."
            )


def deletion_recorder(
    ledger: str | os.PathLike[str] | None, context: Context, time_zone: str | tzinfo = defaults.TIME_ZONE
) -> Callable[[Sequence[SubAccount], datetime], None] | None:
    """
    Return a function that records accounts just before they are deleted; ``None`` without a ledger.

    :param time_zone: where the billing month turns.
    :raises InvalidParameter: the ledger or the time zone is not valid.
    """
    if ledger is None:
        return None
    from airflow_provider_closeai.costs import DeletionRequest, record_deleted

    request = DeletionRequest.parse(ledger=ledger, time_zone=time_zone, open_path=folder)
    run = _runs.run_of(context)

    def record(accounts: Sequence[SubAccount], listed_at: datetime) -> None:
        record_deleted(request, accounts, listed_at, run=run, clock=_runs.now)

    return record


def _as_list(notifiers: Any) -> list[Any]:
    if notifiers is None:
        return []
    is_one = isinstance(notifiers, str) or hasattr(notifiers, "notify")
    return list(notifiers) if isinstance(notifiers, Iterable) and not is_one else [notifiers]


def _require_notifiers(found: Iterable[Any]) -> None:
    from airflow_provider_closeai.client.errors import InvalidParameter

    for one in found:
        if isinstance(one, type) or not callable(getattr(one, "notify", None)):
            what = f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__
            raise InvalidParameter(
                f"notifiers: {what} is not a notifier. Give objects of Airflow's notifiers, "
                "for instance SmtpNotifier(...)."
            )


def _paths(paths: Iterable[str]) -> str:
    """Join the first paths: three hundred would be too long for a log line."""
    found = list(paths)
    more = f" and {len(found) - _PATHS} more" if len(found) > _PATHS else ""
    return f"{', '.join(found[:_PATHS])}{more}"


@contextlib.contextmanager
def _skips(operator: BaseOperator) -> Iterator[None]:
    """Skip the task if there is nothing to do."""
    from airflow_provider_closeai.costs.errors import NothingToDo

    try:
        yield
    except NothingToDo as nothing:
        operator.log.info("%s", nothing)
        raise AirflowSkipException(str(nothing)) from None
