"""Reads and writes what was booked: closed months, lines appended to months, and reported alerts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.costs.accounting.alerts import Alert
from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE, NOTE, Adjustment, ClosedCost, Closing
from airflow_provider_closeai.costs.accounting.money import format_amount, is_bookable
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.owners import Rule
from airflow_provider_closeai.costs.accounting.report import report_as_closed
from airflow_provider_closeai.costs.accounting.report_model import Movement, Report
from airflow_provider_closeai.costs.errors import CurrencyConflict, DamagedFile
from airflow_provider_closeai.costs.store.kinds import ADJUSTMENTS, ALERTS, CLOSED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger, LedgerFile, run_key
from airflow_provider_closeai.costs.texts import shown

log = logging.getLogger(__name__)


class _Reported(msgspec.Struct, frozen=True):
    """A reported alert in the ledger."""

    team: str
    threshold: str


def read_closing(ledger: Ledger, month: str, currency: str) -> Closing | None:
    """
    Read a month's closed figures; ``None`` if it is not closed.

    :param month: ``YYYY-MM``.
    :raises CurrencyConflict: it was closed in another currency.
    :raises DamagedFile: a file is damaged; names it.
    """
    files = ledger.files(CLOSED, month)
    if not files:
        return None
    lines = [ClosedCost(*cells) for cells in _lines(ledger, files[0])]
    for line in lines:
        if line.currency != currency:
            raise CurrencyConflict(
                f"{month} was closed in {line.currency}, and the report is in {currency}. Nothing is "
                "converted here: use one currency for one ledger, that of monthly_cost."
            )
    accounts = {line.sub_account_id: line for line in lines if line.sub_account_id is not None}
    return Closing(files[0].at, lines[-1].status if lines else "", accounts)


def read_adjustments(ledger: Ledger, month: str, currency: str) -> tuple[list[Adjustment], list[str]]:
    """
    Read the lines appended to a month, oldest first.

    :param month: ``YYYY-MM``.
    :returns: the lines, and warnings of lines left out (in another currency, implausibly large, a copy, or a
        difference to a missing closing) and of notes with one reason but several amounts.
    :raises DamagedFile: a file is damaged; names it.
    """
    found: list[Adjustment] = []
    warnings: list[str] = []
    notes: defaultdict[tuple[int, str], dict[Decimal, str]] = defaultdict(dict)
    closed_at = next((file.at for file in ledger.files(CLOSED, month)), None)
    without_closing: dict[str, None] = {}
    of_key = {file.run: file for file in ledger.files(ADJUSTMENTS, month)}
    for file in of_key.values():
        for cells in _lines(ledger, file):
            line = Adjustment(file.at, month, *cells)
            if line.source == DIFFERENCE and (closed_at is None or file.at < closed_at):
                without_closing[file.name] = None  # the observations, or a later closing, include it
                continue
            known, is_note = notes[line.sub_account_id, line.reason], line.source == NOTE
            again = "Move the file out of the ledger, and book it again"
            if line.currency != currency:
                problem = f"it is in {line.currency}, and the report is in {currency}. {again}"
            elif is_note and not is_bookable(line.amount):
                problem = f"no amount of money has {line.amount.adjusted() + 1} digits. {again}"
            elif is_note and line.amount in known:  # booking it twice is refused, so it was copied
                problem = "it is there twice, and counts once. Move this file out of the ledger"
            else:
                found.append(line)
                if is_note:
                    known[line.amount] = file.name
                continue
            warnings.append(
                f"Left out: the note {shown(line.reason)!r} of {month} for account {line.sub_account_id} "
                f"({file.name}): {problem}."
            )
    warnings += [
        f"Left out: the differences in {name}: the closing of {month} that they were booked to is not there. "
        "Restore it from a backup; or close the month again, and move this file out of the ledger."
        for name in without_closing
    ]
    for (number, reason), files in notes.items():
        if len(files) > 1:
            each = ", ".join(f"{format_amount(amount)} ({name})" for amount, name in files.items())
            warnings.append(
                f"The note {shown(reason)!r} of {month} for account {number} has several amounts, "
                f"and all of them count: {each}. Move the files that are wrong out of the ledger."
            )
    return found, warnings


def closed_twice(ledger: Ledger, month: str) -> list[str]:
    """
    Report a month's closings that differ from the first.

    :param month: ``YYYY-MM``.
    """
    closings = [(file.name, list(_lines(ledger, file))) for file in ledger.files(CLOSED, month)]
    return [
        f"{month} was closed twice, and {name} says something else than {closings[0][0]}, which counts. Two "
        "main accounts need two ledgers; else move the wrong one out of the ledger."
        for name, lines in closings[1:]
        if lines != closings[0][1]
    ]


def read_unobserved(ledger: Ledger) -> list[str]:
    """Report the notes of months without a snapshot: they are in no report."""
    found = []
    for name in sorted(set(ledger.months(ADJUSTMENTS)) - set(ledger.months(SNAPSHOTS))):
        rows = sum(file.rows for file in ledger.files(ADJUSTMENTS, name))
        found.append(
            f"In no report: {rows} lines that were booked in {name}, of which the ledger has no snapshot. If "
            "they were meant for another month, book them there, and move their files out of the ledger."
        )
    return found


def require_ledger_currency(ledger: Ledger, currency: str) -> None:
    """
    Check that an amount is in the currency of earlier bookings.

    :raises CurrencyConflict: months were closed, or else notes booked, only in others.
    :raises DamagedFile: no file tells the currency, since files are damaged.
    """
    for kind, what in ((CLOSED, "months were closed"), (ADJUSTMENTS, "notes were booked")):
        found: set[str] = set()
        damage: DamagedFile | None = None
        for file in (file for month in ledger.months(kind) for file in ledger.files(kind, month)):
            try:
                found.update(ledger.read(file, ["currency"])[0])
            except DamagedFile as error:
                damage = error
        if found:
            if currency not in found:
                raise CurrencyConflict(
                    f"currency: the amount is in {currency}, and in this ledger {what} in "
                    f"{', '.join(sorted(found))}. Nothing is converted here: book it in that currency."
                )
            return
        if damage:
            raise damage


def read_late_adjustments(
    ledger: Ledger, report: Report, rules: Sequence[Rule]
) -> tuple[list[Movement], list[str]]:
    """
    Read the lines appended to earlier, closed months while the report's month went on.

    :param rules: who pays for accounts that are not in their month's closing.
    :returns: the lines, and warnings.
    """
    month = report.month
    found: list[Movement] = []
    warnings: list[str] = []
    for earlier in (Month(name, month.zone) for name in ledger.months(ADJUSTMENTS) if name < month.name):
        try:
            closing = read_closing(ledger, earlier.name, report.currency)
            if closing is None:
                continue
            lines, left_out = read_adjustments(ledger, earlier.name, report.currency)
        except DamagedFile as error:
            warnings.append(f"Not in the FOCUS file: lines appended to {earlier.name}. {error}")
            continue
        warnings += left_out
        times = {line.recorded_at for line in lines if line.recorded_at >= closing.at}
        late = {at for at in times if month_of(at, month.zone) == month}
        accounts = report_as_closed(earlier, closing, lines, rules, report.currency).accounts if late else ()
        found += [
            msgspec.structs.replace(movement, start=earlier.start, end=earlier.end)
            for account in accounts
            for movement in account.movements()
            if movement.recorded_at in late and (movement.amount or not account.shares)
        ]
    return sorted(found, key=lambda line: (line.start, line.recorded_at, line.sub_account_id)), warnings


def append_adjustments(
    ledger: Ledger,
    month: str,
    lines: Sequence[Adjustment],
    *,
    about: object,
    known: Iterable[Adjustment],
) -> LedgerFile | None:
    """
    Append lines to a month. If two writers book the same on top of the same lines, only one of them counts.

    Their files have the same key, and readers use only one file per key.

    :param month: ``YYYY-MM``.
    :param lines: the lines, all recorded at the same time.
    :param about: identifies what is booked, for the key.
    :param known: the month's lines on which these are based.
    :returns: the file; ``None`` without lines.
    """
    if not lines:
        return None
    key = run_key(month, about, *(line.recorded_at.isoformat() for line in known))
    file = ledger.write(ADJUSTMENTS, month, lines[0].recorded_at, key, lines)
    log.warning("%s: %d lines appended to %s.", file.name, file.rows, month)
    return file


def unreported(ledger: Ledger, month: str, alerts: Iterable[Alert], *, run: str) -> list[Alert]:
    """
    Return the alerts that no other run has reported.

    :param month: ``YYYY-MM``.
    :param run: the task run; when retried or cleared, its own alerts count as unreported: none is lost.
    """
    reported = _read_reported(ledger, ledger.files(ALERTS, month))
    known = {line for file, lines in reported.items() if file.run != run for line in lines}
    return [alert for alert in alerts if _Reported(alert.team, alert.key) not in known]


def mark_reported(ledger: Ledger, alerts: Sequence[Alert], *, at: datetime, run: str) -> None:
    """
    Record that alerts were reported. Call it after the notifiers, so that refused alerts are sent again.
    """
    if alerts:
        lines = [_Reported(alert.team, alert.key) for alert in alerts]
        ledger.write(ALERTS, alerts[0].billing_month, at, run, list(dict.fromkeys(lines)))


def alert_files(ledger: Ledger) -> list[LedgerFile]:
    """Return the alert files of the newest two months with any."""
    return [file for month in ledger.months(ALERTS)[-2:] for file in ledger.files(ALERTS, month)]


def read_alerts(ledger: Ledger, files: Iterable[LedgerFile]) -> tuple[list[dict[str, str]], set[LedgerFile]]:
    """
    Return the alerts in files as plain JSON, each once, and the files that could be read.

    :param files: some of :func:`alert_files`; damaged or half copied ones are skipped.
    """
    read = _read_reported(ledger, files)
    found = dict.fromkeys((file.month, line) for file, lines in read.items() for line in lines)
    return [{"billing_month": month, **msgspec.structs.asdict(line)} for month, line in found], set(read)


def _lines(ledger: Ledger, file: LedgerFile) -> Iterator[list[Any]]:
    """Read a file's lines, which must be of the month of its folder."""
    for _, month, *cells in ledger.rows(file):
        if month != file.month:
            raise DamagedFile(
                f"The ledger's file {ledger.root}/{file.name} was written as one of {month}. Move it back to "
                "that month's folder."
            )
        yield cells


def _read_reported(ledger: Ledger, files: Iterable[LedgerFile]) -> dict[LedgerFile, list[_Reported]]:
    found: dict[LedgerFile, list[_Reported]] = {}
    for file in files:
        try:
            found[file] = list(map(_Reported, *ledger.read(file, ["team", "threshold"])))
        except DamagedFile as error:
            log.warning("%s Its alerts may be reported again.", error)
    return found
