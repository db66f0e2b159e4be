"""Files that appear complete or not at all, in a local folder or in an object store."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from typing import IO, Any

from airflow_provider_closeai.costs.errors import NotWritten


@contextlib.contextmanager
def atomic_write(target: Any, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """
    Open a file for writing. It appears under its name once all is written; after an error there is none.

    :param target: a ``pathlib.Path``, or Airflow's ``ObjectStoragePath``.
    :param durable: sync the local file and its name in the folder to disk.
    :raises NotWritten: it cannot be written.
    """
    if getattr(target, "protocol", "") in ("", "file", "local"):
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")  # unlike other writers'
        try:
            with _translate_errors(target):
                below = next(folder for folder in target.parents if folder.exists())
                target.parent.mkdir(parents=True, exist_ok=True)
                file = partial.open("wb")
            with file:
                yield file
                if durable:
                    with _translate_errors(target):
                        file.flush()
                        os.fsync(file.fileno())
            with _translate_errors(target):
                partial.replace(target)
                if durable:
                    _sync_folders(target.parent, below)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return
    # Sent only when complete: fsspec stores what was written to an open file even after an error. And no
    # folder is made: for a mistyped name s3fs would make a bucket.
    with tempfile.NamedTemporaryFile() as file:
        yield file
        file.flush()
        with _translate_errors(target):
            target.fs.put_file(file.name, target.path)


def _sync_folders(folder: Any, below: Any) -> None:
    """Sync a folder, and the parents that were made for it, to disk."""
    while True:
        number = os.open(str(folder.path if hasattr(folder, "protocol") else folder), os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
        if folder in (below, folder.parent):
            return
        folder = folder.parent


def reason(error: Exception) -> str:
    """Return an error's text for people; except for an OSError, with its class."""
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _translate_errors(target: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # an OSError, or any error of a store's library
        raise NotWritten(
            f"{target} could not be written: {reason(error)}. Look whether its folder or bucket is there, "
            "and whether this worker and the connection in its address may write there. A retry is safe."
        ) from error
