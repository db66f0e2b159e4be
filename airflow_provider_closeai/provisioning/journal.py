"""Notes each write before it is sent, so that the next task knows what to wait for.

Creates have two journals; each alone makes them exact, both together make them faster: this host's, which all
tasks here can read, and the task's own, if Airflow keeps one for all its tries (task state store, Airflow
3.3). Prices have this host's only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from airflow_provider_closeai.local_state.clock import Clock
from airflow_provider_closeai.local_state.stores import Store
from airflow_provider_closeai.provisioning.errors import not_noted
from airflow_provider_closeai.provisioning.steps import Earlier

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Limits(msgspec.Struct, frozen=True):
    """
    How long things may take, in seconds.

    :param settle: until every base lists a change.
    :param max_late: from sending a request until the platform has executed it or never will.
    :param leave_within: from noting a call until it is sent: it may have to connect or wait first.
    """

    settle: float
    max_late: float
    leave_within: float


class Entry(msgspec.Struct, frozen=True):
    """
    The last create that began under an alias.

    :param at: when, by a counter that keeps running in suspend.
    :param task: the task, over all its tries.
    :param before: ids that existed before its first post.
    :param posted: False: it has only looked so far.
    :param settled: the listing of one base has shown all of it since.
    :param counter: the counter's name. An entry of another counter may be as new as now.
    """

    at: float
    task: str
    before: tuple[int, ...] = ()
    posted: bool = True
    settled: bool = False
    counter: str = ""


def over(entry: Entry, *, now: float, counter: str, limits: Limits, is_gone: bool) -> float:
    """
    Return when all of an entry's posts have been executed and are listed by every base.

    :param now: the time, by this process's counter.
    :param counter: that counter's name.
    :param is_gone: its sender sends nothing more.
    """
    at = min(entry.at, now) if entry.counter == counter else now
    if entry.settled:
        return at + limits.settle
    left_by = at + limits.leave_within
    return (min(left_by, now) if is_gone else left_by) + limits.max_late + limits.settle


def believe_from(
    here: Entry | None,
    own: Entry | None,
    *,
    is_retry: bool,
    now: float,
    limits: Limits,
    counter: str = "",
    since: float | None = None,
) -> float | None:
    """
    Return the time from which absence may be believed; ``None`` if nothing was sent, or long ago.

    :param here: this host's entry. Its sender is gone: it held the lock that is held here now.
    :param own: a retry's own entry, if it can be read. The earlier try may still run on another host.
    :param is_retry: an earlier try of the task may have posted, perhaps on another host.
    :param since: when the listing that shows absence began; ``None``: not before now.
    """
    ends = functools.partial(over, now=now, counter=counter, limits=limits)
    times = []
    if here is not None and here.posted:
        times.append(ends(here, is_gone=True))
    if is_retry and own is None:
        times.append(now + limits.leave_within + limits.max_late + limits.settle)
    elif own is not None and own.posted:
        times.append(ends(own, is_gone=own == here))
    seen = now if since is None else since
    return max((time for time in times if time > seen), default=None)


class CreateJournal:
    """
    An alias's journals for one try.

    :param here: this host's store.
    :param own: the task's own store, if there is one.
    :param task: names the task over all its tries.
    :param is_retry: an earlier try may have posted.
    :param since: see :func:`believe_from`.
    """

    def __init__(
        self,
        here: Store,
        own: Store | None,
        *,
        task: str,
        is_retry: bool,
        limits: Limits,
        clock: Clock,
        since: float | None = None,
    ) -> None:
        self._here, self._own = here, own
        self._task = task
        self._clock = clock
        self._there = there = _read(here, Entry)
        self._mine = mine = _read(own, Entry) if own is not None and is_retry else None
        self._believe_from = believe_from(
            there,
            mine,
            is_retry=is_retry,
            now=clock.monotonic(),
            limits=limits,
            counter=clock.counter,
            since=since,
        )
        posted = [each for each in (there, mine) if each is not None and each.posted]
        own_posts = (each for each in reversed(posted) if is_retry and each.task == task != "")
        #: What earlier posts left; ``None``: nothing was posted recently.
        self.earlier: Earlier | None = None
        if posted or self._believe_from is not None:
            self.earlier = Earlier(
                believe_from=self._believe_from,
                before=next((each.before for each in own_posts), None),
                is_open=any(not each.settled for each in posted),
            )
        if not is_retry:
            self._mine = self._entry((), posted=False)
            self._write_own(self._mine)

    def begin_post(self, before: Collection[int]) -> None:
        """
        Note that a post may be executed from now on.

        :param before: ids that existed before the task's first post.
        :raises SupervisorGone: according to the task's own store, Airflow has abandoned this process.
        :raises NotNoted: the task's own store cannot be written.
        """
        entry = self._entry(before)
        if self._own is not None:
            try:
                self._own.write(_text(entry))
            except Exception as problem:
                raise not_noted("The task's own note could not be written", problem) from None
        _write(self._here, entry)

    def not_posted(self, before: Collection[int]) -> None:
        """Restore what was noted before this try: nothing that it sent was executed."""
        nothing = None if self._believe_from is not None else self._entry(before, posted=False)
        if (here := self._there or nothing) is not None:
            _write(self._here, here)
        if (mine := self._mine or nothing) is not None:
            self._write_own(mine)

    def settled(self, before: Collection[int]) -> None:
        """Note that a listing has shown everything that was posted; other bases may still lag."""
        entry = self._entry(before, settled=True)
        _write(self._here, entry)
        self._write_own(entry)

    def _entry(self, before: Collection[int], *, posted: bool = True, settled: bool = False) -> Entry:
        at, counter = self._clock.monotonic(), self._clock.counter
        return Entry(at, self._task, tuple(sorted(before)), posted, settled, counter)

    def _write_own(self, entry: Entry) -> None:
        if self._own is not None:
            with contextlib.suppress(Exception):  # then a later try waits as if nothing were proven
                self._own.write(_text(entry))


class NotedPrices(msgspec.Struct, frozen=True):
    """
    Prices that were sent.

    :param at: when, by a counter that keeps running in suspend.
    :param counter: the counter's name. If it is another one, ``epoch`` counts.
    :param epoch: when, in seconds since the epoch.
    :param prices: their digest.
    :param ids: the accounts that got them.
    :param shown: a listing has shown them.
    :param may_come: an earlier attempt may still be executed, and undo what others set.
    """

    at: float
    counter: str
    epoch: float
    prices: str
    ids: tuple[int, ...]
    shown: bool
    may_come: bool


class PriceJournal:
    """
    Prices sent recently from this host. A merge into an older state would undo them.

    :param here: this host's entry for the main account.
    :param limits: how long things may take.
    """

    def __init__(self, here: Store, limits: Limits, clock: Clock) -> None:
        self._here = here
        self._limits = limits
        self._clock = clock
        self._sent = _read(here, list[NotedPrices]) or []
        self._open = self._recent()

    def look(self) -> None:
        """Begin to read accounts: they are read as of now, however long that takes."""
        self._open = self._recent()

    def last(self) -> dict[int, NotedPrices]:
        """Return what was sent last to each account and may still be on its way."""
        return {account_id: sent for sent in self._open for account_id in sent.ids}

    def note(
        self, ids: tuple[int, ...], pricing: Mapping[str, Decimal], *, shown: bool, may_come: bool = False
    ) -> None:
        """
        Note prices that are sent to accounts from now on, or that a listing has shown.

        :param may_come: whether an earlier attempt may still be executed.
        """
        at, counter, epoch = self._clock.monotonic(), self._clock.counter, self._clock.now()
        self._replace(ids, [NotedPrices(at, counter, epoch, prices_digest(pricing), ids, shown, may_come)])

    def forget(self, account_ids: Iterable[int]) -> None:
        """Remove notes of prices that were not set."""
        self._replace(account_ids, [])

    def _replace(self, account_ids: Iterable[int], sent: list[NotedPrices]) -> None:
        gone = set(account_ids)
        left = [
            msgspec.structs.replace(old, ids=tuple(each for each in old.ids if each not in gone))
            for old in self._recent()
        ]
        self._sent = [old for old in left if old.ids] + sent
        _write(self._here, self._sent)

    def _recent(self) -> list[NotedPrices]:
        return [each for each in self._sent if self._age(each) < self._lasts(each)]

    def _age(self, sent: NotedPrices) -> float:
        if sent.counter == self._clock.counter:
            return self._clock.monotonic() - sent.at
        return abs(self._clock.now() - sent.epoch)

    def _lasts(self, sent: NotedPrices) -> float:
        limits = self._limits
        if not sent.shown:
            return limits.settle + limits.leave_within + limits.max_late
        return max(limits.settle, limits.max_late) if sent.may_come else limits.settle


def prices_digest(pricing: Mapping[str, Decimal | None]) -> str:
    """Return a hash of prices, the same if they are the same JSON numbers."""
    listed = sorted((model, None if factor is None else float(factor)) for model, factor in pricing.items())
    return hashlib.sha256(repr(listed).encode()).hexdigest()[:16]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _write(store: Store, value: object) -> None:
    try:
        store.write(_text(value))
    except OSError as problem:
        log.debug("No note for the next task on this host (%s).", problem)


def _read(store: Store, kind: type[_T]) -> _T | None:
    try:
        text = store.read()
        return None if text is None else msgspec.json.decode(text, type=kind)
    except Exception as problem:  # unreadable is as if there were no entry
        log.debug("A journal cannot be read (%s).", type(problem).__name__)
        return None
