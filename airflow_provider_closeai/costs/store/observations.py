"""Reads a month's observations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.observations import (
    ControlTotal,
    Observation,
    ObservedFile,
    ObservedMonth,
)
from airflow_provider_closeai.costs.accounting.turns import Turn
from airflow_provider_closeai.costs.errors import DamagedFile, NothingToDo, NotRead
from airflow_provider_closeai.costs.store.booked import closed_twice
from airflow_provider_closeai.costs.store.kinds import ADJUSTMENTS, CLOSED, CONTROL, DELETED, SNAPSHOTS
from airflow_provider_closeai.costs.store.ledger import Ledger, LedgerFile

_T = TypeVar("_T")
_READ = ("billing_month", "sub_account_id", "alias", "monthly_cost", "created_at", "balance", "user_id")
_COUNTERS = ("sub_account_id", "monthly_cost")
_LOOKS = 3  # tries to list while others keep listing
_LONGEST_DELETION = timedelta(minutes=3)  # after its record; meanwhile the account may be listed
_LOOKED_AT = 3  # newest snapshots: one need not name the main account


def read_month(ledger: Ledger, month: Month) -> ObservedMonth:
    """Read what a ledger has of a month. Damage is described, not raised."""
    known = main_account(ledger)
    main = set() if known is None else {known}  # else set by the first file that names it
    controls, control_warnings = _controls(ledger, month)
    return ObservedMonth(
        month=month,
        ledger=str(ledger.root),
        known_months=ledger.months(SNAPSHOTS),
        files=_read_all(ledger, month, _files(ledger, month), main),
        problems=[
            f"Left out: {name} is not the name of a ledger file. Give it back the name that it was written "
            "with, or move it out of the ledger."
            for kind in (SNAPSHOTS, DELETED, CLOSED, ADJUSTMENTS)
            for name in ledger.unrecognized_files(kind, month.name)
        ]
        + closed_twice(ledger, month.name),
        controls=controls,
        control_warnings=control_warnings,
        earlier=_earlier(ledger, month, main),
        later=_later(ledger, month, main),
    )


def list_alone(
    ledger: Ledger, read: Callable[[], Iterable[_T]], clock: Callable[[], datetime]
) -> tuple[datetime, list[_T]]:
    """
    Read a listing; if another one was recorded meanwhile, read it again.

    Of two overlapping listings the later one may have the older counters, which would look like a fall.

    :param read: reads the listing.
    :returns: when the listing began, and the listing.
    :raises NothingToDo: another one was recorded each time.
    """
    for _ in range(_LOOKS):
        before, began = ledger.newest(SNAPSHOTS), clock()
        listed = list(read())
        if ledger.newest(SNAPSHOTS) == before:
            return began, listed
    raise NothingToDo(
        f"Not recorded: other listings were recorded in {ledger.root} while this one was read, {_LOOKS} "
        "times. They have all that it has."
    )


def shows_more(ledger: Ledger, file: LedgerFile, accounts: Iterable[SubAccount]) -> bool:
    """Return whether a snapshot has a counter above a listing's: it may show a later state."""
    try:
        before = dict(zip(*ledger.read(file, _COUNTERS), strict=True))
    except DamagedFile:
        return False
    known = ((before.get(account.id), account.monthly_cost) for account in accounts)
    return any(old is not None and new is not None and old > new for old, new in known)


def is_empty_of(ledger: Ledger, month: str) -> bool:
    """
    Return whether a ledger has nothing of a month, not even files with unrecognized names.

    :param month: ``YYYY-MM``.
    """
    has_files = any(ledger.files(kind, month) for kind in (SNAPSHOTS, DELETED, CLOSED))
    return not has_files and not ledger.unrecognized_files(SNAPSHOTS, month)


def _files(ledger: Ledger, month: Month) -> list[LedgerFile]:
    found = ledger.files(SNAPSHOTS, month.name) + ledger.files(DELETED, month.name)
    return sorted(found, key=lambda file: file.order)


def _read_all(
    ledger: Ledger, month: Month, files: Sequence[LedgerFile], main: set[int]
) -> Iterator[ObservedFile]:
    for file in files:
        is_complete = file.kind == SNAPSHOTS
        try:
            observations = _read(ledger, file, month, main)
        except DamagedFile as error:
            yield ObservedFile(file.name, file.at, is_complete, damage=str(error))
        else:
            yield ObservedFile(file.name, file.at, is_complete, observations)


def _earlier(ledger: Ledger, month: Month, main: set[int]) -> Iterator[ObservedFile]:
    """Read files before a month's start, from the last usable snapshot before all possible turns on."""
    before, opens = month.step(-1), Turn(month.start).opens
    files = _files(ledger, before)
    for place in reversed(range(len(files))):
        if files[place].kind == SNAPSHOTS and files[place].at <= opens:
            [first] = _read_all(ledger, before, [files[place]], main)
            if first.observations is not None:
                yield first
                yield from _read_all(ledger, before, files[place + 1 :], main)
                return
    yield from _read_all(ledger, before, files, main)


def _later(ledger: Ledger, month: Month, main: set[int]) -> Iterator[ObservedFile]:
    """Read files after a month's end, lazily."""
    for name in ledger.months(SNAPSHOTS):
        if name > month.name:
            later = Month(name, month.zone)
            yield from _read_all(ledger, later, _files(ledger, later), main)


def _read(ledger: Ledger, file: LedgerFile, month: Month, main: set[int]) -> Sequence[Observation]:
    """Read a file, which must be of this month in the reader's time zone."""
    own = month_of(file.at, month.zone)
    if own.name != file.month:
        raise DamagedFile(
            f"The ledger's file {ledger.root}/{file.name} was written as {file.month}, and in {own.zone} it "
            f"is of {own.name}. Give the snapshot and the report the same time_zone."
        )
    names, *columns = ledger.read(file, _READ)
    if others := set(names) - {file.month}:
        raise DamagedFile(f"The ledger's file {file.name} holds lines of {', '.join(sorted(others))}.")
    if None in columns[0]:
        raise DamagedFile(f"The ledger's file {file.name} has a line without a sub_account_id.")
    *cells, balances, users = columns
    found: set[int] = set(users) - {None}
    if len(main | found) > 1:
        raise DamagedFile(
            f"The ledger's file {file.name} is of the main account {', '.join(map(str, sorted(found)))}, and "
            f"the ledger of {', '.join(map(str, sorted(main))) or 'one'}. Two main accounts need two ledgers."
        )
    main |= found
    return list(map(Observation, *cells, itertools.repeat(None), balances))


def _controls(ledger: Ledger, month: Month) -> tuple[list[ControlTotal], list[str]]:
    """Return the control totals, newest first, and warnings about their files."""
    found: list[ControlTotal] = []
    names = ledger.unrecognized_files(CONTROL, month.name)
    warnings = [f"Left out: {name} is not the name of a ledger file." for name in names]
    for file in reversed(ledger.files(CONTROL, month.name)):
        try:
            [amounts] = ledger.read(file, ["total_used"])
        except DamagedFile as error:
            warnings.append(f"Left out: {error}")
            continue
        if len(amounts) == 1 and amounts[0] is not None:
            found.append(ControlTotal(file.at, amounts[0]))
        else:
            warnings.append(f"Left out: the control total {file.name} holds no amount.")
    return found, warnings


def main_account(ledger: Ledger) -> int | None:
    """
    Return the main account's id in a ledger's newest snapshots; ``None`` if they have none.
    """
    months = reversed(ledger.months(SNAPSHOTS))
    newest = (file for month in months for file in reversed(ledger.files(SNAPSHOTS, month)) if file.rows)
    for file in itertools.islice(newest, _LOOKED_AT):
        try:
            found = set(ledger.read(file, ["user_id"])[0]) - {None}
            if len(found) == 1:
                return int(found.pop())
        except DamagedFile:
            continue
        except NotRead as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # deleted since it was listed
                raise
    return None


def accounts_left(ledger: Ledger, month: Month) -> tuple[LedgerFile | None, list[int]]:
    """Return the newest snapshot, and its accounts without a deletion recorded up to a month."""
    last = ledger.newest(SNAPSHOTS)
    if last is None or not last.rows:
        return last, []
    since = last.at - _LONGEST_DELETION  # after its record, until deleted, an account may be listed
    deleted = {
        account_id
        for name in ledger.months(DELETED)
        if month_of(since, month.zone).name <= name <= month.name
        for file in ledger.files(DELETED, name)
        if file.at >= since
        for account_id in ledger.read(file, ["sub_account_id"])[0]
    }
    return last, [number for number in ledger.read(last, ["sub_account_id"])[0] if number not in deleted]


def superseded(ledger: Ledger, month: Month, file: LedgerFile) -> list[LedgerFile]:
    """
    Return the earlier snapshots of a file's run that show nothing more than the file.

    Excluded are snapshots with an account that is gone since, or with a higher counter than now; and those
    near a turn: one may be the first after that, or the last before a reset that another run has seen.
    """
    same_run = (other for other in ledger.files(file.kind, file.month) if other.run == file.run)
    earlier = [other for other in same_run if other.at <= file.at and other.name != file.name]
    since, until = Turn(month.start).closes, Turn(month.end).opens
    return [other for other in earlier if since < other.at < until and _shows_all_of(ledger, file, other)]


def _shows_all_of(ledger: Ledger, file: LedgerFile, earlier: LedgerFile) -> bool:
    try:
        before, now = (dict(zip(*ledger.read(each, _COUNTERS), strict=True)) for each in (earlier, file))
    except (DamagedFile, NotRead):
        return False
    return all(
        number in now and (cost is None or (now[number] is not None and now[number] >= cost))
        for number, cost in before.items()
    )
