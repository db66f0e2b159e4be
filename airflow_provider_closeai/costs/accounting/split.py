"""Assigns each counter movement to a month, by its account's own turns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.history import FALL, INCREASE, OPENING, AccountHistory, History
from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.traces import Span, Trace
from airflow_provider_closeai.costs.accounting.turns import STILL, WAITING, Turn, Verdict, judge_all


def split_month(history: History, traces: Iterable[Trace]) -> None:
    """
    Put a month's accounts into its history.

    :param traces: what was seen of the accounts, from before the month to after it.
    """
    splitter, month, every = _Splitter(history), history.month, list(traces)
    verdicts = judge_all(every, (Turn(month.start), Turn(month.end)))
    for trace, (start, end) in zip(every, verdicts, strict=True):
        if (account := splitter.account(trace, start, end)) is not None:
            history.accounts[trace.id] = account
        else:
            history.absent.add(trace.id)


class _Splitter:
    def __init__(self, history: History) -> None:
        month = history.month
        self._month = month
        self._start, self._end = Turn(month.start), Turn(month.end)
        self._last_listing = history.last_snapshot
        self._cut: dict[Span, Span] = {}

    def account(self, trace: Trace, start: Verdict, end: Verdict) -> AccountHistory | None:
        """Return an account's month; ``None`` if it certainly has none."""
        # A fall shows that it existed before the turn; without a creation date it may be new.
        is_of_next = trace.is_older and trace.created_at is not None and not end.restarts
        if trace.first >= self._end.at and (is_of_next or trace.first >= self._end.closes):
            return None
        is_both = start.restarts and end.restarts and start.begin == end.end < len(trace.spans)
        if is_both and trace.spans[end.end].start < self._end.closes:
            # It stood still all month, and fell at its next use, which may be of this month or the next.
            start = msgspec.structs.replace(start, new_doubt=STILL)
            end = msgspec.structs.replace(end, old_doubt=STILL)
        if start.new_doubt and trace.created_at is not None and trace.created_at >= self._start.at:
            # Created after the assumed turn: all its movements count, even those that may be the old month's.
            start = Verdict(0, 0, new_doubt=start.new_doubt, doubtful=max(start.begin, start.doubtful))
        least = end.end if end.sure is None else end.sure
        if trace.next_at is None and not trace.is_gone and not end.has_fallen:
            # It has not been seen with a cost since the month's end.
            end = msgspec.structs.replace(end, end=len(trace.spans), old_doubt=WAITING, may_settle=True)
        is_below = self._between(trace, start, start.begin, end.end) < ZERO <= trace.before(end.end)
        if is_below and (start.new_doubt or end.old_doubt):  # a fall of amounts that may not be this month's
            end = msgspec.structs.replace(end, end=start.begin)
        account = AccountHistory(
            id=trace.id,
            alias=trace.alias,
            created_at=trace.created_at,
            first=trace.first,
            last_seen=trace.last_seen,
            known_at=trace.known_at,
            renames=trace.renames,
            balance=trace.known_balance,
            deleted_at=None if trace.deleted_at and trace.deleted_at >= self._end.at else trace.deleted_at,
            start_doubt=start.new_doubt,
            end_doubt=end.old_doubt,
            end_may_settle=end.may_settle,
            is_in_month=trace.is_in_month,
            started=None if start.old_doubt else start.unseen,
            fell=None if end.old_doubt else end.unseen,
            unseen=self._unseen(trace, end),
        )
        self._move(account, trace, start, end)
        begun = min(max(start.doubtful, start.begin), end.end)  # earlier amounts are doubted once only
        account.start_doubtful = max(self._between(trace, start, start.begin, begun), ZERO)
        account.end_doubtful = max(self._between(trace, start, max(least, begun), end.end), ZERO)
        is_left_out = not start.restarts and start.unseen is not None and trace.before(start.begin) != ZERO
        is_early = trace.known_at is None or trace.known_at < self._start.closes
        is_unsettled = is_left_out or (is_early and account.start_doubtful != ZERO)
        account.is_whole = not (account.start_doubt and is_unsettled)
        is_doubtful = account.start_doubt or account.end_doubt
        return account if trace.is_in_month or account.spans or is_doubtful else None

    @staticmethod
    def _between(trace: Trace, start: Verdict, first: int, last: int) -> Decimal:
        """Return the counter's growth from movement ``first`` until before movement ``last``."""
        if first >= last:
            return ZERO
        is_first = start.restarts and first == start.begin
        return trace.before(last) - (ZERO if is_first else trace.before(first))

    def _move(self, account: AccountHistory, trace: Trace, start: Verdict, end: Verdict) -> None:
        """Add up the movements between the two turns."""
        before = ZERO if start.restarts else trace.before(start.begin)
        for place in range(start.begin, end.end):
            span, value = trace.spans[place], trace.values[place]
            if start.restarts and place == start.begin:
                span = self._from_turn(span)
            if amount := value - before:
                account.cost += amount
                account.spans.append(span)
                account.amounts.append(amount)
                account.kinds.append(OPENING if span.day is None else FALL if amount < ZERO else INCREASE)
            before = value

    def _from_turn(self, span: Span) -> Span:
        """Start the span at the turn: what the counter shows after its reset is the new month's."""
        found = self._cut.get(span)
        if found is None:
            begin = self._month.start
            is_across = span.start < begin < span.end
            found = Span(begin, span.end, self._month.day(begin, span.end)) if is_across else span
            self._cut[span] = found
        return found

    def _unseen(self, trace: Trace, end: Verdict) -> tuple[datetime, datetime] | None:
        """Return the times around the month's end between which more may have been spent than seen."""
        if end.unseen is not None:
            return end.unseen
        known, closes = trace.known_at or self._start.at, self._end.closes
        gone = trace.deleted_at or trace.gone_by
        is_costless = known < (trace.deleted_at or trace.last_seen) and trace.next_at is None  # at the end
        if trace.is_in_month and is_costless and gone is not None and gone >= self._end.opens:
            return known, min(gone, closes)
        if trace.gone_by is not None and trace.listed_at is not None:
            if trace.listed_at < self._last_listing:
                return None  # the report says what is missing
            if (last := trace.valued_at or known) < closes:  # its own turn may have been later, too
                return last, min(trace.gone_by, closes)
        if trace.is_gone and trace.next_at is None:
            return None
        return known, trace.next_at or self._end.at
