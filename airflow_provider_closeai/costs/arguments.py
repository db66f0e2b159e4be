"""Reads users' arguments: spans of time, flags, labels, URLs, and files of owners and budgets."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.inputs import cell_text, short_repr
from airflow_provider_closeai.costs.places import OpenPath
from airflow_provider_closeai.costs.tables import long_cells
from airflow_provider_closeai.costs.texts import plain_text
from airflow_provider_closeai.roster.document import load_json, parse_text
from airflow_provider_closeai.roster.owners import budgets_of, is_roster, owners_of
from airflow_provider_closeai.roster.reading import read_roster

EVEN_IF_UNCERTAIN = "even if uncertain"


def parse_span(name: str, value: Any) -> timedelta:
    """
    Return a span of time.

    :param name: the parameter, for the error.
    :param value: a ``timedelta``, or a number of seconds.
    :raises InvalidParameter: it is neither, or negative.
    """
    seconds: Any = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, int | float | Decimal | str) and not isinstance(seconds, bool)
    try:
        found = timedelta(seconds=float(seconds)) if is_number else None  # pendulum's prints differently
    except (ValueError, OverflowError):
        found = None
    if found is None or found < timedelta(0):
        raise InvalidParameter(
            f"{name}: {short_repr(value)} is neither a timedelta of 0 to 999,999,999 days nor a number of "
            "seconds."
        )
    return found


def parse_flag(name: str, value: Any) -> bool:
    """
    Return a boolean; a template gives ``"True"`` or ``"false"``.

    :param name: the parameter, for the error.
    :param value: a boolean, or text of one.
    :raises InvalidParameter: anything else.
    """
    found = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InvalidParameter(f"{name} is {short_repr(value)}: give True or False. Nothing was sent.")
    return found


def parse_close(value: Any) -> tuple[bool, bool]:
    """
    Return whether to close a month, and whether even while its end is in doubt.

    :param value: a boolean or text of one, or ``even if uncertain``.
    :raises InvalidParameter: anything else.
    """
    if isinstance(value, str):
        text = value.strip().lower().replace("_", " ").replace("-", " ")
        if text == EVEN_IF_UNCERTAIN:
            return True, True
        if text not in ("true", "false"):
            raise InvalidParameter(
                f"close is {short_repr(value)}: give True, False, or '{EVEN_IF_UNCERTAIN}'. Nothing was sent."
            )
    return parse_flag("close", value), False


def parse_label(name: str, value: Any) -> str:
    """
    Return a label as text; a number may serve as a name.

    :param name: the parameter, for the error.
    :param value: text or a number.
    :raises InvalidParameter: it is empty, or anything else.
    """
    is_given = isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)
    text = cell_text(name, value).strip() if is_given else ""
    if not text:
        raise InvalidParameter(f"{name}: {short_repr(value)} is not text. Give a short one.")
    return text


def parse_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """
    Return one of the allowed words.

    :param name: the parameter, for the error.
    :raises InvalidParameter: another one.
    """
    found = value.strip() if isinstance(value, str) else value
    if found not in choices:
        raise InvalidParameter(
            f"{name}: {short_repr(value)} is not one of {', '.join(choices)}. Nothing was written."
        )
    return choices[choices.index(found)]  # plain text, even for a member of an Enum


def parse_public_url(value: object) -> str | None:
    """
    Return the URL of the output folder, without a final slash.

    :param value: ``https://...``; ``None``, or empty as from a template: the folder has no URL.
    :raises InvalidParameter: it is not such a URL, or has a password or a query, which may be secret.
    """
    text = value.strip() if isinstance(value, str) else value
    if text is None or not text:
        return None
    is_written = isinstance(text, str) and text.isprintable() and " " not in text
    try:
        parts = urlsplit(str(text) if is_written else "")
        parts.port  # noqa: B018  # a port above 65535 is an error
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameter(
            "public_url: it is not a web address. Give the one under which a browser finds the output "
            "folder, for instance 'https://reports.example.com/closeai'."
        )
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidParameter(
            "public_url: it has a name, a password, a query or a fragment. The link is stored in plain text "
            "and anyone who sees the task sees it: give a plain address, which asks for a login itself."
        )
    return parts.geturl().rstrip("/")


def load_rules(name: str, source: Any, open_path: OpenPath) -> Any:
    """
    Return owners or budgets; read them if given as a path or JSON text.

    :param name: the parameter, for the error.
    :param source: a mapping, a list, JSON text of either, the path of a YAML or CSV file, or a roster.
    :raises InvalidParameter: the file or the JSON cannot be read.
    """
    if not isinstance(source, str | os.PathLike) and not hasattr(type(source), "joinpath"):
        return _of_roster(name, source) if is_roster(source) else source
    text = str(source)
    if text.strip()[:1] in ("{", "["):
        try:
            found = load_json(text)
            return _of_roster(name, text) if is_roster(found) else found
        except ValueError as error:
            raise InvalidParameter(
                f"{name}: it is text that is not JSON ({error}). In a template write "
                f"{{{{ params.{name} | tojson }}}}, or give a mapping whose values are templates. "
                "tojson sorts a mapping's keys: rules whose order counts go into a list."
            ) from None
    if not text.strip():
        raise InvalidParameter(f"{name}: it is empty. Give a mapping, the path of a file, or None.")
    path = open_path(name, source)
    try:
        data = path.read_bytes()
    except Exception as error:  # an OSError, or any error of a store's library
        raise InvalidParameter(
            f"{name}: the file {text} cannot be read: {error}. Is it there for this worker, and may it "
            "read it?"
        ) from error
    return read_rules(name, text.strip(), data)


def read_rules(name: str, path: str, data: bytes) -> object:
    """
    Read a YAML or CSV file of owners or budgets, every value as text.

    :param name: the parameter, for the error.
    :param path: its path; the extension decides the format.
    :raises InvalidParameter: it cannot be read.
    """
    if not path.endswith((".yaml", ".yml", ".csv", ".json")):
        raise InvalidParameter(f"{name}: {path} ends neither in .yaml, .yml, .json nor .csv.")
    try:
        text = _decode(data)
        found = list(_csv_rows(text)) if path.endswith(".csv") else _yaml(text)
    except Exception as error:  # any error of the file's parser
        raise InvalidParameter(f"{name}: the file {path} cannot be read: {error}.") from error
    if not found:
        raise InvalidParameter(f"{name}: the file {path} has no rules.")
    if is_roster(found):  # read again with its own reader, which guesses nothing
        return _of_roster(name, parse_text(f"roster {path}", text, is_json=path.endswith(".json")))
    return found


def _of_roster(name: str, source: Any) -> Any:
    roster = read_roster(source)
    return owners_of(roster) if name == "owners" else budgets_of(roster)


def _csv_rows(text: str) -> Iterator[dict[str, str]]:
    """Read a table from a spreadsheet; skip rows of empty cells."""
    lines = csv.reader(io.StringIO(text), strict=True)
    with long_cells():
        header = next(lines, [])
        if len(header) == 1 and re.search("[;\t]", header[0]):
            raise ValueError(f"its first line is {header[0]!r}: save it with commas between the cells")
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise ValueError(f"its first line has {twice[0]!r} twice")
        for cells in lines:
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                raise ValueError(f"line {lines.line_num} has more cells than the first line has names")
            yield {key: plain_text(cell) for key, cell in zip(header, cells, strict=False) if key}


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8. Save it as UTF-8; in Excel that is 'CSV UTF-8'") from error


def _yaml(text: str) -> object:
    """Read YAML, all scalars but null as text, so that no amount becomes a float; refuse duplicate keys."""
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.BaseLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value]
            if twice := [key for key in names if names.count(key) > 1]:
                raise ValueError(f"{twice[0]!r} is there twice{node.start_mark}")
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: Any) -> Any:
            is_nothing = node.style is None and node.value in ("", "~", "null", "Null", "NULL")
            return None if is_nothing else super().construct_scalar(node)

    return yaml.load(text, Loader=Loader)  # noqa: S506  # BaseLoader makes only text
