"""Removes old files from the private folder.

The text ``<name>.json`` is written under the lock ``<name>.lock``, so it is removed under it too, and so is
the lock file itself: a process that had opened it notices once it has the lock (:mod:`.locks`).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from airflow_provider_closeai.local_state.locks import try_path

#: Seconds for which a file is kept: bases are used for at most 7 days, and Airflow retries sooner.
KEEP = 7 * 24 * 3600.0
_EVERY = 3600.0
_MARK = ".cleaned"


def clean_now_and_then(directory: Path) -> None:
    """Clean the folder, at most once an hour over all processes; ignore all failures."""
    mark = directory / _MARK
    with contextlib.suppress(OSError):
        if mark.exists() and abs(time.time() - mark.stat().st_mtime) < _EVERY:
            return
        mark.touch(mode=0o600)
        os.utime(mark)
        clean(directory)


def clean(directory: Path) -> None:
    """Remove files not written for :data:`KEEP` seconds, unless their lock is held."""
    for path in list(directory.iterdir()):
        with contextlib.suppress(OSError):  # another process may have removed it meanwhile
            if not _is_old(path.lstat()):
                continue
            if path.suffix in (".json", ".lock"):
                _remove_under_its_lock(path)
            elif path.name.startswith(".new-"):
                path.unlink()


def _is_old(seen: os.stat_result) -> bool:
    return time.time() - seen.st_mtime > KEEP


def _remove_under_its_lock(path: Path) -> None:
    lock = path.with_suffix(".lock")
    descriptor = try_path(lock)
    if descriptor is None:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            text = path.with_suffix(".json")
            if _is_old(text.lstat()):
                text.unlink()
        lock.unlink()
    finally:
        os.close(descriptor)
