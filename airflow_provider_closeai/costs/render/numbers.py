"""How pages and digests write numbers: with thousands separators, and one minus sign."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext

from airflow_provider_closeai.costs.accounting.money import ESTIMATE, places_of, total

_MINUS = "\N{MINUS SIGN}"
_NONE = "–"
_FINE_BELOW = 100  # a month that costs less than this is shown with four decimals


class Money:
    """
    Shows amounts rounded half up, and keeps them exact underneath.

    :param places: decimals that are shown.
    """

    def __init__(self, places: int) -> None:
        self.places = places

    def rounded(self, amount: Decimal) -> Decimal:
        """Round an amount as it is shown."""
        return _rounded(amount, self.places)

    def __call__(self, amount: Decimal | None) -> str:
        return _NONE if amount is None else _text(self.rounded(amount))

    def rounding(self, amounts: Iterable[Decimal], exact: Decimal) -> Decimal:
        """Return by how much the total, as shown, is more than the lines as shown."""
        return total([self.rounded(exact)], less=map(self.rounded, amounts))


def money_for(amount: Decimal) -> Money:
    """
    Return what shows the amounts of a month that cost so much: a small one with more decimals.

    :param amount: the month's total.
    """
    return Money(2 if abs(amount) >= _FINE_BELOW else 4)


def exact_text(amount: Decimal, places: int = 0) -> str:
    """
    Write an amount with all its decimals, and at least so many.

    :param places: so that the points of a column stand below each other.
    """
    return _text(_rounded(amount, max(places, places_of([amount]))))


def percent_text(share: Decimal | None) -> str:
    """Write a percentage with one decimal."""
    return _NONE if share is None else f"{_text(_rounded(share, 1))} %"


def count_text(number: int) -> str:
    """Write a number of things."""
    return f"{number:,}"


def change_text(now: Decimal, before: Decimal) -> str:
    """
    Say by how much an amount is more or less than an earlier one; empty where a percentage says nothing.
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
