"""Exact money: amounts are not rounded on the way, and a sum that would be inexact is an error."""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from decimal import Decimal

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.currencies import CURRENCIES
from airflow_provider_closeai.costs.inputs import short_repr

ZERO = Decimal(0)
_PLACES = 18

#: In this context sums are exact or fail.
EXACT = decimal.Context(
    prec=200, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
)
#: For quotients, which must be rounded.
ESTIMATE = decimal.Context(prec=250)


def parse_amount(name: str, value: object) -> Decimal:
    """
    Read an amount that a person wrote.

    :param name: its name, for the error.
    :param value: text, an integer, a ``Decimal``, or a float, read by its shortest text: as typed.
    :raises InvalidParameter: not a finite number.
    """
    try:
        # An integer directly: Python refuses to write one with thousands of digits as text.
        amount = Decimal(value if isinstance(value, int) else str(value).strip())
    except (decimal.InvalidOperation, ValueError):
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite():
        raise InvalidParameter(
            f"{name}: {short_repr(value)} is not an amount. Write a plain number such as 1250.50, without a "
            "thousands separator or a currency sign."
        )
    if not is_bookable(amount):
        raise InvalidParameter(
            f"{name}: {short_repr(value)} is out of range. Write an amount with at most {_PLACES} digits "
            f"before the point and {_PLACES} after it."
        )
    return amount


def is_bookable(amount: Decimal) -> bool:
    """
    Return whether an amount is plausible money: at most 18 digits before and after the point.

    :param amount: a finite number.
    """
    return amount.adjusted() < _PLACES and int(amount.as_tuple().exponent) >= -_PLACES


def places_of(amounts: Iterable[Decimal]) -> int:
    """Return the most decimals of any amount."""
    return max((max(-int(amount.as_tuple().exponent), 0) for amount in amounts), default=0)


def parse_currency(value: object) -> str:
    """
    Read the ``currency`` parameter, required because the platform does not state one.

    :param value: an ISO 4217 code.
    :raises InvalidParameter: it is not such a code.
    """
    value = value.strip() if isinstance(value, str) else value
    if not isinstance(value, str) or value not in CURRENCIES:
        is_renminbi = isinstance(value, str) and value.upper() == "RMB"
        hint = " For the renminbi that is CNY." if is_renminbi else ""
        raise InvalidParameter(
            f"currency: {short_repr(value)} is no ISO 4217 code of a currency in use, such as CNY or USD."
            f"{hint}"
        )
    return value


def format_amount(amount: Decimal) -> str:
    """Write an amount in plain digits with all its decimals, never as ``1E-8``; 0 as ``0``."""
    return format(amount, "f") if amount else "0"


def total(amounts: Iterable[Decimal], less: Iterable[Decimal] = ()) -> Decimal:
    """
    Add amounts exactly.

    :param less: amounts to subtract. A minus outside this function would round to 28 digits.
    """
    with decimal.localcontext(EXACT):
        return sum(amounts, ZERO) - sum(less, ZERO)


def total_known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Add the known amounts exactly; ``None`` if none is known."""
    known = [amount for amount in amounts if amount is not None]
    return total(known) if known else None


def percent(part: Decimal | None, base: Decimal | None) -> Decimal | None:
    """
    Return ``part`` as a percentage of ``base``, with 4 decimals.

    :returns: ``None`` if one of them is unknown, or the base is not positive.
    """
    if part is None or base is None or base <= 0:
        return None
    with decimal.localcontext(ESTIMATE):
        return (part * 100 / base).quantize(Decimal("0.0001"))
