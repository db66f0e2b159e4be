"""Computes, reports and closes months. Operators, the demo and Python users call these functions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import quote

from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.costs.accounting import closing
from airflow_provider_closeai.costs.accounting.aggregate import aggregate
from airflow_provider_closeai.costs.accounting.alerts import SPIKE, reached_alerts
from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE
from airflow_provider_closeai.costs.accounting.earlier import Earlier, earlier_of
from airflow_provider_closeai.costs.accounting.late_runs import excuse_empty
from airflow_provider_closeai.costs.accounting.months import Month, month_of, parse_month
from airflow_provider_closeai.costs.accounting.report import build_report, report_as_closed
from airflow_provider_closeai.costs.accounting.report_model import Movement, Report
from airflow_provider_closeai.costs.clock import Clock, utc_now
from airflow_provider_closeai.costs.errors import CurrencyConflict, DamagedFile, NoObservation
from airflow_provider_closeai.costs.render.files import FOCUS_FORMATS, write_files
from airflow_provider_closeai.costs.render.focus import Dataset
from airflow_provider_closeai.costs.render.summary import digest, headline
from airflow_provider_closeai.costs.render.teams import teams_of
from airflow_provider_closeai.costs.requests import CloseRequest, ReportRequest, Run
from airflow_provider_closeai.costs.results import ReportResult
from airflow_provider_closeai.costs.store import booked, observations
from airflow_provider_closeai.costs.store.files import atomic_write
from airflow_provider_closeai.costs.store.kinds import CLOSED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import LedgerFile

log = logging.getLogger(__name__)


def compute(request: CloseRequest, *, run: Run | None = None, clock: Clock = utc_now) -> Report:
    """
    Compute a month's figures. Writes nothing.

    :param request: the month; also the ``month`` of a ``ReportRequest``.
    :param run: the run, for the time that it stands for.
    :param clock: returns the time.
    :raises NoObservation: the month has no usable snapshot.
    """
    return _compute(request, _month(request, run or Run(), clock), clock)


def report(
    request: ReportRequest,
    *,
    run: Run | None = None,
    notify: Callable[[dict[str, Any]], None] | None = None,
    clock: Clock = utc_now,
) -> ReportResult:
    """
    Report a month, and close it if requested. Files of an earlier report are replaced, one by one.

    :param request: the month, and what to write.
    :param run: the run; when tried again, its own alerts count as unreported, so that none is lost.
    :param notify: takes the result's record, if there are new alerts or for every report, depending on the
        request's ``notify_on``. The alerts count as reported once it returns.
    :param clock: returns the time.
    :raises NothingToDo: the ledger is empty, and that is no mistake.
    :raises NoObservation: the month has no usable snapshot.
    :raises NotWritten: a file cannot be written.
    """
    run, asked = run or Run(), request.month
    month, ledger = _month(asked, run, clock), asked.ledger
    if observations.is_empty_of(ledger, month.name):
        folder, is_triggered = str(ledger.root), run.is_asset_triggered
        excuse_empty(asked.month, month, ledger=folder, closes=request.close, is_asset_triggered=is_triggered)
    computed = _compute(asked, month, clock)
    for warning in computed.warnings:
        log.warning("%s", warning)
    if request.close and _close(asked, computed, run, clock()):
        computed = _compute(asked, month, clock)
    earlier = _earlier(asked, month, clock)
    computed.warnings += earlier.warnings
    reached = reached_alerts(computed, request.thresholds, _previous(request, month, clock))
    about_accounts = [alert.text for alert in reached if alert.sub_account_id is not None]
    files = _write(computed, earlier, request, about_accounts)
    new = booked.unreported(ledger, month.name, reached, run=run.key)
    page, url = files.get("html"), None
    if request.public_url is not None and page is not None:
        url = f"{request.public_url}/{quote(PurePosixPath(page).name)}"
    result = ReportResult(
        report=computed,
        files=files,
        alerts=new,
        headline=headline(computed, earlier),
        digest=digest(computed, earlier, about_accounts, url),
        url=url,
        teams=teams_of(computed, earlier),
    )
    if notify is not None and (new or request.notify_on == "report"):
        notify(result.record())
    booked.mark_reported(ledger, new, at=computed.generated_at, run=run.key)
    return result


def close(request: CloseRequest, *, run: Run | None = None, clock: Clock = utc_now) -> LedgerFile | None:
    """
    Close a month; if it is closed already, append how the observations differ now.

    :param request: the month.
    :param run: the run that closes it.
    :param clock: returns the time.
    :returns: the file that was written; ``None`` if there was no difference.
    :raises CloseRefused: the month is not over, its end is in doubt, or its files are damaged.
    :raises CurrencyConflict: other months were closed in another currency.
    """
    run = run or Run()
    return _close(request, compute(request, run=run, clock=clock), run, clock())


def _earlier(request: CloseRequest, month: Month, clock: Clock) -> Earlier:
    """Return the months to compare a report with. Of closed ones only the figures are read."""
    ledger, currency = request.ledger, request.currency

    def read(one: Month) -> Report | None:
        try:
            closed = booked.read_closing(ledger, one.name, currency)
            if closed is None:
                return _compute(request, one, clock)
            lines, _ = booked.read_adjustments(ledger, one.name, currency)
            return report_as_closed(one, closed, lines, request.owners, currency)
        except (CurrencyConflict, DamagedFile, NoObservation) as error:
            log.warning("%s is in no comparison: %s", one.name, error)
            return None

    files = (ledger.files(SNAPSHOTS, name) for name in ledger.months(SNAPSHOTS))
    began = next((found[0].at for found in files if found), None)
    return earlier_of(month, {*ledger.months(SNAPSHOTS), *ledger.months(CLOSED)}, read, began)


def _previous(request: ReportRequest, month: Month, clock: Clock) -> Report | None:
    """Compute the month before, if an alert compares with it."""
    if not any(threshold.kind == SPIKE for threshold in request.thresholds):
        return None
    try:
        return _compute(request.month, month.step(-1), clock)
    except CloseAIError as error:
        log.warning("The days of %s are compared with no earlier month: %s", month.name, error)
        return None


def _month(request: CloseRequest, run: Run, clock: Clock) -> Month:
    """Return the requested month, relative to the run's time even if it is cleared later."""
    asked = request.month
    if asked == "latest":
        asked = _latest(request, month_of(clock(), request.time_zone).name)
    return parse_month(asked, request.time_zone, now=clock(), due=run.due)


def _latest(request: CloseRequest, current: str) -> str:
    """Return the newest month with a snapshot that has begun."""
    for month in reversed(request.ledger.months(SNAPSHOTS)):
        if not (files := request.ledger.files(SNAPSHOTS, month)):
            continue
        if month <= current:
            return month
        log.warning(
            "Left out: %s is of %s, which has not begun: the clock of the host that wrote it is ahead. Move "
            "the file out of the ledger.",
            files[-1].name,
            month,
        )
    return "current"


def _compute(request: CloseRequest, month: Month, clock: Clock) -> Report:
    ledger, currency, now = request.ledger, request.currency, clock()
    history = aggregate(observations.read_month(ledger, month))
    lines, left_out = booked.read_adjustments(ledger, month.name, currency)
    history.warnings += left_out + booked.read_unobserved(ledger)
    return build_report(
        history,
        now=now,
        currency=currency,
        closing=booked.read_closing(ledger, month.name, currency),
        adjustments=lines,
        owners=request.owners,
        budgets=request.budgets,
        final_within=request.final_within,
    )


def _close(request: CloseRequest, computed: Report, run: Run, now: datetime) -> LedgerFile | None:
    closing.require_closable(computed, now, even_if_uncertain=request.even_if_uncertain)
    ledger, month = request.ledger, computed.month.name
    if computed.closing is not None:
        # With a clock that lags they would be older than the closing, and left out.
        lines = closing.differences(computed, max(now, computed.closing.at))
        before = [line for line in computed.appended if line.source == DIFFERENCE]
        # Two closes at once may differ, yet each alone books all that earlier differences lack.
        return booked.append_adjustments(ledger, month, lines, about=DIFFERENCE, known=before)
    booked.require_ledger_currency(ledger, request.currency)
    file = ledger.write(CLOSED, month, now, run.key, closing.closed_costs(computed))
    log.info("%s is closed as %s: %s.", month, computed.status, file.name)
    return file


def _write(
    computed: Report, earlier: Earlier, request: ReportRequest, alerts: Sequence[str]
) -> dict[str, str]:
    late: list[Movement] = []
    if not FOCUS_FORMATS.isdisjoint(request.formats):
        late, warnings = booked.read_late_adjustments(request.month.ledger, computed, request.month.owners)
        computed.warnings += warnings
    dataset = Dataset(report=computed, late=late, account=request.account, billed_cost=request.billed_cost)
    written = {}

    @contextlib.contextmanager
    def open_file(label: str, name: str) -> Iterator[IO[bytes]]:
        target = request.output / name
        with atomic_write(target) as file:
            yield file
        written[label] = str(target)

    write_files(dataset, earlier, request.formats, open_file, alerts=alerts, statements=request.statements)
    return written
