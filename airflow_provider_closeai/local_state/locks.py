"""Locks among this user's processes and threads on one host. They end with their process.

A lock is a file in the private folder, locked with ``flock``. Old files are removed (:mod:`.cleaning`), so
whoever gets a lock checks that its file is still in place, and otherwise tries again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_closeai.local_state.clock import SYSTEM_CLOCK, Clock
from airflow_provider_closeai.local_state.folder import private_directory, reason, warn_once

_held: set[tuple[Path, int]] = set()  # each with the thread that holds it
os.register_at_fork(after_in_child=_held.clear)


@contextlib.contextmanager
def lock(name: str, wait: float, clock: Clock = SYSTEM_CLOCK, *, is_reentrant: bool = True) -> Iterator[bool]:
    """
    Hold a lock; a thread that holds it already may enter again, if it is re-entrant.

    :param wait: the most seconds to wait for it.
    :returns: whether it is held; also True if no lock can be made at all (a read-only disk).
    """
    descriptor: int | None = None
    is_mine = True
    try:
        key = private_directory() / f"{name}.lock", threading.get_ident()
        if not is_reentrant or key not in _held:
            descriptor = _wait_for(key[0], clock.monotonic() + wait, clock)
            is_mine = descriptor is not None
    except OSError as problem:
        warn_once(f"No locks among the processes of this host ({reason(problem)}).")
    if descriptor is None:
        yield is_mine
        return
    _held.add(key)
    try:
        yield True
    finally:
        _held.discard(key)
        os.close(descriptor)


def try_path(path: Path) -> int | None:
    """
    Lock a file without waiting; return ``None`` if anybody holds the lock, this thread included.

    :returns: a descriptor; closing it releases the lock.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_in_place(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed before it was locked: others lock the new one


def _is_in_place(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _wait_for(path: Path, until: float, clock: Clock) -> int | None:
    pause = 0.005
    while True:
        descriptor = try_path(path)
        if descriptor is not None or clock.monotonic() >= until:
            return descriptor
        clock.sleep(pause)
        pause = min(pause * 2, 0.25)
