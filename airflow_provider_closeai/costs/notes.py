"""Manual booking: notes, and what the main account used besides its sub-accounts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.booked import MAIN_ACCOUNT, NOTE, Adjustment
from airflow_provider_closeai.costs.accounting.money import total
from airflow_provider_closeai.costs.accounting.months import format_ids, parse_month
from airflow_provider_closeai.costs.clock import Clock, utc_now
from airflow_provider_closeai.costs.errors import CloseRefused, NothingToDo
from airflow_provider_closeai.costs.requests import CloseRequest, NoteRequest
from airflow_provider_closeai.costs.service import compute
from airflow_provider_closeai.costs.store import booked
from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import LedgerFile

log = logging.getLogger(__name__)

#: The zone where months begin first: a note does not state its ledger's zone.
_FIRST_ZONE = "Etc/GMT-14"


def record_note(request: NoteRequest, *, clock: Clock = utc_now) -> LedgerFile | None:
    """
    Book a note, for instance on a refund after the month's end.

    Give each note its own reason, such as the number of a credit note: a reason that was booked already for
    this account and month is not booked again.

    :param request: what to book.
    :param clock: returns the time.
    :raises InvalidParameter: the month is in the future, or the reason was booked with another amount.
    :raises CurrencyConflict: the ledger's amounts are in another currency.
    :returns: the file; ``None`` if this reason was booked already.
    """
    return _book(request, clock())


def _book(
    request: NoteRequest, now: datetime, *, before: Sequence[Adjustment] | None = None
) -> LedgerFile | None:
    """
    Book a note, or a control difference.

    :param before: for a control difference: the main account's lines that it was computed with.
    """
    ledger, currency = request.ledger, request.currency
    month = parse_month(request.month, _FIRST_ZONE, now=now).name
    booked.read_closing(ledger, month, currency)  # raises if closed in another currency
    note = Adjustment(
        now, month, currency, request.sub_account_id, request.alias, request.amount, NOTE, request.reason
    )
    booked.require_ledger_currency(ledger, currency)
    lines, _ = booked.read_adjustments(ledger, month, currency)
    asked = (NOTE, request.sub_account_id, request.reason)
    same = next((each for each in lines if (each.source, each.sub_account_id, each.reason) == asked), None)
    if same is not None:
        if same.amount != note.amount:
            raise InvalidParameter(
                f"reason: {note.reason!r} is booked already for this account and month, with {same.amount}. "
                "Give this line a reason of its own."
            )
        log.info("The note %r of %s is booked already.", note.reason, month)
        return None
    if month not in ledger.months(SNAPSHOTS):
        log.warning("The ledger has no snapshot of %s: the note %r is in no report.", month, note.reason)
    if before is not None:  # two at once may differ, yet each alone books all that is missing
        return booked.append_adjustments(ledger, month, [note], about="control", known=before)
    about = (note.sub_account_id, note.amount, note.reason)
    return booked.append_adjustments(ledger, month, [note], about=about, known=lines)


def record_control_difference(request: CloseRequest, *, clock: Clock = utc_now) -> LedgerFile | None:
    """
    Book what the main account used and no sub-account shows, as a note on the main account itself.

    It is booked under the id 0: an owner rule for ``id:0`` says who pays. Earlier such bookings are
    subtracted, so call it as often as you like.

    :param request: the month.
    :param clock: returns the time.
    :raises NothingToDo: the ledger has no usable control total of the month, or all is booked already.
    :raises CloseRefused: files are damaged; or an account's first turn is in doubt, and its figure leaves out
        what may be this month's, or has what may be the month's before.
    :returns: the file.
    """
    computed = compute(request, clock=clock)
    if computed.control is None or computed.main_difference is None:
        raise NothingToDo(f"The ledger has no control total of {computed.month.name}: nothing to book.")
    if computed.history.is_damaged:
        raise CloseRefused(
            f"The control difference of {computed.month.name} is not booked, because files of its ledger are "
            f"damaged. {' '.join(computed.history.warnings)}"
        )
    unclear = [
        line.sub_account_id for line in computed.accounts if line.history and not line.history.is_whole
    ]
    if unclear:
        raise CloseRefused(
            f"The control difference of {computed.month.name} is not booked: what its counters show is in "
            f"doubt at the month's first turn, and too much or too little would be booked: "
            f"{format_ids(unclear)}. Where you know the amount, book it with record_note, "
            f"sub_account_id={MAIN_ACCOUNT}."
        )
    before = [line for line in computed.appended if line.sub_account_id == MAIN_ACCOUNT]
    amount = total([computed.main_difference], less=(line.amount for line in before))
    if not amount:
        raise NothingToDo(f"The control difference of {computed.month.name} is booked already.")
    reason = f"control difference of {computed.control.at.isoformat()}"
    if any(line.reason == reason for line in before):  # a snapshot or a note was restored since
        reason += f", after {len(before)} notes"
    note = NoteRequest.parse(
        ledger=request.ledger.root,
        month=computed.month.name,
        sub_account_id=MAIN_ACCOUNT,
        amount=amount,
        reason=reason,
        currency=request.currency,
        alias="(main account)",
    )
    return _book(note, clock(), before=before)
