"""Stores of one text each."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import Protocol

from airflow_provider_closeai.local_state.cleaning import clean_now_and_then
from airflow_provider_closeai.local_state.folder import private_directory

#: The most bytes of a short text, such as the cache of bases; a longer one is not ours.
MAX_BYTES = 256 * 1024
_MOST_READ = 64 * MAX_BYTES  # more than the delivery times of half a million keys; longer texts are cut


class Store(Protocol):
    """A store of one text. Both methods may raise anything: readers treat that as absent."""

    def read(self) -> str | None:
        """Return the text; ``None`` if there is none."""

    def write(self, text: str) -> None:
        """Replace the entire text."""


class FileStore:
    """
    A file of this user on this host. Write it only under the lock of the same name: see :mod:`.cleaning`.

    :param name: the file's name without its extension.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self) -> str | None:
        """Return the text; ``None`` if there is no file, or others could have written it."""
        with contextlib.suppress(FileNotFoundError):
            path = private_directory() / f"{self._name}.json"
            with open(path, encoding="utf-8", opener=_open_safely) as file:
                if _is_private(os.fstat(file.fileno())):
                    return file.read(_MOST_READ)
        return None

    def write(self, text: str) -> None:
        """Replace the file atomically."""
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
