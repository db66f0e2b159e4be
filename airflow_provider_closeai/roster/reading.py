"""Reads rosters from YAML or JSON files or mappings. Errors name line, field, problem and cure."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path as LocalPath
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.inputs import bad
from airflow_provider_closeai.provisioning.requests import RotateRequest
from airflow_provider_closeai.roster.document import Ambiguous, Document, Path, parse_text, writable
from airflow_provider_closeai.roster.models import Entry, Pricing, Roster, Rotation, owner_pattern

VERSION = 1
TOP_FIELDS = ("version", "owns", "defaults", "accounts", "main_account")
ENTRY_FIELDS = (
    "alias",
    "count",
    "balance",
    "model_pricing",
    "team",
    "cost_center",
    "budget",
    "over_budget",
    "rotate",
    "expires",
)
ROTATE_FIELDS = ("every", "grace", "max_rotate", "from")
_SENT = " Nothing was sent."
_SHOWN = 20
_REQUIRED: Any = object()


def read_roster(source: Any) -> Roster:
    """
    Read a roster.

    :param source: a mapping, or its JSON text; a path object with ``read_bytes`` (``pathlib.Path``,
        ``ObjectStoragePath``) or ``open``; other text is a local path.
    :raises InvalidParameter: it is wrong; a line for each problem names line, field, problem and cure.
    """
    reader = _Reader(_document(source))
    roster = reader.roster()
    if reader.problems:
        more = len(reader.problems) - _SHOWN
        lines = reader.problems[:_SHOWN] + [f"... and {more} more problems."] * (more > 0)
        raise InvalidParameter(writable("\n".join([*lines, "Nothing was sent or changed."])))
    return roster


def _document(source: Any) -> Document:
    """Parse a source, without checking its fields."""
    if isinstance(source, Document):
        return source
    if isinstance(source, Mapping):
        return Document("roster", source)
    if isinstance(source, str) and source.lstrip().startswith(("{", "[")):
        return parse_text("roster", source, is_json=True)
    name = writable(f"roster {source}")
    text = _text_of(name, source)
    return parse_text(name, text, is_json=str(source).lower().endswith(".json"))


def _text_of(name: str, source: Any) -> str:
    if isinstance(source, str):
        if not source.strip() or "://" in source or "\n" in source:
            raise InvalidParameter(
                f"roster: {source[:60]!r} is not a local path. Give a path, a path object such as "
                "ObjectStoragePath('s3://aws_default@config/roster.yaml'), or a mapping. Nothing was changed."
            )
        source = LocalPath(os.path.expanduser(source.strip()))  # leaves an unknown ``~user`` as it is
    elif isinstance(source, os.PathLike) and not hasattr(source, "read_bytes"):
        source = LocalPath(source)
    try:
        if hasattr(source, "read_bytes"):
            data = source.read_bytes()
        else:
            with source.open("rb") as file:
                data = file.read()
        return str(data, "utf-8-sig") if isinstance(data, bytes) else str(data)
    except UnicodeDecodeError as error:
        raise InvalidParameter(
            f"{name} cannot be read: it is not UTF-8 text (byte {error.start}). Nothing was changed. Save "
            "it as UTF-8."
        ) from None
    except AttributeError:
        raise InvalidParameter(
            f"roster: it is of type {type(source).__name__}. Give a path, a path object or a mapping. "
            "Nothing was changed."
        ) from None
    except Exception as error:  # a store's library may raise anything
        problem = str(error) if isinstance(error, OSError) else type(error).__name__
    raise InvalidParameter(
        f"{name} cannot be read: {problem}. Nothing was changed. Is the path there for this worker, and may "
        "it read it?"
    )


class _Reader:
    """Reads field by field, and collects every problem with its place."""

    def __init__(self, document: Document) -> None:
        self.problems: list[str] = []
        self._document = document

    def roster(self) -> Roster:
        tree = self._document.tree
        if not isinstance(tree, Mapping):
            self._note((), "is not a mapping: begin with 'version: 1' and 'accounts:'.")
            tree = {"version": VERSION, "accounts": []}
        elif not tree:
            self._note((), "is empty: begin with 'version: 1' and 'accounts:'.")
        self._known((), tree, TOP_FIELDS)
        self._field((), tree, "version", _version)
        defaults = self._field((), tree, "defaults", _mapping, {}) or {}
        self._known(("defaults",), defaults, ENTRY_FIELDS[1:])
        accounts = self._field((), tree, "accounts", _list) or []
        entries: dict[str, Entry] = {}
        places: dict[str, Path] = {}
        for number, item in enumerate(accounts):
            path = ("accounts", number)
            entry = self._entry(path, item, defaults)
            alias = item.get("alias") if isinstance(item, Mapping) else None
            if isinstance(alias, str) and places.setdefault(alias, path) is not path:
                first = self._document.place(places[alias]).removeprefix(f"{self._document.name}, ")
                self._note(
                    (*path, "alias"),
                    f"{alias!r} is claimed by another entry, too ({first}): make one of both.",
                )
            elif entry is not None:
                entries[entry.alias] = entry
        owns = self._field((), tree, "owns", _globs, None)
        if owns is None:  # by default it owns the aliases that it lists
            owns = tuple(map(glob.escape, entries))
        else:
            self._owned(places, owns)
        main = self._field((), tree, "main_account", _user_id, None)
        owns = tuple(sorted(set(owns)))  # their order must not change the digest
        return Roster(name=self._document.name, owns=owns, entries=entries, main_account=main)

    def _owned(self, places: Mapping[str, Path], owns: tuple[str, ...]) -> None:
        is_owned = owner_pattern(owns).match
        for alias, path in places.items():
            if not is_owned(alias):
                self._note(
                    (*path, "alias"),
                    f"{alias!r} is outside owns ({', '.join(owns)}): add a glob, or rename the alias.",
                )

    def _entry(self, path: Path, item: Any, defaults: Mapping[str, Any]) -> Entry | None:
        if not isinstance(item, Mapping):
            self._note(path, "is not a mapping: give at least an alias.")
            return None
        before = len(self.problems)
        self._known(path, item, ENTRY_FIELDS)
        own = {**defaults, **item}
        if "over_budget" not in item and own.get("budget") is None:
            own.pop("over_budget", None)  # this default is only for entries with a budget

        def place(name: str) -> Path:
            return path if name in item or name not in defaults else ("defaults",)

        def field(name: str, read: Callable[[Any], Any], default: Any = _REQUIRED) -> Any:
            return self._field(place(name), own, name, read, default)

        alias = field("alias", _alias)
        pricing = field("model_pricing", lambda value: _prices("model_pricing", value))
        balance = field("balance", lambda value: _amount("balance", value))
        count = field("count", lambda value: inputs.whole_number("count", value, 1), 1)
        entry = {
            "team": field("team", lambda value: _label("team", value), ""),
            "cost_center": field("cost_center", lambda value: _label("cost_center", value), ""),
            "budget": field("budget", _budget, None),
            "over_budget": field("over_budget", _prices_or_none, None),
            "expires": field("expires", lambda value: inputs.moment("expires", value), None),
            "rotate": field("rotate", lambda value: self._rotation(place("rotate"), value, count), None),
        }
        if entry["over_budget"] is not None and own.get("budget") is None:
            self._note((*path, "over_budget"), "is given without a budget: say from which cost on it counts.")
        if len(self.problems) > before:
            return None
        line = self._document.line(path) or 0
        return Entry(alias=alias, pricing=pricing, balance=balance, count=count, line=line, **entry)

    def _rotation(self, path: Path, value: Any, count: int | None) -> Rotation | None:
        found, path, before = _mapping(value), (*path, "rotate"), len(self.problems)
        self._known(path, found, ROTATE_FIELDS)
        every = self._field(path, found, "every", lambda value: inputs.span("every", value), None)
        grace = self._field(path, found, "grace", lambda value: inputs.span("grace", value), None)
        begins = self._field(path, found, "from", lambda value: inputs.moment("from", value), None)
        if len(self.problems) > before:
            return None
        options = {"every": every, "grace": grace, "max_rotate": found.get("max_rotate")}
        given = {name: option for name, option in options.items() if name in found}
        request = RotateRequest.parse("a", {"m": 1}, 1, count or 1, rotate_from=begins, **given)
        return Rotation(
            every=request.every, grace=request.grace, max_rotate=request.max_rotate, begins=request.begins
        )

    def _field(
        self,
        path: Path,
        tree: Mapping[str, Any],
        name: str,
        read: Callable[[Any], Any],
        default: Any = _REQUIRED,
    ) -> Any:
        """Read a field; if it is wrong, note the problem and return ``None``."""
        value = tree.get(name)
        if value is None:
            if default is _REQUIRED:
                self._note(path, f"has no {name}: {_CURES[name]}.")
                return None
            return default
        try:
            if isinstance(value, Ambiguous):
                raise bad(name, f"is {value!r}", "write it in quotes if it is text, or as a plain number")
            return read(value)
        except InvalidParameter as error:
            self._note((*path, name), str(error).removesuffix(_SENT))
            return None

    def _known(self, path: Path, tree: Mapping[str, Any], known: Sequence[str]) -> None:
        for name in tree:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
                self._note((*path, str(name)), f"is not a known field: {hint}")

    def _note(self, path: Path, problem: str) -> None:
        line = f"{self._document.place(path)}: {problem}"
        if line not in self.problems:  # defaults are read again for each entry
            self.problems.append(line)


_CURES = {
    "version": "write version: 1",
    "accounts": "give a list of entries, each with an alias",
    "alias": "give the accounts' exact alias",
    "model_pricing": "name the models, for instance {gpt-4o: 1}, here or in defaults",
    "balance": "give a number >= 0, here or in defaults",
}


def _version(value: Any) -> int:
    if inputs.integer(value) != VERSION:
        raise bad("version", f"is {inputs.shown(value)}", f"this package reads version {VERSION}")
    return VERSION


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise bad("it", f"is of type {type(value).__name__}", "give a mapping of fields")
    return value


def _list(value: Any) -> Sequence[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise bad("accounts", f"is of type {type(value).__name__}", "give a list of entries")
    return value


def _globs(value: Any) -> tuple[str, ...]:
    globs = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    if not globs or not all(isinstance(each, str) and each.strip() for each in globs):
        raise bad("owns", "is not a list of globs", 'give texts such as ["team-*"]')
    return tuple(inputs.encodable("owns", each, "give the aliases' own text") for each in globs)


def _user_id(value: Any) -> int:
    found = inputs.integer(value)
    if found is None:
        cure = "give the main account's user_id, a whole number"
        raise bad("main_account", f"is {inputs.shown(value)}", cure)
    return found


def _alias(value: Any) -> str:
    if not isinstance(value, str):
        raise bad("alias", f"is {inputs.shown(value)}, which is not text", "write it in quotes")
    return inputs.new_alias(value)


def _label(name: str, value: Any) -> str:
    if name == "cost_center" and inputs.integer(value) is not None:
        return str(value).strip()
    if not isinstance(value, str) or not value.strip():
        raise bad(name, f"is {inputs.shown(value)}", "give text")
    return inputs.encodable(name, value.strip(), "give text")


def _amount(name: str, value: Any) -> Decimal:
    return _plain(inputs.amount(name, value))


def _plain(amount: Decimal) -> Decimal:
    """Normalise an amount: 60, "60.00" and 6e1 have the same digest in a plan."""
    return Decimal(format(amount.normalize(), "f"))


def _budget(value: Any) -> Decimal:
    found = _amount("budget", value)
    if found <= 0:
        raise bad("budget", "is 0", "give an amount above 0, or leave it out")
    return found


def _prices_or_none(value: Any) -> Pricing:
    return {} if value in ({}, []) else _prices("over_budget", value)


def _listed(entry: Any) -> Any:
    """Return an entry of the API's list of prices; in it YAML's ``true`` is a boolean."""
    following = entry.get("auto_following") if isinstance(entry, Mapping) else None
    return {**entry, "auto_following": following.flag} if isinstance(following, Ambiguous) else entry


def _prices(name: str, value: Any) -> Pricing:
    if isinstance(value, str) and value.lstrip()[:1] not in ("{", "["):  # a template may give JSON
        raise bad(name, "is text", "name the models, for instance {gpt-4o: 1}")
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = [_listed(each) for each in value]
        factors = [
            (each.get("model"), each.get("pricing_factor")) for each in value if isinstance(each, Mapping)
        ]
    else:
        factors = list(value.items()) if isinstance(value, Mapping) else []
    for model, factor in factors:
        if isinstance(factor, Ambiguous):
            raise bad(f"{name}[{model!r}]", f"is {factor!r}", "give a plain number, such as 1 or 0.5")
    return {model: _plain(factor) for model, factor in inputs.pricing(value, name).items()}
