"""Options that are checked whenever they are set, for settings and faults; each is declared once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

Check = Callable[[Any], Any]


def option(check: Check, default: Any = None) -> Any:
    """Declare a field of an ``Options`` dataclass.

    :param check: Returns the value to keep, or raises ``ValueError``, for instance "must be true or false".
    """
    return dataclasses.field(default=default, metadata={"check": check})


class Options:
    """A dataclass whose every field is checked when it is set."""

    word: ClassVar[str] = "option"

    def __setattr__(self, name: str, value: Any) -> None:
        checks = {field.name: field.metadata["check"] for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        if name not in checks:
            raise AttributeError(f"there is no {self.word} {name!r}; there are {', '.join(checks)}")
        object.__setattr__(self, name, checked(f"{self.word} {name}", checks[name], value))


def checked(name: str, check: Check, value: Any) -> Any:
    """Return a checked value; an error names the option."""
    try:
        return check(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} {error}, not {_short(value)}") from None


def flag(value: Any) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004
    return value


def whole_number(least: int = 1, most: int | None = None) -> Callable[[Any], int]:
    """Make a check for an integer.

    :param most: The largest allowed; None is any.
    """
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"

    def check(value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < least or (most is not None and value > most):
            raise ValueError(f"must be a whole number {limits}")
        return int(value)

    return check


def span(value: Any) -> float:
    """Accept a span in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("must be seconds, 0 or more")
    return value


def one_of(*choices: str) -> Callable[[Any], str]:
    """Make a check for one of some words."""

    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return check


def maybe(check: Check) -> Check:
    """Also allow None."""
    return lambda value: None if value is None else check(value)


def text(value: Any) -> str:
    """Accept text."""
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004
    return value


def header(value: Any) -> str:
    """Accept text that is valid in a header."""
    found = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not found.isprintable():
        raise ValueError("must be a number or a text of one line")
    if not found.isascii():
        raise ValueError("must be ASCII")
    return found


def anything(value: Any) -> Any:
    """Accept any JSON value."""
    return value


def _short(value: Any) -> str:
    found = repr(value)
    return found if len(found) <= 80 else f"{found[:77]}..."
