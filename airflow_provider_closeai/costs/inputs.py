"""Text that people hand in: what no file can hold is refused where it comes in."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from airflow_provider_closeai.client.errors import InvalidParameter

_BITS = 2_000  # of an integer that Python writes out wherever it is told to refuse long ones


class _Short(reprlib.Repr):
    """Writes any value: a long one cut, and one that Python refuses to write by what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 100

    def repr_int(self, x: int, level: int) -> str:
        """Write an integer; Python refuses one of some thousand digits."""
        return f"<an integer of {x.bit_length()} bits>" if _is_long(x) else super().repr_int(x, level)


#: Writes a value for a message, short, whatever somebody handed in.
short_repr = _Short().repr


def require_encodable(name: str, text: str) -> str:
    """
    Return a text that every file can hold.

    :param name: what it is, for the error.
    :raises InvalidParameter: it holds half a character, such as half an emoji: no file can.
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
    Return one value of a rule or note as text; ``None`` as empty text, a number as it is written.

    In rows of a data frame what is missing is NaN, and then whole numbers of its column are floats.

    :param name: what it is, for the error.
    :raises InvalidParameter: it is a list, a mapping or a truth value, or text that no file can hold.
    """
    if isinstance(value, bool) or (isinstance(value, Iterable) and not isinstance(value, str)):
        raise InvalidParameter(f"{name}: {short_repr(value)} is not text: give a single one.")
    if isinstance(value, int) and _is_long(value):
        raise InvalidParameter(f"{name}: a number of {value.bit_length()} bits is none that anybody wrote.")
    if value is None or value != value:  # and 0 is a cost centre
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return require_encodable(name, str.__str__(value) if isinstance(value, str) else str(value))


def _is_long(number: int) -> bool:
    return number.bit_length() > _BITS
