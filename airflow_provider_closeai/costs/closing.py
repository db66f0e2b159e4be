"""Months that were closed: their figures stand; what comes later is a line of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import months
from airflow_provider_closeai.costs.errors import CloseRefused, CurrencyConflict
from airflow_provider_closeai.costs.ledger import CLOSED, CORRECTIONS, Ledger, LedgerFile, run_key
from airflow_provider_closeai.costs.months import ZERO, money, text_of, total
from airflow_provider_closeai.costs.owners import Owner

if TYPE_CHECKING:
    from airflow_provider_closeai.costs.figures import Report

log = logging.getLogger(__name__)

MANUAL, EVIDENCE = "manual", "evidence"


class Correction(msgspec.Struct, frozen=True):
    """
    A line that was appended to a month.

    :param source: ``evidence``: the ledger's observations say something else than when the month was closed.
        ``manual``: somebody booked it.
    """

    recorded_at: datetime
    billing_month: str
    currency: str
    sub_account_id: int
    alias: str
    amount: Decimal
    source: str
    reason: str


class Closed(msgspec.Struct, frozen=True):
    """An account's cost in a month that is closed, as its counter said, and who pays it."""

    sub_account_id: int
    alias: str
    owner: Owner
    cost: Decimal


class Closing(msgspec.Struct, frozen=True):
    """
    The figures of a month as they were closed.

    :param at: when.
    :param status: ``final`` or ``estimated``, at that time.
    :param accounts: by id.
    """

    at: datetime
    status: str
    accounts: dict[int, Closed]

    @property
    def total(self) -> Decimal:
        """What the counters said, together."""
        return total(account.cost for account in self.accounts.values())


def read_closing(ledger: Ledger, month: str, currency: str) -> Closing | None:
    """
    Read a month's closed figures; ``None`` where it is not closed.

    :param ledger: where from.
    :param month: ``YYYY-MM``.
    :param currency: the report's.
    :raises CurrencyConflict: it was closed in another currency.
    :raises DamagedFile: naming the file.
    """
    files = ledger.files(CLOSED, month)
    if not files:
        return None
    accounts: dict[int, Closed] = {}
    status = ""
    for _, _, closed_in, number, alias, team, center, cost, status in ledger.rows(files[0]):  # noqa: B007
        _same_currency(closed_in, currency, f"{month} was closed")
        if number is not None:
            accounts[number] = Closed(number, alias, Owner(team, center), cost)
    return Closing(files[0].at, status, accounts)


def read_corrections(ledger: Ledger, month: str, currency: str) -> list[Correction]:
    """
    Read the lines that were appended to a month, oldest first.

    :param ledger: where from.
    :param month: ``YYYY-MM``.
    :param currency: the report's.
    :raises CurrencyConflict: one is in another currency.
    :raises DamagedFile: naming the file.
    """
    found = []
    for file in ledger.files(CORRECTIONS, month):
        for _, _, booked_in, account_id, alias, amount, source, reason in ledger.rows(file):
            _same_currency(booked_in, currency, f"A correction of {month} ({file.name}) is")
            found.append(Correction(file.at, month, booked_in, account_id, alias, amount, source, reason))
    return found


def close_month(ledger: Ledger, report: Report, *, run: str) -> LedgerFile | None:
    """
    Close a report's month; of one that is closed, append what the observations say differently now.

    :param ledger: where to.
    :param report: the month.
    :param run: the task run.
    :returns: what was written; ``None`` where there was nothing to say.
    :raises CloseRefused: the month is not over, or its evidence is damaged.
    """
    at, month, currency, closing = months.now(), report.month, report.currency, report.closing
    if at < month.end:
        raise CloseRefused(
            f"{month.name} is not over ({month.zone}): it cannot be closed. Run the close after the turn, "
            "with month='previous'."
        )
    if report.history.is_damaged:
        raise CloseRefused(
            f"{month.name} is not closed, because files of its ledger are damaged (see the warnings). "
            "Restore them from a backup; or move them out of the ledger, and close without them."
        )
    observed = {
        line.sub_account_id: Closed(line.sub_account_id, line.alias, line.owner, line.history.cost)
        for line in report.accounts
        if line.history
    }
    if closing is None:
        rows: list[tuple[object, ...]] = [
            (at, month.name, currency, number, alias, owner.team, owner.cost_center, cost, report.status)
            for number, alias, owner, cost in sorted(map(msgspec.structs.astuple, observed.values()))
        ]
        # A month without an account is closed too, by one line that names none.
        nobody = (at, month.name, currency, None, "", "", "", ZERO, report.status)
        file = ledger.write(CLOSED, month.name, at, run, rows or [nobody])
        log.info("%s is closed as %s: %s.", month.name, report.status, file.name)
        return file
    booked: dict[int, list[Decimal]] = {number: [-one.cost] for number, one in closing.accounts.items()}
    for line in report.appended:
        if line.source == EVIDENCE:
            booked.setdefault(line.sub_account_id, []).append(-line.amount)
    differences = []
    for number in sorted({*observed, *booked}):
        one = observed.get(number) or closing.accounts.get(number)
        cost = observed[number].cost if number in observed else ZERO
        if difference := total([cost, *booked.get(number, ())]):
            differences.append(
                Correction(
                    at,
                    month.name,
                    currency,
                    number,
                    one.alias if one else "",
                    difference,
                    EVIDENCE,
                    f"the observations say {text_of(cost)} since",
                )
            )
    return _append(ledger, month.name, differences)


def record_correction(
    ledger: Ledger,
    month: str,
    *,
    sub_account_id: int,
    amount: Decimal | str,
    reason: str,
    currency: str,
    alias: str = "",
) -> LedgerFile | None:
    """
    Append a correction to a month by hand, for instance a refund that came after its end.

    The same line twice is two corrections: give each its own reason, such as the number of a credit note; a
    line whose reason was booked already for this account is not booked again.

    :param ledger: where to.
    :param month: the month that it corrects, ``YYYY-MM``.
    :param sub_account_id: whose cost.
    :param amount: below 0: less.
    :param reason: why, for the reader of the report.
    :param currency: of the amount.
    :param alias: the account's, for the reader.
    :raises InvalidParameter: naming the one that is wrong.
    :raises CurrencyConflict: the month was closed, or has lines, in another currency.
    :returns: the file; ``None`` where this reason was booked already.
    """
    if not reason.strip():
        raise InvalidParameter("reason: it is empty. Say why, for the reader of the report.")
    if isinstance(sub_account_id, bool) or not isinstance(sub_account_id, int):
        raise InvalidParameter(f"sub_account_id: {sub_account_id!r} is no whole number.")
    currency = months.currency_of(currency)
    name = months.asked_month(month, months.DEFAULT_ZONE).name
    if name != month:
        raise InvalidParameter(f"month: {month!r} is no month. Give it as YYYY-MM.")
    read_closing(ledger, name, currency)  # closed in another currency: an error
    for line in read_corrections(ledger, name, currency):
        if (line.source, line.sub_account_id, line.reason) == (MANUAL, sub_account_id, reason):
            if line.amount != money("amount", amount):
                raise InvalidParameter(
                    f"reason: {reason!r} is booked already for this account and month, with {line.amount}. "
                    "Give this line a reason of its own."
                )
            log.info("The correction %r of %s is booked already.", reason, name)
            return None
    line = Correction(
        months.now(), name, currency, sub_account_id, alias, money("amount", amount), MANUAL, reason
    )
    return _append(ledger, name, [line])


def _append(ledger: Ledger, month: str, lines: Sequence[Correction]) -> LedgerFile | None:
    if not lines:
        return None
    # Two tasks that find the same differences at once write one file's worth: of one key only one is read.
    known = [file.name for file in ledger.files(CORRECTIONS, month)]
    key = run_key(*known, *((line.sub_account_id, line.amount, line.reason) for line in lines))
    rows = [msgspec.structs.astuple(line) for line in lines]
    file = ledger.write(CORRECTIONS, month, lines[0].recorded_at, key, rows)
    log.warning("%s: %d lines correct %s.", file.name, file.rows, month)
    return file


def _same_currency(found: str, currency: str, what: str) -> None:
    if found != currency:
        raise CurrencyConflict(
            f"{what} in {found}, and the report is in {currency}. Nothing is converted here: use one "
            "currency for one ledger, that of monthly_cost."
        )
