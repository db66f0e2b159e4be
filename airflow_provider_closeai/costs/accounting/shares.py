"""Split what a shared account costs by percentage: every part exact, and all parts together the whole."""

from __future__ import annotations

import decimal
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import EXACT, ZERO, format_amount, parse_amount, total
from airflow_provider_closeai.costs.inputs import cell_text

_PLACES = 8


class Owner(msgspec.Struct, frozen=True, order=True):
    """
    Who pays.

    :param cost_center: where its costs are booked; may be empty.
    """

    team: str
    cost_center: str = ""


class Share(msgspec.Struct, frozen=True):
    """Who pays how many per cent of a shared account."""

    owner: Owner
    percent: Decimal


def parse_shares(entries: Sequence[tuple[Owner, Any]], place: str) -> tuple[Share, ...]:
    """
    Read the shares of one account.

    :param entries: who pays, and how many per cent: a number or text such as ``60%``.
    :param place: where they stand, for the error.
    :raises InvalidParameter: a share is not above 0, a team has two or no name, or they are not 100 %.
    """
    shares = []
    for owner, value in entries:
        if not owner.team:
            raise InvalidParameter(f"{place}: split: a team is missing or empty.")
        text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
        percent = parse_amount(f"{place} ({owner.team!r}): percent", text)
        if percent <= 0:
            raise InvalidParameter(f"{place} ({owner.team!r}): a share is above 0 %, not {percent}.")
        shares.append(Share(owner, percent))
    if len({share.owner for share in shares}) < len(shares):
        raise InvalidParameter(f"{place}: a team and cost centre has two shares.")
    whole = total(share.percent for share in shares)
    if whole != 100:
        raise InvalidParameter(f"{place}: the shares are {format_amount(whole)} % together, not 100.")
    return tuple(shares)


def owner_of(shares: Sequence[Share]) -> Owner:
    """Return the owner that stands for a shared account in a list of accounts."""
    return Owner(" + ".join(f"{share.owner.team} {format_amount(share.percent)} %" for share in shares))


def payers_of(owner: Owner, shares: Sequence[Share]) -> frozenset[Share]:
    """Return who pays how many per cent, in whatever order and however the numbers were written."""
    return frozenset(shares or [Share(owner, Decimal(100))])


def allocate(amount: Decimal, shares: Sequence[Share]) -> list[Decimal]:
    """
    Split an amount by the largest remainder: each part is within one last digit of its share.

    The parts have 8 decimals, or as many as the amount needs: they depend on nothing but the two.

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
    Split a list of amounts, so that each one and their sum are split exactly.

    The sum so far is split at each step, and a part is what it grew: no rounding adds up over a month.

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
    """Write shares down for a closing; none as empty text."""
    rows = [[share.owner.team, share.owner.cost_center, format_amount(share.percent)] for share in shares]
    return json.dumps(rows, ensure_ascii=False) if rows else ""


def shares_from(text: str | None) -> tuple[Share, ...]:
    """Read what :func:`shares_text` wrote."""
    rows = json.loads(text) if text else []
    return tuple(Share(Owner(team, cost_center), Decimal(percent)) for team, cost_center, percent in rows)


def split_entry(source: object, place: str) -> list[tuple[Owner, Any]]:
    """
    Read the ``split`` of a rule.

    :param source: ``{"Search": 60, "Ads": "40%"}``, or a list of mappings with ``team``, ``cost_center`` and
        ``percent``.
    :param place: where it stands, for the error.
    :raises InvalidParameter: neither.
    """
    if isinstance(source, Mapping):
        return [(Owner(_name(team, place)), percent) for team, percent in source.items()]
    found = []
    for entry in source if isinstance(source, Sequence) and not isinstance(source, str) else [source]:
        if not isinstance(entry, Mapping) or not {"team", "percent"} <= entry.keys() <= {
            "team",
            "cost_center",
            "percent",
        }:
            raise InvalidParameter(
                f"{place}: split: give a mapping such as {{'Search': 60, 'Ads': 40}}, or a list of mappings "
                "with team, cost_center and percent."
            )
        owner = Owner(_name(entry["team"], place), _name(entry.get("cost_center"), place))
        found.append((owner, entry["percent"]))
    return found


def _name(value: object, place: str) -> str:
    return cell_text(f"{place}: split", value).strip()
