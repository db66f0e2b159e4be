"""Text from elsewhere, made safe to show. Stored data keeps what the platform wrote."""

from __future__ import annotations

import re
import unicodedata

_LONGEST = 120
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # used in emoji and scripts

_FORMULA = "=+\\-@＝＋－＠"  # noqa: RUF001
_STARTS = re.compile(rf"\s*[{_FORMULA}]|[\t\r\n']")
#: A character other than the comma on which a spreadsheet may split, before a formula.
_INSIDE = re.compile(rf"([;|\t\r\n]\s*)('*)(?=[{_FORMULA}])")
_GUARDED = re.compile(rf"([;|\t\r\n]\s*)'('*)(?=[{_FORMULA}])")


def shown(text: str) -> str:
    """
    Return a text to show: invisible characters are escaped, and a long text is cut.

    :param text: for instance an alias, as the platform gave it.
    """
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
    return visible(cut)


def visible(text: str) -> str:
    """Return a text with invisible characters, such as direction marks, escaped."""
    return "".join(_escape(char) if _is_hidden(char) else char for char in text)


def csv_text(text: str) -> str:
    """
    Make text harmless in a spreadsheet, even one that splits lines on semicolons or tabs.

    A formula gets an apostrophe in front, wherever a cell may begin; :func:`plain_text` removes it.

    :param text: for instance an alias such as ``=HYPERLINK(...)`` or ``x;=1+1``.
    """
    inside = _INSIDE.sub(r"\1'\2", text)
    return "'" + inside if _STARTS.match(text) else inside


def plain_text(text: str) -> str:
    """Undo :func:`csv_text`."""
    return _GUARDED.sub(r"\1\2", text.removeprefix("'"))


def json_text(text: str) -> str:
    """
    Make a JSON object harmless in a spreadsheet; :func:`csv_text` then leaves it unchanged.

    Characters on which a line may be split are escaped, so the JSON's values stay the same.
    """
    return _INSIDE.sub(lambda found: _escape(found[0][0]) + found[0][1:], text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
