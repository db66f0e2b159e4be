"""Bring the paths and notifiers that DAG authors pass to one form; all else is parsed by the requests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

_FOLDERS = "Give a folder, for instance '/data/closeai/ledger' or 's3://aws_default@finance/closeai/ledger'"
_TEMPLATE = re.compile(r"{{|{%")


def path_text(path: Any) -> Any:
    """Return a path as text, so that it is templated and shows as it was written; anything else as it is."""
    if hasattr(type(path), "joinpath"):  # os.fspath of an ObjectStoragePath would lose its store
        return str(path)
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def is_template(value: Any) -> bool:
    """Return whether only the running task knows the value."""
    return not isinstance(value, str) or bool(_TEMPLATE.search(value))


def folder(name: str, value: Any) -> Any:
    """Return a folder, or the path of a file, as an ``ObjectStoragePath``."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # not before: it loads fsspec

    from airflow_provider_closeai.client.errors import InvalidParameter

    text = path_text(value)
    if text is None or (isinstance(text, str) and not text.strip()):
        raise InvalidParameter(f"{name}: it is empty. {_FOLDERS}.")
    if not isinstance(text, str):
        raise InvalidParameter(f"{name}: {text!r} is not a folder. {_FOLDERS}.")
    text = plain_path(text)
    local = os.path.expanduser(text)
    if local.startswith("~"):
        raise InvalidParameter(f"{name}: {text!r}: this worker knows no such user. Give the full path.")
    return ObjectStoragePath(local)


def plain_path(text: str) -> str:
    """Return a path without spaces around it, and ``file://~`` as ``~``."""
    return re.sub(r"^file://(?=~)", "", text.strip())


def notifiers(value: Any) -> list[Any]:
    """Return notifiers as a list."""
    if value is None:
        return []
    is_many = isinstance(value, Iterable) and not isinstance(value, str) and not hasattr(value, "notify")
    return list(value) if is_many else [value]


def require_notifiers(found: Iterable[Any]) -> None:
    """Check that each is a notifier."""
    for one in found:
        if not callable(getattr(one, "notify", None)):
            from airflow_provider_closeai.client.errors import InvalidParameter

            raise InvalidParameter(
                f"notifiers: {type(one).__name__} is not a notifier. Give objects of Airflow's notifiers, "
                "for instance SmtpNotifier(...)."
            )
