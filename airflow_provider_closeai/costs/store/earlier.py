"""Read the months that a report is compared with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from airflow_provider_closeai.costs.accounting.earlier import Earlier, earlier_of
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

    def read(one: Month) -> Report | None:
        try:
            closing = booked.read_closing(ledger, one.name, currency)
            if closing is None:
                return compute(one)
            lines, _ = booked.read_adjustments(ledger, one.name, currency)
            return report_as_closed(one, closing, lines, owners, currency)
        except (CurrencyConflict, DamagedFile, NoObservation) as error:
            log.warning("%s is in no comparison: %s", one.name, error)
            return None

    files = (ledger.files(SNAPSHOTS, name) for name in ledger.months(SNAPSHOTS))
    began = next((found[0].at for found in files if found), None)
    return earlier_of(month, {*ledger.months(SNAPSHOTS), *ledger.months(CLOSED)}, read, began)
