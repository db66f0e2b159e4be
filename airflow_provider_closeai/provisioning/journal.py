"""What was begun: written before a post, so that whoever comes next knows what to wait for.

Of creates there are two journals, each enough to be exact with, and together faster: this host's, which every
task here can read, and the task's own, where Airflow keeps one for all its tries (task state store, Airflow
3.3). Of prices there is this host's.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Container, Iterable, Mapping
from decimal import Decimal

import msgspec

from airflow_provider_closeai.client.cache import Store
from airflow_provider_closeai.client.models import SubAccount

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """
    The last thing that was begun.

    :param at: when (epoch seconds).
    :param task: by which task, over all its tries.
    :param before: ids that were there before its first post.
    :param posted: False: it has only looked so far.
    :param settled: the listing of one base has shown all of it since.
    """

    at: float
    task: str
    before: tuple[int, ...] = ()
    posted: bool = True
    settled: bool = False


class Journal:
    """
    Says what is in doubt when a try begins, and notes what the try does.

    :param host: this host's entry for the alias.
    :param own: the task's own entry, where there is such a store.
    :param task: names the task over all its tries.
    :param first_try: False when an earlier try of the task may have posted.
    :param settle: seconds after which every base's listing shows what was created.
    :param deadline: seconds that a post may be on its way after it was noted: it may have to wait first.
    """

    def __init__(
        self, host: Store, own: Store | None, task: str, first_try: bool, settle: float, deadline: float
    ) -> None:
        self._host = host
        self._own = own
        self._task = task
        here = _read(host)
        mine = _read(own) if own is not None and not first_try else None

        def recent(entry: Entry) -> bool:
            return abs(time.time() - entry.at) < settle + (0.0 if entry.settled else deadline)

        begun = not first_try and (mine is None or (mine.posted and (not mine.settled or recent(mine))))
        #: Whether something may be on its way that the listing does not show yet.
        self.in_doubt = begun or (here is not None and here.posted and recent(here))
        #: Ids that were there before the task's first try; ``None`` where that is not known.
        self.before: frozenset[int] | None = None
        if not first_try:
            for entry in (mine, here):
                if entry is not None and entry.posted and entry.task == task != "":
                    self.before = frozenset(entry.before)
                    break
        if first_try and own is not None:
            with contextlib.suppress(Exception):  # unwritten, the next try waits as if it had posted
                own.write(self._text(posted=False, settled=False))

    def begin_post(self) -> None:
        """Note that a post may have been executed from now on. Raises where the task's own store does."""
        text = self._text(posted=True, settled=False)
        if self._own is not None:
            self._own.write(text)
        self._write_here(text)

    def not_posted(self) -> None:
        """Take back what this try noted: nothing was executed. What was in doubt before it still is."""
        if self.in_doubt:
            return
        text = self._text(posted=False, settled=False)
        self._write_here(text)
        if self._own is not None:
            with contextlib.suppress(Exception):  # unwritten, the next try waits as if it had posted
                self._own.write(text)

    def settled(self) -> None:
        """Note that the listing has shown everything that was posted; another base's may still lag."""
        text = self._text(posted=True, settled=True)
        self._write_here(text)
        if self._own is not None:
            with contextlib.suppress(Exception):  # unwritten, a later try waits once more
                self._own.write(text)

    def _write_here(self, text: str) -> None:
        _write(self._host, text)

    def _text(self, posted: bool, settled: bool) -> str:
        before = tuple(sorted(self.before or ()))
        return msgspec.json.encode(Entry(time.time(), self._task, before, posted, settled)).decode()


class Sent(msgspec.Struct, frozen=True):
    """Prices that were sent: when, a digest of them, to which accounts, and whether a listing showed them."""

    at: float
    prices: str
    ids: tuple[int, ...]
    shown: bool = False


class PriceJournal:
    """
    What was lately sent from this host. A merge into an older state would take back what that changed.

    :param host: this host's entry for the main account.
    :param lag: seconds after which every base's listing shows a change.
    :param deadline: seconds that a change may be on its way after it was noted.
    """

    def __init__(self, host: Store, lag: float, deadline: float) -> None:
        self._host = host
        self._lag = lag
        self._deadline = deadline
        try:
            text = host.read()
            self._sent = [] if text is None else msgspec.json.decode(text, type=list[Sent])
        except Exception as problem:
            log.debug("The journal of prices cannot be read (%s).", type(problem).__name__)
            self._sent = []

    def behind(self, accounts: Iterable[SubAccount]) -> list[int]:
        """
        Return those of the accounts for which the listing may not show yet what was sent last.

        :param accounts: as they are listed.
        """
        last = {account_id: sent.prices for sent in self._recent() for account_id in sent.ids}
        return [each.id for each in accounts if last.get(each.id) not in (None, _digest(each.pricing))]

    def note(self, targets: Mapping[int, Mapping[str, Decimal]], *, shown: bool) -> None:
        """
        Note prices that are sent from now on, or that the listing has shown.

        :param targets: by account id.
        :param shown: whether it has.
        """
        groups: dict[str, list[int]] = {}
        for account_id, pricing in targets.items():
            groups.setdefault(_digest(pricing), []).append(account_id)
        now = time.time()
        self._replace(targets, [Sent(now, prices, tuple(ids), shown) for prices, ids in groups.items()])

    def forget(self, account_ids: Iterable[int]) -> None:
        """
        Take back what was noted: it was not executed.

        :param account_ids: of whom.
        """
        self._replace(set(account_ids), [])

    def _replace(self, account_ids: Container[int], sent: list[Sent]) -> None:
        left = [
            msgspec.structs.replace(old, ids=tuple(each for each in old.ids if each not in account_ids))
            for old in self._recent()
        ]
        self._sent = [old for old in left if old.ids] + sent
        _write(self._host, msgspec.json.encode(self._sent).decode())

    def _recent(self) -> list[Sent]:
        now = time.time()
        return [
            sent
            for sent in self._sent
            if abs(now - sent.at) < self._lag + (0.0 if sent.shown else self._deadline)
        ]


def _digest(pricing: Mapping[str, Decimal | None]) -> str:
    told = sorted((model, None if factor is None else float(factor)) for model, factor in pricing.items())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _write(store: Store, text: str) -> None:
    try:
        store.write(text)
    except OSError as problem:
        log.debug("No note for the next task on this host (%s).", problem)


def _read(store: Store) -> Entry | None:
    try:
        text = store.read()
        return None if text is None else msgspec.json.decode(text, type=Entry)
    except Exception as problem:  # a store that cannot be read proves nothing: as if there were no entry
        log.debug("A journal cannot be read (%s).", type(problem).__name__)
        return None
