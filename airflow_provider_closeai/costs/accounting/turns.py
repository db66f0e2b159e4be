"""Judges when an account's counter started again from 0, by its own values.

The platform does not say when that is: in which zone, at once or account by account, at the turn or at the
first use after it. So the values around the month's turns in all zones are examined, 3 hours either way, and
the next movement if these show nothing. Rules: docs/costs.md.
"""

from __future__ import annotations

import bisect
import functools
import operator
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.traces import Trace

_END = operator.attrgetter("end")
_FIRST_ZONE, _LAST_ZONE = timedelta(hours=14), timedelta(hours=-12)  # the first and last to begin a month
_EITHER_WAY, _SHORTEST = timedelta(hours=3), timedelta(days=28)

#: Kinds of doubt. ``UNSEEN``: the ledger begins later. ``WAITING``: equal values, or none, since the turn.
#: ``HIDDEN``: the value grew, which may hide a reset. ``AGAIN``: it fell more than once. ``PARTS``: it fell
#: once, and growth near that may hide another part of the reset. ``REFUND``: the fall may be a refund.
#: ``STILL``: it stood still all month, and the use that it fell at may be of this month or the next.
UNSEEN, WAITING, HIDDEN = "unseen", "waiting", "hidden"
AGAIN, PARTS, REFUND, STILL = "fell again", "in parts", "refund", "stood still"
#: A month was closed while its figure was in doubt, and what has been settled since is not booked.
CLOSED = "closed"
#: This many counters that fell in parts show that the platform resets counters so.
_PARTS_SEEN = 2


class Turn(msgspec.Struct, frozen=True, dict=True):
    """
    The assumed turn of a month.

    :param at: the first moment of the next month in the ledger's zone, as a UTC time.
    """

    at: datetime

    @functools.cached_property  # used for each account of a month
    def opens(self) -> datetime:
        """The earliest time at which a counter can start again."""
        return self._in_utc - _FIRST_ZONE - _EITHER_WAY

    @functools.cached_property
    def closes(self) -> datetime:
        """The latest time, except for counters that start again at their first use."""
        return self._in_utc - _LAST_ZONE + _EITHER_WAY

    @functools.cached_property
    def next_opens(self) -> datetime:
        """A time before which no counter starts again for the next turn."""
        return self.opens + _SHORTEST

    @functools.cached_property
    def _in_utc(self) -> datetime:
        """The month's first moment in UTC, whatever the zone of ``at``."""
        return (self.at + _FIRST_ZONE).replace(day=1, hour=0, minute=0)


class Verdict(msgspec.Struct, frozen=True):
    """
    What an account's values say about a turn. Movements are given by index.

    :param end: movements before this one belong to the old month, or earlier ones.
    :param begin: movements from this one on belong to the new month, or later ones.
    :param restarts: the counter's full value after movement ``begin`` is the new month's first amount.
    :param old_doubt: why the old month's figure is only a lower bound; empty: it is certain.
    :param new_doubt: the same for the new month's.
    :param unseen: between which two values the counter started again, if known: what was spent in the old
        month after the first of them is in no figure.
    :param sure: the old month's movements from this one on may be the new month's; ``None``: none may.
    :param doubtful: the new month's movements before this one may be the old month's.
    :param waits: whether a later value may still change it.
    :param may_settle: whether a later value may still make the old month's figure certain.
    """

    end: int
    begin: int
    restarts: bool = False
    old_doubt: str = ""
    new_doubt: str = ""
    unseen: tuple[datetime, datetime] | None = None
    sure: int | None = None
    doubtful: int = 0
    waits: bool = False
    may_settle: bool = False

    @property
    def has_fallen(self) -> bool:
        """Whether the value fell, by a reset or a refund."""
        return self.restarts or self.old_doubt in (AGAIN, REFUND)


def judge_all(traces: Sequence[Trace], turns: Sequence[Turn]) -> list[tuple[Verdict, ...]]:
    """
    Judge some turns of all accounts, each by its own values.

    Other accounts matter in one way only: if an account itself, or any two accounts, fell in parts at one of
    the turns, then a single visible fall may not be all of a reset, and growth near it may hide more of it.

    :param traces: the accounts' values on both sides of the turns.
    """
    verdicts = [tuple(judge(trace, turn) for turn in turns) for trace in traces]
    fell_in_parts = [any(one.old_doubt in (AGAIN, PARTS) for one in of_account) for of_account in verdicts]
    is_known = sum(fell_in_parts) >= _PARTS_SEEN
    for place, trace in enumerate(traces):
        if is_known or fell_in_parts[place]:
            verdicts[place] = tuple(judge(trace, turn, is_in_parts=True) for turn in turns)
    return verdicts


def judge(trace: Trace, turn: Turn, *, is_in_parts: bool = False) -> Verdict:
    """
    Judge one turn of one account.

    A certain verdict is true on every platform that resets each counter once between ``turn.opens`` and
    ``turn.closes``, or at the first use after that, whatever other accounts do; also in parts, if the balance
    moves with the costs or ``is_in_parts`` is set.

    :param trace: the account's values on both sides of the turn.
    :param is_in_parts: the platform is known to reset counters in parts.
    """
    spans, values = trace.spans, trace.values
    first = bisect.bisect_left(spans, turn.opens, key=_END)
    is_first_inside = trace.is_older and first == 0
    is_unseen = is_first_inside and spans[0].end >= turn.at
    if is_unseen and spans[0].end >= turn.closes:
        return _unseen(1)
    if is_first_inside:  # not a movement: the value before is unknown
        first = 1
    last = first
    while last < len(spans) and spans[last].start < turn.closes:
        last += 1
    before = trace.before(first)
    falls = [  # a value below 0 rises when it starts again
        place
        for place in range(first, last)
        if values[place] < trace.before(place) or trace.before(place) < ZERO
    ]
    is_still = last == first and not is_unseen  # then the next movement is the first since the turn
    is_near = last < len(spans) and (is_still or spans[last].end < turn.next_opens)
    if not falls and (last > first or before) and is_near:
        last += 1  # it may start again at its first use
        if values[last - 1] < trace.before(last - 1):
            falls = [last - 1]
    if len(falls) == 1 and _is_explained(trace, falls[0]):
        return _fallen_once(trace, turn, falls[0], range(first, last), is_in_parts=is_in_parts)
    if falls:
        return _fallen_in_doubt(trace, falls, range(first, last))
    if is_unseen:
        is_near_turn = not trace.is_gone and trace.valued_at is not None and trace.valued_at < turn.closes
        return _unseen(last, may_settle=is_near_turn and _may_fall(trace, turn, range(first, last)))
    if is_first_inside and last == first and trace.is_gone:
        first = 0  # one value, of an unknown month
    if last > first:
        return _grown(trace, turn, first, last)
    is_seen = trace.is_gone or (trace.valued_at is not None and trace.valued_at >= turn.at)
    if is_seen and (before == ZERO or (trace.is_gone and before == trace.value)):
        return Verdict(first, first)
    may_settle = not trace.is_gone and first == len(spans)
    return Verdict(first, first, old_doubt=WAITING, new_doubt=WAITING, waits=True, may_settle=may_settle)


def _unseen(doubtful: int, *, may_settle: bool = False) -> Verdict:
    return Verdict(0, 0, old_doubt=UNSEEN, new_doubt=UNSEEN, doubtful=doubtful, may_settle=may_settle)


def _fallen_once(trace: Trace, turn: Turn, fall: int, movements: range, *, is_in_parts: bool) -> Verdict:
    """Take a fall for the reset, unless growth may hide that, or a part of it."""
    spans, use = trace.spans, _use_since(trace, turn, fall, movements)
    if use is not None:
        unseen = (spans[use].start, spans[fall].end)
        # Its balance stood still, but may later be seen to move with the costs.
        waits = fall in trace.spent and not trace.is_gone and (trace.valued_at or turn.at) < turn.closes
        return Verdict(
            fall,
            fall,
            restarts=True,
            old_doubt=REFUND,
            unseen=unseen,
            sure=use,
            waits=waits,
            may_settle=waits,
        )
    shows_more = trace.values[fall] > ZERO  # perhaps what a part that started again before was used for

    def may_hide(place: int) -> bool:
        is_unclear = not trace.is_exact(place) or (place < fall and shows_more)
        return trace.is_more_spent(place) or (is_in_parts and is_unclear)

    hiding = [place for place in movements if place != fall and may_hide(place)]
    # What it shows may belong to a part that has not been reset yet.
    is_left = is_in_parts and trace.value > ZERO and (trace.valued_at or turn.at) < turn.closes
    if not hiding and not is_left:
        return Verdict(fall, fall, restarts=True, unseen=(spans[fall].start, spans[fall].end))
    places = sorted([*hiding, fall])
    return Verdict(
        fall,
        fall,
        restarts=True,
        old_doubt=PARTS,
        new_doubt=PARTS if is_left else "",  # later the counter has only the new month's
        unseen=(spans[places[0]].start, spans[places[-1]].end),
        sure=movements[0] if movements[0] < fall else None,  # growth may be the new month's
        doubtful=len(spans) if is_left else 0,
        waits=is_left and not trace.is_gone,
        may_settle=is_left and not hiding and not trace.is_gone,
    )


def _use_since(trace: Trace, turn: Turn, fall: int, movements: range) -> int | None:
    """
    Return the first use before a fall in which the counter may have started again unseen.

    Then the fall may be a refund, unless the balance shows that it is the reset. Use since the assumed turn
    may hide a reset if it begins at 0, or in any case if the fall comes after all zones have turned; then
    so may use from 0 while they turn.
    """
    spent = trace.spent.get(fall)
    if spent or (spent is not None and trace.has_moving_balance):
        return None
    return _first_use(trace, turn, range(movements[0], fall), trace.spans[fall].start)


def _first_use(trace: Trace, turn: Turn, movements: range, valued_at: datetime) -> int | None:
    is_late = valued_at >= turn.closes  # the last value before the fall
    for place in movements:
        span, before = trace.spans[place], trace.before(place)
        is_since = span.end > turn.at
        if before == ZERO and (is_since or (is_late and span.start >= turn.opens)):
            return place
        if is_since and is_late and not trace.is_exact(place):
            return place
    return None


def _fallen_in_doubt(trace: Trace, falls: list[int], movements: range) -> Verdict:
    """Take the old month's minimum: the smallest value that a reset may have removed."""
    spans, latest = trace.spans, falls[-1]
    doubt = AGAIN if len(falls) > 1 else REFUND
    is_below = trace.values[latest] < ZERO
    ends = falls if doubt == AGAIN and not is_below else [*falls, latest + 1]
    end = min(ends, key=trace.before)
    unseen = (spans[falls[0]].start, spans[latest].end)
    sure = next((place for place in movements if place not in falls), end)  # growth may be the new month's
    return Verdict(
        end,
        latest if is_below else latest + 1,
        restarts=is_below,  # below 0 it also lowers the new month
        old_doubt=doubt,
        new_doubt=doubt,
        unseen=unseen,
        sure=sure if sure < end else None,
    )


def _grown(trace: Trace, turn: Turn, first: int, last: int) -> Verdict:
    """Judge an account whose values only grew: that may hide a reset unless the balance excludes it."""
    spans, before = trace.spans, trace.before(first)
    is_used_since = spans[last - 1].start >= turn.closes  # by then the counter has started again
    is_hidden = not all(map(trace.is_exact, range(first, last)))
    if not is_hidden and before == ZERO and is_used_since:
        return Verdict(first, first)  # it started again while it was 0
    is_known = not trace.is_older or spans[0].end <= turn.opens  # else it may have started again before that
    is_used_again = is_used_since or last < len(spans)
    if not is_hidden and before > ZERO and trace.is_gone and is_known and not is_used_again:
        return Verdict(last, last)  # it was gone before its counter started again
    doubt, unseen = HIDDEN if is_hidden else WAITING, (spans[first].start, spans[last - 1].end)
    if is_hidden and is_used_since:
        return Verdict(first, last - 1, restarts=True, old_doubt=doubt, unseen=unseen)
    waits = not is_used_since and not trace.is_gone
    may_settle = waits and last == len(spans) and _may_fall(trace, turn, range(first, last))
    is_seen_before = trace.first <= spans[first].start and spans[last - 1].end > turn.at
    if before == ZERO and (is_seen_before or spans[last - 1].end >= turn.closes):
        # Shown, for it is in no other month's figure.
        begin, doubtful = first, last
    else:
        begin, doubtful = last, 0
    return Verdict(
        first,
        begin,
        old_doubt=doubt,
        new_doubt=doubt,
        unseen=unseen,
        doubtful=doubtful,
        waits=waits,
        may_settle=may_settle,
    )


def _may_fall(trace: Trace, turn: Turn, movements: range) -> bool:
    """Return whether a fall that comes next would be the reset for certain."""
    valued_at = trace.valued_at or turn.at
    return trace.has_moving_balance or _first_use(trace, turn, movements, valued_at) is None


def _is_explained(trace: Trace, fall: int) -> bool:
    """
    Return whether the balance allows a fall to be the reset: it fell by at least what the counter shows.

    A refund makes it rise. If it stands still, that means something only if it moves with the costs at all.
    Falls to or from below 0 are never explained: a refund leads there, and both use and a reset lead out.
    """
    spent, shown = trace.spent.get(fall), trace.values[fall]
    if shown < ZERO or trace.before(fall) < ZERO:
        return False
    if spent is None:
        return True
    if spent == ZERO:
        return shown == ZERO or not trace.has_moving_balance
    return spent >= shown
