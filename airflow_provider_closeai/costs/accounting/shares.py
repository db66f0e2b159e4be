"""Splits a shared account's costs by percentage: every part exact, and all parts adding up."""

from __future__ import annotations

import decimal
import json
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import EXACT, ZERO, format_amount

_PLACES = 8


class Owner(msgspec.Struct, frozen=True, order=True):
    """
    A team that pays.

    :param cost_center: where its costs are booked; may be empty.
    """

    team: str
    cost_center: str = ""


class Share(msgspec.Struct, frozen=True):
    """Who pays which percentage of a shared account."""

    owner: Owner
    percent: Decimal


def owner_of(shares: Sequence[Share]) -> Owner:
    """Return the owner shown for a shared account in a list of accounts."""
    return Owner(" + ".join(f"{share.owner.team} {format_amount(share.percent)} %" for share in shares))


def payers_of(owner: Owner, shares: Sequence[Share]) -> frozenset[Share]:
    """Return who pays which percentage, whatever the order and the spelling of numbers."""
    return frozenset(shares or [Share(owner, Decimal(100))])


def allocate(amount: Decimal, shares: Sequence[Share]) -> list[Decimal]:
    """
    Split an amount by the largest remainder: each part is within one last digit of its share.

    Parts have 8 decimals, or as many as the amount needs; they depend only on amount and shares.

    :param shares: together 100 %.
    """
    with decimal.localcontext(EXACT):
        places = max(_PLACES, -int(amount.normalize().as_tuple().exponent))
        units = int(amount.scaleb(places).copy_abs())
        parts = [divmod(units * share.percent, 100) for share in shares]
        counts = [int(part) for part, _ in parts]
        by_remainder = sorted(range(len(parts)), key=lambda place: -parts[place][1])
        for place in by_remainder[: units - sum(counts)]:
            counts[place] += 1
        sign = -1 if amount < 0 else 1
        return [Decimal(sign * count).scaleb(-places) for count in counts]


def split(amounts: Sequence[Decimal], shares: Sequence[Share]) -> list[list[Decimal]]:
    """
    Split a list of amounts, so that each amount and their sum are split exactly.

    At each step the sum so far is split, and a part is the growth: so rounding does not accumulate.

    :param shares: together 100 %.
    :returns: for each share its part of every amount.
    """
    so_far, before = ZERO, [ZERO] * len(shares)
    parts: list[list[Decimal]] = [[] for _ in shares]
    with decimal.localcontext(EXACT):
        for amount in amounts:
            so_far += amount
            now = allocate(so_far, shares)
            for part, old, new in zip(parts, before, now, strict=True):
                part.append(new - old)
            before = now
    return parts


def shares_text(shares: Sequence[Share]) -> str:
    """Write shares as text for a closing; none as empty text."""
    rows = [[share.owner.team, share.owner.cost_center, format_amount(share.percent)] for share in shares]
    return json.dumps(rows, ensure_ascii=False) if rows else ""


def shares_from(text: str | None) -> tuple[Share, ...]:
    """Read what :func:`shares_text` wrote."""
    rows = json.loads(text) if text else []
    return tuple(Share(Owner(team, cost_center), Decimal(percent)) for team, cost_center, percent in rows)
