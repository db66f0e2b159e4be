"""Text from users: refused on input if no file can store it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from airflow_provider_closeai.client.errors import InvalidParameter

_BITS = 2_000  # of an integer that Python writes at any limit for long ones


class _Short(reprlib.Repr):
    """Writes any value: shortened if long, described if Python refuses to write it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 100

    def repr_int(self, x: int, level: int) -> str:
        """Write an integer; Python refuses one with thousands of digits."""
        return f"<an integer of {x.bit_length()} bits>" if _is_long(x) else super().repr_int(x, level)


#: Writes any value for a message, shortened.
short_repr = _Short().repr


def require_encodable(name: str, text: str) -> str:
    """
    Return a text that any file can store.

    :param name: its name, for the error.
    :raises InvalidParameter: it contains half a character, such as half an emoji: no file can store that.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidParameter(
            f"{name}: {text!r} holds half a character (a lone surrogate): it was cut in the middle of one. "
            "Write it out."
        ) from None
    return text


def cell_text(name: str, value: object) -> str:
    """
    Return a value of a rule or note as text: ``None`` as empty text, a number as written.

    In a data frame's rows missing values are NaN, and then the column's integers are floats.

    :param name: its name, for the error.
    :raises InvalidParameter: it is a list, a mapping or a boolean, or text that no file can store.
    """
    if isinstance(value, bool) or (isinstance(value, Iterable) and not isinstance(value, str)):
        raise InvalidParameter(f"{name}: {short_repr(value)} is not text: give a single one.")
    if isinstance(value, int) and _is_long(value):
        raise InvalidParameter(f"{name}: a number of {value.bit_length()} bits is none that anybody wrote.")
    if value is None or value != value:  # but 0 is a cost centre
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return require_encodable(name, str.__str__(value) if isinstance(value, str) else str(value))


def _is_long(number: int) -> bool:
    return number.bit_length() > _BITS
