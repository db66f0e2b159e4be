"""Read the months that a report is compared with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from airflow_provider_closeai.costs.accounting.earlier import (
    Earlier,
    EarlierMonth,
    earlier_of,
    month_of_report,
    wanted_months,
)
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.owners import Rule
from airflow_provider_closeai.costs.accounting.report import report_as_closed
from airflow_provider_closeai.costs.accounting.report_model import Report
from airflow_provider_closeai.costs.errors import CurrencyConflict, DamagedFile, NoObservation
from airflow_provider_closeai.costs.store import booked
from airflow_provider_closeai.costs.store.kinds import CLOSED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger

log = logging.getLogger(__name__)


def read_earlier(
    ledger: Ledger,
    month: Month,
    currency: str,
    compute: Callable[[Month], Report],
    owners: Sequence[Rule] = (),
) -> Earlier:
    """
    Read the months that a report is compared with.

    Of a closed month only its figures are read; one that was left open is computed again.

    :param owners: who pays for an account that was not there when its month was closed.
    """
    found: list[EarlierMonth] = []
    unusable: list[str] = []
    known = {*ledger.months(SNAPSHOTS), *ledger.months(CLOSED)}
    for one in wanted_months(month, known):
        if one.name not in known:
            unusable.append(one.name)
            continue
        try:
            closing = booked.read_closing(ledger, one.name, currency)
            if closing is None:
                report = compute(one)
            else:
                lines, _ = booked.read_adjustments(ledger, one.name, currency)
                report = report_as_closed(one, closing, lines, owners, currency)
            found.append(month_of_report(report))
        except (CurrencyConflict, DamagedFile, NoObservation) as error:
            log.warning("%s is in no comparison: %s", one.name, error)
            unusable.append(one.name)
    return earlier_of(month, found, unusable, _first_snapshot(ledger))


def _first_snapshot(ledger: Ledger) -> datetime | None:
    files = (ledger.files(SNAPSHOTS, name) for name in ledger.months(SNAPSHOTS))
    return next((found[0].at for found in files if found), None)
