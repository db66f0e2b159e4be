"""Aggregate the observations of one month: who spent what between which two observations.

The rules, each of which a test holds:

- A counter starts from 0 at the month's turn, so the first value of a month is of that month, all of it.
- An account that was created in the month, or is known from the month before, spent it on a known day. Of an
  older one that is seen for the first time the day is not known: an opening balance, on no day.
- A later value minus the one before is what was spent between. Below 0 it is a fall, which counts in the
  month: the reset is at the turn and nowhere else.
- An account that is gone keeps its last value. Its id is its identity, whatever its alias.
- What was spent after the last value and before the turn is in no counter, and is not estimated.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai.costs.accounting.history import AccountHistory, History, Rename, Span
from airflow_provider_closeai.costs.accounting.money import EXACT
from airflow_provider_closeai.costs.accounting.months import format_ids, format_local
from airflow_provider_closeai.costs.accounting.observations import (
    Observation,
    ObservedFile,
    ObservedMonth,
    PreviousMonth,
)
from airflow_provider_closeai.costs.errors import NoObservation

_NEAR_TURN = timedelta(days=1)


def aggregate(observed: ObservedMonth) -> History:
    """
    Aggregate a month's observations.

    A file that is damaged is left out with a warning: counters are cumulative, so the next snapshot has all
    that it had. Only when it would have been the last one is anything missing, and then the gap is named.

    :param observed: what the ledger has of it.
    :raises NoObservation: where there is no usable snapshot of it.
    """
    month = observed.month
    history = History(month=month)
    for name in observed.unrecognized_files:
        history.is_damaged = True
        history.warnings.append(
            f"Left out: {name} is no name of a file of the ledger. Give it back the name that it was written "
            "with, or move it out of the ledger."
        )
    with decimal.localcontext(EXACT), _without_collector():
        aggregator = _Aggregator(history, observed.previous.costs)
        for file in observed.files:
            if file.observations is not None:
                aggregator.add(file, file.observations)
                continue
            history.is_damaged = True
            history.warnings.append(
                f"Left out: {file.damage} The other snapshots stand. Restore it from a backup, or move it "
                "out of the ledger."
            )
    if not history.snapshots:
        known = ", ".join(observed.known_months) or "none"
        raise NoObservation(
            f"The ledger {observed.ledger} holds no usable snapshot of {month.name} (it has months: {known})."
            f" {' '.join(history.warnings)} Run the snapshot DAG; a month that was never observed cannot be "
            "read afterwards."
        )
    history.has_earlier_months = observed.known_months[0] < month.name
    if history.without_cost:
        history.warnings.append(
            f"Listed at times without a monthly_cost: {format_ids(sorted(history.without_cost))}. What no "
            "other snapshot shows of them is missing."
        )
    history.warnings += _lost_at_the_turn(history, observed.previous)
    history.warnings += observed.control_warnings
    history.control = observed.control
    return history


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Stop the search for reference cycles: among millions of new objects it takes long and finds none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _lost_at_the_turn(history: History, before: PreviousMonth) -> Iterator[str]:
    """Name the accounts that the month before ended with, and that no observation of this one has."""
    lost = sorted(before.costs.keys() - before.deleted - history.accounts.keys())
    if lost and before.at is not None:
        last, first = (format_local(at, history.month.zone) for at in (before.at, history.snapshots[0]))
        yield (
            f"Not listed any more in {history.month.name}, and no deletion was recorded: {format_ids(lost)}. "
            f"What they spent between {last} and {first} is missing. Delete with "
            "DeleteSubAccountsOperator(ledger=...)."
        )


class _Aggregator:
    """Adds observations to a history, in the order of time."""

    def __init__(self, history: History, before: dict[int, Decimal]) -> None:
        self._history = history
        self._before = before
        self._month = history.month
        self._start, self._end = history.month.start, history.month.end
        self._both = self._stayed = 0

    def add(self, file: ObservedFile, observations: Iterable[Observation]) -> None:
        """
        Add one file.

        :param file: which.
        :param observations: what is in it.
        """
        history = self._history
        accounts, number, at, is_complete = history.accounts, len(history.times), file.at, file.is_complete
        history.times.append(at)
        history.complete.append(is_complete)
        history.files.append(file.name)
        spans: dict[int, Span] = {}
        fallen: list[int] = []
        listed = 0
        for seen in observations:
            listed += 1
            account_id, alias, cost = seen.sub_account_id, seen.alias, seen.monthly_cost
            account = accounts.get(account_id)
            if account is None:
                created = _time(seen.created_at)
                accounts[account_id] = account = AccountHistory(
                    id=account_id, alias=alias, created_at=created, first=at, seen=number
                )
            elif alias != account.alias:
                account.renames.append(Rename(at, account.alias, alias))
                account.alias = alias
            account.seen = number
            if not is_complete:
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
                    account.falls += amount
                    if cost * 4 < account.cost:
                        fallen.append(account_id)
                account.cost = cost
            account.valued = number
        if is_complete:
            self._check_for_reset(number, fallen, listed)

    def _first_value(self, account: AccountHistory, cost: Decimal, at: datetime) -> None:
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
            account.falls = cost

    def _check_for_reset(self, number: int, fallen: list[int], listed: int) -> None:
        history = self._history
        at, zone = history.times[number], self._month.zone
        if len(history.snapshots) == 1:
            if self._stayed * 2 > self._both and at - self._start <= _NEAR_TURN:
                self._warn(
                    f"{self._stayed} of {self._both} counters went on as before between the last snapshot "
                    f"before the turn of {self._month.name} and {format_local(at, zone)}: not reset."
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
                f"{format_local(since, zone)} and {format_local(at, zone)}, inside the month; that is "
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
