"""Aggregates the observations around a month: what each account's counter showed.

The rules, each with a test:

- A counter starts from 0 once per month; when it did is judged for each account (:mod:`.turns`).
- If an account was created in the month, or is known from the month before, the day of its spending is
  known. If an older one is seen for the first time, it is not: that is an opening balance, on no day.
- A later value minus the one before is what was spent between. If negative it is a fall, which counts in the
  month, except for the fall with which the counter starts again.
- An account that is gone keeps its last value. Its id is its identity, whatever its alias.
- What was spent after the last value and before the counter starts again is in no counter, and is not
  estimated.
"""

from __future__ import annotations

import bisect
import contextlib
import decimal
import functools
import gc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from airflow_provider_closeai.costs.accounting.history import History
from airflow_provider_closeai.costs.accounting.money import EXACT
from airflow_provider_closeai.costs.accounting.months import Month, format_ids, format_local, month_of
from airflow_provider_closeai.costs.accounting.observations import Observation, ObservedFile, ObservedMonth
from airflow_provider_closeai.costs.accounting.split import split_month
from airflow_provider_closeai.costs.accounting.traces import Rename, Span, Trace
from airflow_provider_closeai.costs.accounting.turns import Turn, judge
from airflow_provider_closeai.costs.errors import NoObservation

#: A listing shows an account as of some time after it began, and bases may lag. So if a snapshot and a
#: deletion's record began within this time in the same month, it is unknown which shows the later state.
OVERLAP = timedelta(minutes=5)


def aggregate(observed: ObservedMonth) -> History:
    """
    Aggregate a month's observations and those around its turns.

    A damaged file is left out with a warning: counters are cumulative, so the next snapshot has all that it
    had. Only if it was the last one is anything missing, and then the gap is named.

    :raises NoObservation: the month has no usable snapshot.
    """
    month = observed.month
    history = History(month=month, is_damaged=bool(observed.problems), warnings=list(observed.problems))
    with decimal.localcontext(EXACT), _without_collector():
        aggregator = _Aggregator(month)
        for file in observed.earlier:
            aggregator.add(file)
        known_before = aggregator.begin_month()
        for file in observed.files:
            if file.observations is None:
                history.is_damaged = True
                history.warnings.append(
                    f"Left out: {file.damage} The other snapshots stand. Restore it from a backup, or move "
                    "it out of the ledger."
                )
                continue
            aggregator.add(file)
            history.files.append(file.name)
            if file.is_complete:
                history.snapshots.append(file.at)
        if not history.snapshots:
            raise _no_observation(observed, history)
        aggregator.end_month()
        _add_later(aggregator, observed.later, Turn(month.end))
        traces = aggregator.finish()
        history.has_earlier_months = observed.known_months[0] < month.name
        split_month(history, traces)
    if aggregator.without_cost:
        history.warnings.append(
            f"Listed at times without a monthly_cost: {format_ids(sorted(aggregator.without_cost))}. What "
            "no other snapshot shows of them is missing."
        )
    if aggregator.returned:
        history.warnings.append(
            "Not in a complete listing, and listed again later: "
            f"{format_ids(sorted(aggregator.returned))}. Either a listing was not whole, or the ledger has "
            "snapshots of two main accounts, whose costs are added here: two main accounts need two ledgers."
        )
    history.warnings += _lost_at_the_turn(history, traces, known_before)
    # Without its snapshot it is unknown what the sub-accounts had cost at that moment.
    at = set(history.snapshots)
    history.controls = [each for each in observed.controls if each.at in at]
    history.warnings += observed.control_warnings
    return history


def _no_observation(observed: ObservedMonth, history: History) -> NoObservation:
    known = ", ".join(observed.known_months) or "none"
    return NoObservation(
        f"The ledger {observed.ledger} holds no usable snapshot of {observed.month.name} (it has months: "
        f"{known}). {' '.join(history.warnings)} Run the snapshot DAG; a month that was never observed "
        "cannot be read afterwards."
    )


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector: among millions of new objects it takes long and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _add_later(aggregator: _Aggregator, later: Iterable[ObservedFile], turn: Turn) -> None:
    """Add later files until they cannot decide anything more, usually a day's."""
    waiting: list[Trace] | None = None
    for file in later:
        aggregator.add(file)  # damage is reported with the file's own month
        if file.is_complete and file.at >= turn.closes:
            traces = aggregator.finish() if waiting is None else waiting
            waiting = [trace for trace in traces if judge(trace, turn).waits]
            if not waiting:
                return


def _lost_at_the_turn(history: History, traces: Iterable[Trace], before: datetime | None) -> Iterator[str]:
    """Report accounts that existed at the end of the month before, and that no file of this one has."""
    lost = sorted(
        trace.id
        for trace in traces
        if not trace.is_in_month and trace.listed_at == before and trace.deleted_at is None
    )
    if lost and before is not None:
        last, first = (format_local(at, history.month.zone) for at in (before, history.snapshots[0]))
        yield (
            f"Not listed any more in {history.month.name}, and no deletion was recorded: {format_ids(lost)}. "
            f"What they spent between {last} and {first} is missing. Delete with "
            "DeleteSubAccountsOperator(ledger=...)."
        )


class _Aggregator:
    """Adds observations to traces, in chronological order."""

    def __init__(self, month: Month) -> None:
        self._month = month
        self._turn = Turn(month.start)
        self._traces: dict[int, Trace] = {}
        self._listings: list[datetime] = []  # when complete ones began
        self._is_in_month = self._is_later = False
        self.returned: set[int] = set()  # listed again after a complete listing without them
        self.without_cost: set[int] = set()  # sometimes listed without a cost in the month

    def begin_month(self) -> datetime | None:
        """Begin the month's own files; return when the last complete listing before them was made."""
        self._is_in_month = True
        return self._listings[-1] if self._listings else None

    def end_month(self) -> None:
        """Begin the later files; keep what was known at the month's end."""
        self._is_in_month, self._is_later = False, True
        for trace in self._traces.values():
            trace.known_at, trace.known_balance = trace.valued_at, trace.balance

    def finish(self) -> list[Trace]:
        """Return the traces, after noting which accounts are gone."""
        listings = self._listings
        for trace in self._traces.values():
            later = bisect.bisect_right(listings, trace.listed_at) if trace.listed_at else len(listings)
            is_missed = trace.deleted_at is None and later < len(listings)
            trace.gone_by = listings[later] if is_missed else None
            trace.is_gone = trace.deleted_at is not None or is_missed
        return list(self._traces.values())

    def add(self, file: ObservedFile) -> None:
        """Add one file; a damaged one adds nothing."""
        if file.observations is None:
            return
        traces, at, is_complete = self._traces, file.at, file.is_complete
        is_in_month, is_later = self._is_in_month, self._is_later
        last = self._listings[-1] if self._listings else None
        turned = month_of(at, self._month.zone).start  # a fall across this is the reset
        span_since = functools.cache(lambda start: self._span(start, at))  # most accounts share one
        for seen in file.observations:
            account_id, cost = seen.sub_account_id, seen.monthly_cost
            trace = traces.get(account_id)
            if trace is None:
                traces[account_id] = trace = self._new_trace(seen, at)
            elif not is_later and seen.alias != trace.alias:
                if is_in_month and trace.is_in_month:
                    trace.renames.append(Rename(at, trace.alias, seen.alias))
                trace.alias = seen.alias
            if is_complete:
                if is_in_month and trace.listed_at != last and trace.listed_at is not None:
                    self.returned.add(account_id)
                trace.listed_at = at
            if not is_later:
                trace.last_seen = at
                if is_in_month and not trace.is_in_month:
                    trace.is_in_month, trace.first = True, at
            trace.deleted_at = None if is_complete else at  # if listed again, it was not deleted
            if cost is None:
                if is_in_month:
                    self.without_cost.add(account_id)
                continue
            if trace.valued_at is None:
                self._first_value(trace, seen, at)
            elif (
                cost < trace.value
                and at - trace.valued_at < OVERLAP
                and turned <= trace.valued_at
                and (trace.is_recorded or not is_complete)
            ):
                trace.is_recorded = True
                continue  # an older value from an overlapping look, not a fall
            elif cost != trace.value or _was_spent(trace, seen):
                if seen.balance is not None and trace.balance is not None:
                    trace.spent[len(trace.spans)] = trace.balance - seen.balance
                trace.spans.append(span_since(trace.valued_at))
                trace.values.append(cost)
                trace.value = cost
            trace.valued_at, trace.balance, trace.is_recorded = at, seen.balance, not is_complete
            if is_later and trace.next_at is None:
                trace.next_at = at
        if is_complete:
            self._listings.append(at)

    def _new_trace(self, seen: Observation, at: datetime) -> Trace:
        return Trace(
            id=seen.sub_account_id,
            alias=seen.alias,
            created_at=_time(seen.created_at),
            first=at,
            last_seen=at,
            is_in_month=self._is_in_month,
        )

    def _first_value(self, trace: Trace, seen: Observation, at: datetime) -> None:
        cost, created = seen.monthly_cost, trace.created_at
        if not cost:
            return
        if created is None or created < self._turn.opens:
            trace.is_older = True
            span = Span(min(self._turn.at, at), at, None)
        else:
            span = self._span(min(created, at), at)
        trace.spans.append(span)
        trace.values.append(cost)
        trace.value = cost

    def _span(self, start: datetime, end: datetime) -> Span:
        return Span(start, end, self._month.day(start, end))


def _was_spent(trace: Trace, seen: Observation) -> bool:
    """Return whether the balance fell while the value stood still: that may hide a reset."""
    before, balance = trace.balance, seen.balance
    return before is not None and balance is not None and balance < before


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1970 < moment.year < 9999:  # in another time zone it may exceed Python's range
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
