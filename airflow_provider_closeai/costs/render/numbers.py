"""Numbers on pages and in digests: with thousands separators, and one kind of minus sign."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

from airflow_provider_closeai.costs.accounting.money import ESTIMATE, places_of, total

_MINUS = "\N{MINUS SIGN}"
_NONE = "–"
_FINE_BELOW = 100  # a month that costs less than this is shown with four decimals


class Money:
    """
    Shows amounts rounded half up; the amounts stay exact.

    :param places: decimals to show.
    """

    def __init__(self, places: int) -> None:
        self.places = places

    def rounded(self, amount: Decimal) -> Decimal:
        """Return an amount rounded as shown."""
        return _rounded(amount, self.places)

    def __call__(self, amount: Decimal | None) -> str:
        return _NONE if amount is None else _text(self.rounded(amount))

    def rounding(self, amounts: Iterable[Decimal], exact: Decimal) -> Decimal:
        """Return by how much the shown total exceeds the sum of the shown lines."""
        return total([self.rounded(exact)], less=map(self.rounded, amounts))


def money_for(amount: Decimal) -> Money:
    """
    Return the :class:`Money` for a month's amounts: a small month has more decimals.

    :param amount: the month's total.
    """
    return Money(2 if abs(amount) >= _FINE_BELOW else 4)


def exact_text(amount: Decimal, places: int = 0) -> str:
    """
    Write an amount with all its decimals.

    :param places: at least this many decimals, to align the points of a column.
    """
    return _text(_rounded(amount, max(places, places_of([amount]))))


def percent_text(share: Decimal | None) -> str:
    """Write a percentage with one decimal."""
    return _NONE if share is None else f"{_text(_rounded(share, 1))} %"


def count_text(number: int) -> str:
    """Write a count."""
    return f"{number:,}"


def change_text(now: Decimal, before: Decimal) -> str:
    """
    Write by what percentage an amount differs from an earlier one; empty if that would mean nothing.
    """
    if before <= 0:
        return ""
    with localcontext(ESTIMATE):
        change = _rounded((now - before) * 100 / before, 1)
    if not change:
        return "as much as"
    return f"{_text(abs(change))} % {'more' if change > 0 else 'less'} than"


def _rounded(amount: Decimal, places: int) -> Decimal:
    with localcontext(Context(prec=200)):
        return amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _text(amount: Decimal) -> str:
    return f"{amount if amount else abs(amount):,f}".replace("-", _MINUS)
