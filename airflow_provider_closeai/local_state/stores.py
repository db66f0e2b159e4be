"""Where one text lies."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import Protocol

from airflow_provider_closeai.local_state.cleaning import clean_now_and_then
from airflow_provider_closeai.local_state.folder import private_directory

#: No short text, such as the cache of bases, is longer: whoever wrote it did not mean it.
MAX_BYTES = 256 * 1024
_MOST_READ = 64 * MAX_BYTES  # when half a million keys were delivered is less; what is longer is cut


class Store(Protocol):
    """Where a text lies. Both methods may raise anything: readers treat that as absent."""

    def read(self) -> str | None:
        """Return the text, ``None`` where there is none."""

    def write(self, text: str) -> None:
        """Replace the text as a whole."""


class FileStore:
    """
    A file of this user on this host. Write it under the lock of the same name only: see :mod:`.cleaning`.

    :param name: file name without its ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self) -> str | None:
        """Return the text; ``None`` where there is no file, or one that others could have written."""
        with contextlib.suppress(FileNotFoundError):
            path = private_directory() / f"{self._name}.json"
            with open(path, encoding="utf-8", opener=_open_safely) as file:
                if _is_private(os.fstat(file.fileno())):
                    return file.read(_MOST_READ)
        return None

    def write(self, text: str) -> None:
        """Replace the file in one step."""
        directory = private_directory()
        descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, directory / f"{self._name}.json")
        except BaseException:
            os.unlink(temporary)
            raise
        clean_now_and_then(directory)


def _open_safely(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _is_private(seen: os.stat_result) -> bool:
    return stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077
