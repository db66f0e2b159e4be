"""Text that came from elsewhere, as a person sees it. Data keeps what the platform wrote."""

from __future__ import annotations

import re
import unicodedata

_LONGEST = 120
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # emoji and scripts are written with them

_FORMULA = "=+\\-@＝＋－＠"  # noqa: RUF001
_STARTS = re.compile(rf"\s*[{_FORMULA}]|[\t\r\n']")
#: What a spreadsheet may split a line on, other than the comma, and a formula behind it.
_INSIDE = re.compile(rf"([;|\t\r\n]\s*)('*)(?=[{_FORMULA}])")
_GUARDED = re.compile(rf"([;|\t\r\n]\s*)'('*)(?=[{_FORMULA}])")


def shown(text: str) -> str:
    """
    Return a text for a person: what is not visible is written as its escape, and a long one is cut.

    :param text: for instance an alias, whatever the platform gave.
    """
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
    return visible(cut)


def visible(text: str) -> str:
    """Return a text in which what is not visible, such as a mark that turns the writing, is an escape."""
    return "".join(_escape(char) if _is_hidden(char) else char for char in text)


def csv_text(text: str) -> str:
    """
    Make text harmless in a spreadsheet, also in one that splits lines on semicolons or tabs.

    A formula gets an apostrophe in front, wherever a cell may begin; :func:`plain_text` takes it away again.

    :param text: for instance an alias such as ``=HYPERLINK(...)`` or ``x;=1+1``.
    """
    inside = _INSIDE.sub(r"\1'\2", text)
    return "'" + inside if _STARTS.match(text) else inside


def plain_text(text: str) -> str:
    """Undo :func:`csv_text`."""
    return _GUARDED.sub(r"\1\2", text.removeprefix("'"))


def json_text(text: str) -> str:
    """
    Make a JSON object harmless in a spreadsheet, as :func:`csv_text` does, which then leaves it as it is.

    What a line may be split on is written as its escape: whoever reads the JSON gets the same values.
    """
    return _INSIDE.sub(lambda found: _escape(found[0][0]) + found[0][1:], text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
