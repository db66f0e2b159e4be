"""Claims across hosts: runs the bakery (:mod:`.bakery`) over a shared store of names."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from airflow_provider_closeai.local_state.bakery import Add, Held, Look, Lost, Remove, Wait, contender
from airflow_provider_closeai.local_state.clock import Clock

#: Seconds after which a silent claimant counts as dead.
LEASE = 30.0
#: Airflow's page size for names; more than one page would not show one moment.
MAX_NAMES = 1000
#: Seconds after which whoever sees a name removes it. Longer than the clocks of a deployment differ: a wrong
#: time zone makes up to 14 hours.
KEEP = 16 * 3600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class NameStore(Protocol):
    """Names that all hosts share, of letters, digits and ``._:-``. Methods raise if they fail."""

    def list(self, prefix: str) -> Sequence[str]:
        """Return all names with this prefix, as of one moment."""

    def add(self, name: str) -> None:
        """Write a name. Raise if it may not have been written."""

    def remove(self, name: str) -> None:
        """Remove a name; a missing one is not an error."""


class StoreFailed(Exception):
    """The store of names does not work."""


class ClaimLost(Exception):
    """A claim was silent for too long or was removed: others may hold it."""


def list_names(store: NameStore, prefix: str) -> list[str]:
    """
    Return names without their prefix, as of one moment.

    :raises StoreFailed: they cannot be listed at once.
    """
    try:
        names = [name[len(prefix) :] for name in store.list(prefix) if name.startswith(prefix)]
    except Exception as problem:
        raise StoreFailed("cannot be listed") from problem
    if len(names) >= MAX_NAMES:
        raise StoreFailed(f"has {len(names)} names that begin with {prefix!r}, {MAX_NAMES} are too many")
    return names


def add_name(store: NameStore, name: str) -> None:
    """
    Write a name.

    :raises StoreFailed: it may not have been written.
    """
    try:
        store.add(name)
    except Exception as problem:
        raise StoreFailed("cannot be written") from problem


def remove_names(store: NameStore, names: Iterable[str]) -> None:
    """Try to remove names."""
    for name in names:
        with contextlib.suppress(Exception):  # the lease's end or another claimant's cleaning removes it
            store.remove(name)


class Claim:
    """
    Exclusive ownership of a set of things, across all hosts that share the store.

    :param prefix: begins the names of all claims that may overlap.
    :param elements: what is claimed, in lower-case hexadecimal digits.
    """

    def __init__(self, store: NameStore, prefix: str, elements: Collection[str], clock: Clock) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock
        claimant = f"{int(clock.now()):010x}{secrets.token_hex(6)}"
        self._state = contender(claimant, elements, LEASE)
        self._under_way: tuple[str, ...] = ()  # a name that may have been written

    def acquire(self, seconds: float) -> bool:
        """
        Wait until the claim is held; return whether it is.

        :param seconds: how long to wait at most.
        :raises StoreFailed: the store does not work.
        :raises ClaimLost: see there; make a new claim.
        """
        end, pause = self._clock.monotonic() + seconds, _FIRST_PAUSE
        while True:
            step = self._advance()
            if isinstance(step, Held):
                return True
            if self._clock.monotonic() >= end:
                return False
            self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._state = self._state.waited()

    def keep(self) -> None:
        """
        Write a heartbeat if it is due. Call this often.

        :raises StoreFailed: the store does not work.
        :raises ClaimLost: see there.
        """
        self._advance()

    def check(self) -> float:
        """
        Check that the claim is still held.

        :returns: until when it is, by the clock's counter.
        :raises StoreFailed: the store does not work.
        :raises ClaimLost: see there.
        """
        self._advance()
        self._look()
        self._advance()
        return self._state.until

    def release(self) -> None:
        """Try to remove all that was written."""
        names = [*self._under_way, *reversed(self._state.names)]
        remove_names(self._store, [self._prefix + name for name in names])

    def _advance(self) -> Held | Wait:
        while True:
            step = self._state.next_step(self._clock.monotonic())
            if isinstance(step, Add):
                began = self._clock.monotonic()
                self._under_way = (step.name,)
                add_name(self._store, self._prefix + step.name)
                self._under_way = ()
                self._state = self._state.added(step.name, began, self._clock.monotonic())
            elif isinstance(step, Remove):
                remove_names(self._store, [self._prefix + name for name in step.names])
                self._state = self._state.removed(step.names)
            elif isinstance(step, Look):
                self._look()
            elif isinstance(step, Lost):
                raise ClaimLost
            else:
                return step

    def _look(self) -> None:
        began = self._clock.monotonic()
        names = list_names(self._store, self._prefix)
        old = [name for name in names if self._is_old(name)]
        remove_names(self._store, [self._prefix + name for name in old])
        names = [name for name in names if name not in old]
        self._state = self._state.looked(names, began, self._clock.monotonic())

    def _is_old(self, name: str) -> bool:
        """Return whether a name was left behind by a killed claimant."""
        began = re.match(r"[0-9a-f]{10}", name)
        return began is not None and abs(self._clock.now() - int(began[0], 16)) > KEEP
