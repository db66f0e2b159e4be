"""Bring the paths that people pass to one form."""

from __future__ import annotations

import os
import re
from typing import Any

_FOLDERS = "Give a folder, for instance '/data/closeai/ledger' or 's3://aws_default@finance/closeai/ledger'"
#: What a template leaves of a value that is not there, and what was not rendered at all.
_UNRENDERED = re.compile(r"(None|null)(/|$)|\$[\w{]|.*({{|{%)")
_TEMPLATE = re.compile(r"{{|{%")


def is_template(value: Any) -> bool:
    """Return whether only the running task knows the value."""
    return not isinstance(value, str) or bool(_TEMPLATE.search(value))


def path_text(path: Any) -> Any:
    """
    Return a path as text, so that it is templated and shows as it was written; anything else as it is.

    :param path: a ``pathlib.Path``, an ``ObjectStoragePath``, text, or what only a running task knows.
    """
    if hasattr(type(path), "joinpath"):  # os.fspath of an ObjectStoragePath would lose its store
        return str(path)
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def folder(name: str, value: Any) -> Any:
    """
    Return a folder, or the path of a file, as an ``ObjectStoragePath``.

    :param name: the parameter, for the error.
    :param value: a path, or text; ``~`` is the home folder of the worker's user.
    :raises InvalidParameter: no such thing.
    :raises MissingLibrary: the store's library is not installed.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # not before: it loads fsspec

    from airflow_provider_closeai.client.errors import InvalidParameter
    from airflow_provider_closeai.costs.places import openable

    text = path_text(value)
    if text is None or (isinstance(text, str) and not text.strip()):
        raise InvalidParameter(f"{name}: it is empty. {_FOLDERS}.")
    if not isinstance(text, str):
        raise InvalidParameter(f"{name}: {text!r} is not a folder. {_FOLDERS}.")
    text = plain_path(text)
    if _UNRENDERED.match(text):
        raise InvalidParameter(
            f"{name}: {text!r} is what a template makes of a value that is not there, or that was not "
            f"rendered. {_FOLDERS}."
        )
    local = os.path.expanduser(text)
    if local.startswith("~"):
        raise InvalidParameter(f"{name}: {text!r}: this worker knows no such user. Give the full path.")
    with openable(name, local):
        path = ObjectStoragePath(local)
        path.fs  # noqa: B018  # not at the first file: its library may be missing
    return path


def plain_path(text: str) -> str:
    """
    Return a path without spaces around it, ``file://~`` as ``~``, and ``file://localhost/`` as ``file:///``.

    :param text: as it was written.
    """
    return re.sub(r"^file://((?=~)|localhost(?=/))", lambda found: "file://" * bool(found[1]), text.strip())
