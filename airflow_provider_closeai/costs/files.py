"""Files that appear whole or not at all, in a local folder or in an object store."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from airflow_provider_closeai.costs.errors import NotWritten


@contextlib.contextmanager
def whole(target: Any) -> Iterator[IO[bytes]]:
    """
    Open a file for writing. It appears under its name when all of it is written; an error leaves none.

    :param target: a ``pathlib.Path``, or Airflow's ``ObjectStoragePath``.
    :raises NotWritten: the folder or the store does not take it.
    """
    try:
        if getattr(target, "protocol", "") in ("", "file", "local"):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            try:
                with partial.open("wb") as file:
                    yield file
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            return
        # fsspec stores what was written before an error as if it were all. No folder is made: s3fs would make
        # a bucket whose name was mistyped.
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            with target.open("wb") as stored:
                shutil.copyfileobj(file, stored)
    except OSError as error:
        raise NotWritten(
            f"{target} could not be written: {error}. Look whether its folder or bucket is there, and "
            "whether this worker and the connection in its address may write there. A retry is safe."
        ) from error
