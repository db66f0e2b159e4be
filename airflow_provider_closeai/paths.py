"""Normalises the paths that users give."""

from __future__ import annotations

import os
import re
from typing import Any

_FOLDERS = "Give a folder, for instance '/data/closeai/ledger' or 's3://aws_default@finance/closeai/ledger'"
#: What a template makes of a missing value, and text that was not rendered.
_UNRENDERED = re.compile(r"(None|null)(/|$)|\$[\w{]|.*({{|{%)")
_TEMPLATE = re.compile(r"{{|{%")


def is_template(value: Any) -> bool:
    """Return whether a value is known only when the task runs."""
    return not isinstance(value, str) or bool(_TEMPLATE.search(value))


def path_text(path: Any) -> Any:
    """
    Return a path as text, so that it is templated and shown as written; anything else unchanged.

    :param path: a ``pathlib.Path``, an ``ObjectStoragePath``, text, or a value known only when the task runs.
    """
    if hasattr(type(path), "joinpath"):  # os.fspath of an ObjectStoragePath would lose its store
        return str(path)
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def folder(name: str, value: Any) -> Any:
    """
    Return a folder, or the path of a file, as an ``ObjectStoragePath``.

    :param name: the parameter, for the error.
    :param value: a path, or text; ``~`` is the home folder of the worker's user.
    :raises InvalidParameter: it is not a usable path.
    :raises MissingLibrary: the store's library is not installed.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # here, as it loads fsspec

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
        path.fs  # noqa: B018  # fail here, not at the first file, if its library is missing
    return path


def plain_path(text: str) -> str:
    """
    Strip spaces around a path; turn ``file://~`` into ``~``, and ``file://localhost/`` into ``file:///``.

    :param text: the path as written.
    """
    return re.sub(r"^file://((?=~)|localhost(?=/))", lambda found: "file://" * bool(found[1]), text.strip())
