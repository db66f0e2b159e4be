"""Bring what DAG authors pass to one form: folders, spans of time, texts, notifiers. Zones: costs.months.

They pass objects of the standard library, of Airflow and of pendulum, and what templates make of them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

_FOLDERS = "Give a folder, for instance '/data/closeai/ledger' or 's3://aws_default@finance/closeai/ledger'"
_TEMPLATE = re.compile(r"{{|{%")


def path_text(path: Any) -> Any:
    """
    Return a path as text, so that it is templated and shows as it was written; anything else as it is.

    :param path: a ``pathlib.Path``, an ``ObjectStoragePath``, text, or what only a running task knows.
    """
    if hasattr(type(path), "joinpath"):  # os.fspath of an ObjectStoragePath would lose its store
        return str(path)
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def is_template(value: Any) -> bool:
    """
    Return whether only the running task knows the value.

    :param value: what the DAG author gave.
    """
    return not isinstance(value, str) or bool(_TEMPLATE.search(value))


def folder(name: str, value: Any) -> Any:
    """
    Return a folder, or the path of a file, as an ``ObjectStoragePath``.

    :param name: the parameter, for the error.
    :param value: a path, or text; ``~`` is the home folder of the worker's user.
    :raises InvalidParameter: no such thing.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # not before: it loads fsspec

    from airflow_provider_closeai.client.errors import InvalidParameter

    text = path_text(value)
    if text is None or (isinstance(text, str) and not text.strip()):
        raise InvalidParameter(f"{name}: it is empty. {_FOLDERS}.")
    if not isinstance(text, str):
        raise InvalidParameter(f"{name}: {text!r} is no folder. {_FOLDERS}.")
    text = plain_path(text)
    local = os.path.expanduser(text)
    if local.startswith("~"):
        raise InvalidParameter(f"{name}: {text!r}: this worker knows no such user. Give the whole path.")
    return ObjectStoragePath(local)


def plain_path(text: str) -> str:
    """
    Return a path without spaces around it, and ``file://~`` as ``~``.

    :param text: as it was written.
    """
    return re.sub(r"^file://(?=~)", "", text.strip())


def span(name: str, value: Any) -> timedelta:
    """
    Return a span of time.

    :param name: the parameter, for the error.
    :param value: a ``timedelta``, or a number of seconds.
    :raises InvalidParameter: neither, or below 0.
    """
    from airflow_provider_closeai.client.errors import InvalidParameter

    found = value
    if not isinstance(value, timedelta):
        try:
            is_number = isinstance(value, int | float | Decimal | str) and not isinstance(value, bool)
            found = timedelta(seconds=float(value)) if is_number else None
        except (ValueError, OverflowError):
            found = None
    if found is None or found < timedelta(0):
        raise InvalidParameter(f"{name}: {value!r} is no timedelta of 0 or more, and no number of seconds.")
    return timedelta(seconds=found.total_seconds())  # pendulum's prints in words of its own


def label(name: str, value: Any) -> str:
    """
    Return a short text, such as a number that stands for a name.

    :param name: the parameter, for the error.
    :param value: text or a number.
    :raises InvalidParameter: empty, or anything else.
    """
    text = str(value).strip() if isinstance(value, str | int | float | Decimal) else ""
    if not text or isinstance(value, bool):
        from airflow_provider_closeai.client.errors import InvalidParameter

        raise InvalidParameter(f"{name}: {value!r} is no text. Give a name, for instance 'CloseAI'.")
    return text


def rules(name: str, source: Any) -> Any:
    """
    Return owners or budgets: read from their file where a path is given, or from JSON text.

    :param name: the parameter, for the error.
    :param source: a mapping, a list, JSON text of either, or the path of a YAML or CSV file.
    :raises InvalidParameter: the file or the JSON cannot be read.
    """
    from airflow_provider_closeai.client.errors import InvalidParameter

    text = path_text(source)
    if not isinstance(text, str):
        return text
    if text.strip()[:1] in ("{", "["):
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:
            raise InvalidParameter(
                f"{name}: it is text that is not JSON. In a template write "
                f"{{{{ params.{name} | tojson }}}}, or give a mapping whose values are templates."
            ) from None
    if not text.strip():
        raise InvalidParameter(f"{name}: it is empty. Give a mapping, the path of a file, or None.")
    from airflow_provider_closeai.costs.owners import read_rules

    try:
        data = folder(name, text).read_bytes()
    except OSError as error:
        raise InvalidParameter(f"{name}: the file {text} cannot be read: {error}.") from error
    return read_rules(name, plain_path(text), data)


def notifiers(value: Any) -> list[Any]:
    """
    Return notifiers as a list.

    :param value: one, several, or ``None``.
    """
    if value is None:
        return []
    is_many = isinstance(value, Iterable) and not isinstance(value, str) and not hasattr(value, "notify")
    return list(value) if is_many else [value]


def require_notifiers(found: Iterable[Any]) -> None:
    """
    Check that each can be told something.

    :param found: what was given.
    :raises InvalidParameter: one cannot.
    """
    for one in found:
        if not callable(getattr(one, "notify", None)):
            from airflow_provider_closeai.client.errors import InvalidParameter

            raise InvalidParameter(
                f"notifiers: {type(one).__name__} is no notifier. Give objects of Airflow's notifiers, for "
                "instance SmtpNotifier(...)."
            )
