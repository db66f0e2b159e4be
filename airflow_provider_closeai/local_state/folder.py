"""The private folder, which only this user can read or write."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)


def private_directory() -> Path:
    """
    Return this user's directory on this host, created if missing.

    :raises PermissionError: somebody else owns it or could write to it.
    """
    directory = f"{tempfile.gettempdir()}/airflow-provider-closeai-{os.geteuid()}"
    try:
        seen = os.lstat(directory)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        seen = os.lstat(directory)
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a directory of this user alone: remove it")
    return Path(directory)


@functools.lru_cache(maxsize=64)
def warn_once(message: str) -> None:
    """Log a warning once per process."""
    log.warning(message)


def reason(problem: Exception) -> str:
    """Describe a store's problem: the system's errors in full, any other by its class only."""
    return str(problem) if isinstance(problem, OSError) else type(problem).__name__
