"""What the counters of one month say: who spent what between which two observations.

The rules, each of which a test holds:

- A counter starts from 0 at the month's turn, so the first value of a month is of that month, whole.
- An account that was created in the month, or is known from the month before, spent it on a known day. Of an
  older one that is seen for the first time the day is not known: an opening balance, on no day.
- A later value minus the one before is what was spent between. Below 0 it is a correction: the reset is at
  the turn and nowhere else.
- An account that is gone keeps its last value. Its id is its identity, whatever its alias.
- What was spent after the last value and before the turn is in no counter. Nothing is invented for it.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai.costs.errors import DamagedFile, NoObservation
from airflow_provider_closeai.costs.evidence import Before, Line, read_before, read_control, read_lines
from airflow_provider_closeai.costs.history import Account, History, Rename, Span
from airflow_provider_closeai.costs.ledger import DELETED, SNAPSHOTS, Ledger, LedgerFile
from airflow_provider_closeai.costs.months import EXACT, Month, named, zone_of

_NEAR_TURN = timedelta(days=1)


def read_history(ledger: Ledger, month: Month) -> History:
    """
    Read a month.

    A file that is damaged is left out with a warning: counters are cumulative, so the next snapshot has all
    that it had. Only when it would have been the last one is anything missing, and then the gap is told.

    :param ledger: where from.
    :param month: which.
    :raises NoObservation: where there is no usable snapshot of it.
    """
    history = History(month=month)
    for name in [*ledger.strangers(SNAPSHOTS, month.name), *ledger.strangers(DELETED, month.name)]:
        history.is_damaged = True
        history.warnings.append(
            f"Left out: {name} is no name of a file of the ledger. Give it back the name that it was written "
            "with, or move it out of the ledger."
        )
    found = sorted(
        ledger.files(SNAPSHOTS, month.name) + ledger.files(DELETED, month.name),
        key=lambda file: (file.at, file.kind),
    )
    with decimal.localcontext(EXACT), _without_collector():
        before = read_before(ledger, month)
        fold = _Fold(history, before.costs)
        for file in found:
            try:
                fold.add(file, read_lines(ledger, file, month))
            except DamagedFile as error:
                history.is_damaged = True
                history.warnings.append(
                    f"Left out: {error} The other snapshots stand. Restore it from a backup, or move it out "
                    "of the ledger."
                )
    if not history.snapshots:
        known = ", ".join(ledger.months(SNAPSHOTS)) or "none"
        raise NoObservation(
            f"The ledger {ledger.root} holds no usable snapshot of {month.name} (it has months: {known}). "
            + " ".join(history.warnings)
            + " Run the snapshot DAG; a month that was never observed cannot be read afterwards."
        )
    history.goes_on = ledger.months(SNAPSHOTS)[0] < month.name
    if history.without_cost:
        history.warnings.append(
            f"Listed at times without a monthly_cost: {named(sorted(history.without_cost))}. What no other "
            "snapshot shows of them is missing."
        )
    history.warnings += _lost_at_the_turn(history, before)
    history.control = read_control(ledger, month, history.warnings)
    return history


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Stop the search for reference cycles: among millions of new lines it takes long and finds none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _lost_at_the_turn(history: History, before: Before) -> Iterator[str]:
    """Name the accounts that the month before ended with, and that no observation of this one has."""
    lost = sorted(before.costs.keys() - before.gone - history.accounts.keys())
    if lost and before.at is not None:
        last, first = (_local(at, history.month) for at in (before.at, history.snapshots[0]))
        yield (
            f"Not listed any more in {history.month.name}, and no deletion was recorded: {named(lost)}. What "
            f"they spent between {last} and {first} is missing. Delete with "
            "DeleteSubAccountsOperator(ledger=...)."
        )


class _Fold:
    """Takes observations in the order of time."""

    def __init__(self, history: History, before: dict[int, Decimal]) -> None:
        self._history = history
        self._before = before
        self._month = history.month
        self._start, self._end = history.month.start, history.month.end
        self._both = self._stayed = 0

    def add(self, file: LedgerFile, lines: Sequence[Line]) -> None:
        """
        Take one file's lines.

        :param file: which.
        :param lines: its lines.
        """
        history = self._history
        accounts, number, at = history.accounts, len(history.times), file.at
        history.times.append(at)
        history.complete.append(file.kind == SNAPSHOTS)
        history.files.append(file)
        spans: dict[int, Span] = {}
        fallen: list[int] = []
        for account_id, alias, cost, created in lines:
            account = accounts.get(account_id)
            if account is None:
                accounts[account_id] = account = Account(
                    id=account_id, alias=alias, created_at=_time(created), first=at, seen=number
                )
            elif alias != account.alias:
                account.renames.append(Rename(at, account.alias, alias))
                account.alias = alias
            account.seen = number
            if file.kind == DELETED:
                account.deleted_at = at
            if cost is None:
                history.without_cost.add(account_id)
                continue
            if account.valued < 0:
                self._first_value(account, cost, at)
            elif cost != account.cost:
                span = spans.get(account.valued)
                if span is None:
                    start = history.times[account.valued]
                    spans[account.valued] = span = Span(start, at, self._month.day(start, at))
                account.spans.append(span)
                amount = cost - account.cost
                account.amounts.append(amount)
                if amount < 0:
                    account.corrections += amount
                    if cost * 4 < account.cost:
                        fallen.append(account_id)
                account.cost = cost
            account.valued = number
        if file.kind == SNAPSHOTS:
            self._look_for_reset(number, fallen, len(lines))

    def _first_value(self, account: Account, cost: Decimal, at: datetime) -> None:
        account.cost = cost
        before, created = self._before.get(account.id), account.created_at
        if before is not None and before > 0:
            self._both += 1
            self._stayed += before <= cost <= before * 3 / 2
        if not cost:
            return
        start, day = self._start, None
        if created is not None and self._start <= created < self._end:
            start = min(created, at)
            day = self._month.day(start, at)
        elif before is not None:
            day = self._month.day(start, at)
        account.spans.append(Span(start, at, day))
        account.amounts.append(cost)
        if day is None:
            account.opening = cost
        elif cost < 0:
            account.corrections = cost

    def _look_for_reset(self, number: int, fallen: list[int], listed: int) -> None:
        history = self._history
        at = history.times[number]
        if len(history.snapshots) == 1:
            if self._stayed * 2 > self._both and at - self._start <= _NEAR_TURN:
                self._warn(
                    f"{self._stayed} of {self._both} counters went on as before between the last snapshot "
                    f"before the turn of {self._month.name} and {_local(at, self._month)}: not reset."
                )
            return
        if not fallen:
            return
        gone = set(fallen)
        kept = sum(
            1
            for account in history.accounts.values()
            if account.seen == number and account.first < at and account.cost > 0 and account.id not in gone
        )
        if len(fallen) > kept:
            since = history.times[number - 1]
            self._warn(
                f"{len(fallen)} of {listed} counters fell by more than three quarters between "
                f"{_local(since, self._month)} and {_local(at, self._month)}, inside the month; that is "
                "booked as corrections."
            )

    def _warn(self, seen: str) -> None:
        self._history.is_reset_elsewhere = True
        self._history.warnings.append(
            f"{seen} The platform may start its month at another time than midnight in {self._month.zone}. "
            "If so, set time_zone to its zone in the snapshot and the report; until then this month counts "
            "as estimated."
        )


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1970 < moment.year < 9999:  # another time zone may lead beyond what Python can count
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _local(moment: datetime, month: Month) -> str:
    return f"{moment.astimezone(zone_of(month.zone)):%Y-%m-%d %H:%M}"
