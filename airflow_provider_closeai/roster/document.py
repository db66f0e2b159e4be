"""Values from YAML or JSON, with their lines. Nothing is guessed: ``NO`` is not text."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.provisioning.inputs import (
    TEXT_CURE,
)  # used by this room's readers, and by costs
from airflow_provider_closeai.provisioning.inputs import (
    load_json as load_json,
)

#: A value's place: names of fields and indexes of entries, from the top.
Path = tuple[str | int, ...]
_MOST_VALUES = 2_000_000  # a few lines of YAML anchors can make billions
_TEXT = "tag:yaml.org,2002:str"
_OCTAL = re.compile(r"[-+]?0\d")
#: Characters from an input method or a copied page where YAML needs a plain one.
_LOOKALIKE = re.compile("[\u00a0\u3000\uff0c\uff1a\uff5b\uff5d\u201c\u201d]")


class Document:
    """
    A tree of values, and their places.

    :param name: the file's name, for messages.
    :param tree: mappings, lists, texts, numbers (``Decimal``), booleans, times, ``None``.
    :param root: returns YAML's root node, which knows the lines, or ``None``.
    """

    def __init__(self, name: str, tree: Any, root: Callable[[], Any] | None = None) -> None:
        self.name = name
        self.tree = tree
        self._root = root

    def place(self, path: Path) -> str:
        """Return a value's place: ``roster teams.yaml, line 12, accounts[2].budget``."""
        line = self.line(path)
        parts = [self.name] + [f"line {line}"] * bool(line) + [path_text(path)] * bool(path)
        return ", ".join(parts)

    def line(self, path: Path) -> int | None:
        """Return the line of a value, or of its nearest existing parent."""
        node = self._root() if self._root else None
        if node is None:
            return None
        named = node
        for part in path:
            if node.id == "sequence" and isinstance(part, int):
                named = node = node.value[part]
                continue
            pairs = node.value if node.id == "mapping" else []
            pair = next((pair for pair in pairs if pair[0].value == part), None)
            if pair is None:
                break
            named, node = pair
        return int(named.start_mark.line) + 1


def path_text(path: Path) -> str:
    """Write a path: ``accounts[2].budget``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def writable(text: str) -> str:
    """Return a text with escapes for half characters, which cannot be written."""
    return text.encode(errors="backslashreplace").decode()


def parse_text(name: str, text: str, *, is_json: bool) -> Document:
    """
    Read the text of a file.

    :param name: the file's name, for messages.
    :param is_json: whether it is JSON; YAML otherwise.
    :raises InvalidParameter: it is empty or cannot be read; names the line.
    """
    if not text.strip():
        raise _unreadable(name, None, "it is empty")
    if writable(text) != text:
        raise _unreadable(name, None, "it holds half a character (a lone surrogate)")
    return _parse_json(name, text) if is_json else _parse_yaml(name, text)


def _unreadable(name: str, line: int | None, problem: str, cure: str = "Correct it") -> InvalidParameter:
    where = f"{name}, line {line}" if line else name
    return InvalidParameter(
        f"{where}: {problem}. Nothing was changed: a roster counts as a whole or not at all. {cure}."
    )


def _parse_json(name: str, text: str) -> Document:
    try:
        tree = load_json(text)
    except json.JSONDecodeError as error:
        # Text that is not from a file may have been rendered.
        cure = "Correct it" if name != "roster" else f"Where it comes from a template: {TEXT_CURE}"
        raise _unreadable(name, error.lineno, f"it is no JSON ({error.msg})", cure) from None
    except ValueError as error:
        raise _unreadable(name, None, str(error)) from None

    @functools.cache
    def root() -> Any:  # only errors need lines, and YAML reads nearly all JSON
        with contextlib.suppress(InvalidParameter):
            return _compose(name, text)
        return None

    return Document(name, tree, root)


def _parse_yaml(name: str, text: str) -> Document:
    root = _compose(name, text)
    try:
        return Document(name, _Builder(name).value(root), lambda: root)
    except RecursionError:
        raise _unreadable(name, None, "it is nested too deeply") from None


def _compose(name: str, text: str) -> Any:
    """Return YAML's root node of a text."""
    import yaml  # type: ignore[import-untyped]

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with _no_garbage():
            root = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        line = None if mark is None else mark.line + 1
        raise _unreadable(name, line, f"it is not YAML ({problem}){_lookalike(text, line)}") from None
    except RecursionError:
        raise _unreadable(name, None, "it is nested too deeply") from None
    if root is None:
        raise _unreadable(name, None, "it is empty")
    return root


def _lookalike(text: str, line: int | None) -> str:
    """Return where a lookalike of a YAML sign is, just before the parser gave up."""
    until = len(text.splitlines()) if line is None else line
    for number, each in list(enumerate(text.splitlines(), 1))[max(until - 3, 0) : until][::-1]:
        if found := _LOOKALIKE.search(each):
            sign = found.group()
            return f"; line {number} has U+{ord(sign):04X} ({unicodedata.name(sign)}): is a plain one meant?"
    return ""


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Pause the garbage collector: scanning a growing tree repeatedly is most of the work of parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Builder:
    """Makes values from YAML's nodes; a scalar has the type of its plain form, and numbers stay exact."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: set[int] = set()
        self._values = 0

    def value(self, node: Any) -> Any:
        """Return the value of a node."""
        self._values += 1
        if node.id == "scalar":
            tag = node.tag
            return node.value if tag == _TEXT else self._scalar(node, tag)
        if self._values > _MOST_VALUES:
            raise self._error(node, "it stands for millions of values")
        if id(node) in self._open:
            raise self._error(node, "it holds itself (an anchor)")
        self._open.add(id(node))
        found = [self.value(each) for each in node.value] if node.id == "sequence" else self._mapping(node)
        self._open.discard(id(node))
        return found

    def _mapping(self, node: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for each in value.value if value.id == "sequence" else [value]:
                    inherited = self.value(each)
                    if not isinstance(inherited, Mapping):
                        raise self._error(key, "what is merged (<<) is not a mapping")
                    merged = {**inherited, **merged}
                continue
            if key.tag != _TEXT or key.id != "scalar":
                shown = repr(key.value) if key.id == "scalar" else "a list or mapping"
                raise self._error(key, f"the key {shown} is not text for YAML: write it in quotes")
            if key.value in found:
                raise self._error(key, f"{key.value!r} is there twice in one mapping")
            found[key.value] = self.value(value)
        return {**merged, **found} if merged else found

    def _error(self, node: Any, problem: str) -> InvalidParameter:
        return _unreadable(self._name, node.start_mark.line + 1, problem)

    def _scalar(self, node: Any, tag: str) -> Any:
        kind, text = tag.rpartition(":")[2], node.value
        if kind == "null":
            return None
        if kind == "bool":
            return Ambiguous(text, text.lower() in ("yes", "true", "on"))
        if kind == "timestamp":
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                return text  # the reader of the time says what is wrong
        if kind in ("int", "float"):
            try:
                if kind == "float":
                    return Decimal(text)
                if not _OCTAL.match(text):
                    return int(text)
            except (InvalidOperation, ValueError):
                pass
            return Ambiguous(text, None)  # octal, hexadecimal, sexagesimal
        raise self._error(node, f"the tag {node.tag!r} is not known here")


class Ambiguous:
    """
    A scalar that YAML reads differently from most people: ``NO``, ``007``, ``1:30``.

    :param text: the scalar as written.
    :param flag: the boolean that YAML makes of it; ``None`` if it makes a number.
    """

    def __init__(self, text: str, flag: bool | None) -> None:
        self.text = text
        self.flag = flag

    def __repr__(self) -> str:
        kind = "a number in another notation" if self.flag is None else f"the boolean {self.flag}"
        return f"{self.text} (for YAML {kind})"
