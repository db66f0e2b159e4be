"""What was begun under an alias: written before a post, so that whoever comes next knows what to wait for.

Two journals, each enough to be exact with, and together faster: this host's, which every task here can read,
and the task's own, where Airflow keeps one for all its tries (task state store, Airflow 3.3).
"""

from __future__ import annotations

import contextlib
import logging
import time

import msgspec

from airflow_provider_closeai.client.cache import Store

log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """
    The last thing that was begun.

    :param at: when (epoch seconds).
    :param task: by which task, over all its tries.
    :param before: ids that were there before its first post.
    :param posted: False: it has only looked so far.
    :param settled: the listing has shown all of it since.
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
    :param settle: seconds after which a post of another task here is no longer in doubt.
    """

    def __init__(self, host: Store, own: Store | None, task: str, first_try: bool, settle: float) -> None:
        self._host = host
        self._own = own
        self._task = task
        here = _read(host)
        mine = _read(own) if own is not None and not first_try else None
        recent = here is not None and here.posted and not here.settled and abs(time.time() - here.at) < settle
        begun = not first_try and (mine is None or (mine.posted and not mine.settled))
        #: Whether something may be on its way that the listing does not show yet.
        self.in_doubt = begun or recent
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

    def settled(self) -> None:
        """Note that the listing has shown everything that was posted."""
        text = self._text(posted=True, settled=True)
        self._write_here(text)
        if self._own is not None:
            with contextlib.suppress(Exception):  # unwritten, a later try waits once more
                self._own.write(text)

    def _write_here(self, text: str) -> None:
        try:
            self._host.write(text)
        except OSError as problem:
            log.debug("No note for the next task on this host (%s).", problem)

    def _text(self, posted: bool, settled: bool) -> str:
        before = tuple(sorted(self.before or ()))
        return msgspec.json.encode(Entry(time.time(), self._task, before, posted, settled)).decode()


def _read(store: Store) -> Entry | None:
    try:
        text = store.read()
        return None if text is None else msgspec.json.decode(text, type=Entry)
    except Exception as problem:  # a store that cannot be read proves nothing: as if there were no entry
        log.debug("A journal cannot be read (%s).", type(problem).__name__)
        return None
