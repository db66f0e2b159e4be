"""Small helpers for all parts: the zone, exact money, JSON with exact numbers."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

ZONE = timezone(timedelta(hours=8), "+08:00")
"""The platform's clock: Asia/Shanghai, which has had no summer time since 1991."""

SCALE = 10**8
_TOKEN = re.compile(r"sk-[A-Za-z0-9_-]{4,}")


def to_units(value: Decimal | int | str) -> int:
    """Return an amount as a whole number of units of 0.00000001.

    :param value: The amount; if not finite, or with more than 8 decimals, a ``ValueError``.
    """
    try:
        number = Decimal(value)
    except ArithmeticError as error:
        raise ValueError("is not a number") from error
    if not number.is_finite():
        raise ValueError("is not a finite number")
    if not number:
        return 0
    if not -9 <= number.adjusted() <= 15:
        raise ValueError("is out of range")
    numerator, denominator = number.as_integer_ratio()
    units, rest = divmod(numerator * SCALE, denominator)
    if rest:
        raise ValueError("has more than 8 decimals")
    return units


def to_text(units: int) -> str:
    """Write units the way the platform writes amounts: ``"100"``, ``"0.44000013"``.

    :param units: A whole number of 0.00000001.
    """
    whole, part = divmod(abs(units), SCALE)
    text = f"{whole}.{part:08d}".rstrip("0").rstrip(".") if part else str(whole)
    return "-" + text if units < 0 else text


def to_decimal(units: int) -> Decimal:
    """Return units as an exact ``Decimal`` amount.

    :param units: A whole number of 0.00000001.
    """
    return Decimal(to_text(units))


def stamp(moment: datetime) -> str:
    """Write a time as the platform does, with microseconds and ``+08:00``.

    :param moment: An aware time.
    """
    return moment.astimezone(ZONE).isoformat(timespec="microseconds")


def dumps(value: Any) -> str:
    """Write JSON in which a ``Decimal`` is a number with all its digits.

    :param value: What ``json.dumps`` takes, plus ``Decimal``.
    """
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def mask(token: str) -> str:
    """Write a key as a careful platform lists it: ``sk-abc****wxyz``."""
    return f"{token[:6]}****{token[-4:]}"


def hide(text: str) -> str:
    """Replace everything that looks like a key with a hint of its last four characters."""
    return _TOKEN.sub(lambda found: "sk-…" + found.group()[-4:], text)
