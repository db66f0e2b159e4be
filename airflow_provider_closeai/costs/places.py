"""Users' folders as path objects. Without Airflow, paths are local."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.errors import MissingLibrary
from airflow_provider_closeai.costs.inputs import require_encodable

#: Opens a path: takes the parameter's name, for the error, and its value.
OpenPath = Callable[[str, Any], Any]

_PROVIDER = (
    "A store needs Airflow's provider with its file system where this runs, for instance pip install "
    "'apache-airflow-providers-amazon[s3fs]'"
)


def local_path(name: str, value: Any) -> Any:
    """
    Return a path object; text is a local path.

    :param name: the parameter, for the error.
    :param value: text, or a ``pathlib.Path``, ``UPath`` or ``ObjectStoragePath``, returned as it is; ``~`` is
        the user's home folder.
    :raises InvalidParameter: it is empty, not a path, or a store's address.
    :raises MissingLibrary: a path object's store needs a library that is not installed.
    """
    if hasattr(type(value), "joinpath"):
        with openable(name, str(value)):
            getattr(value, "fs", None)
            return value.expanduser() if isinstance(value, Path) else value
    text = os.fspath(value).strip() if isinstance(value, str | os.PathLike) else ""
    if not text or "://" in text:
        what = f"{text!r} is not a local folder" if text else "it is empty"
        raise InvalidParameter(
            f"{name}: {what}. Give a folder, for instance '/data/closeai/ledger', or for a store a path "
            "object such as ObjectStoragePath('s3://aws_default@finance/closeai/ledger')."
        )
    with openable(name, text):
        return Path(text).expanduser()


@contextlib.contextmanager
def openable(name: str, text: str) -> Iterator[None]:
    """
    Translate the errors of opening a path.

    :param name: the parameter, for the error.
    :raises InvalidParameter: no folder can have this name, or this kind of store is unknown.
    :raises MissingLibrary: the store's library is not installed.
    """
    if "\0" in require_encodable(name, text):
        raise InvalidParameter(f"{name}: {text!r} holds a NUL character, which no path can have.")
    try:
        yield
    except ImportError as error:
        raise MissingLibrary(
            f"{name}: {text} needs a library that is not installed here: {error}. {_PROVIDER}."
        ) from error
    except (RuntimeError, ValueError) as error:  # unknown home folder; unknown kind of store
        raise InvalidParameter(
            f"{name}: {text!r} cannot be opened: {error}. Correct it. {_PROVIDER}."
        ) from error
