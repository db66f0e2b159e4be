"""Divides a shared account's costs among its owners."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.costs.accounting.history import sums_of
from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts
from airflow_provider_closeai.costs.accounting.shares import allocate, split


def parts_of(account: AccountCosts) -> list[AccountCosts]:
    """
    Split a shared account: each movement, the appended lines, and the forecast.

    :param account: the account, with its forecast and sums.
    """
    history = account.history
    amounts, kinds = (history.amounts, history.kinds) if history else ([], [])
    appended = [item.amount for item in account.appended]
    # First as closed, so that later lines take nothing from anybody's part of that.
    every = split([*amounts, account.kept, *appended], account.shares)
    bounds = _lower_bounds(account, [sum(own, ZERO) for own in every])
    more: list[Any] = [None] * len(account.shares)
    if account.forecast is not None:
        more = allocate(account.forecast, account.shares)
    found = []
    for share, own, forecast, bound in zip(account.shares, every, more, bounds, strict=True):
        moved, rest = own[: len(amounts)], own[len(amounts) :]
        opening, increases, falls = sums_of(moved, kinds)
        found.append(
            msgspec.structs.replace(
                account,
                owner=share.owner,
                shares=(),
                history=msgspec.structs.replace(history, amounts=moved) if history else None,
                appended=[
                    msgspec.structs.replace(item, amount=amount)
                    for item, amount in zip(account.appended, rest[1:], strict=True)
                ],
                month_to_date=sum(own, ZERO),
                opening=opening,
                increases=increases,
                falls=falls,
                adjustments=sum(rest, ZERO),
                kept=rest[0],
                forecast=forecast,
                doubtful=sum(own, ZERO) - bound,
            )
        )
    return found


def _lower_bounds(account: AccountCosts, costs: Sequence[Decimal]) -> list[Decimal]:
    """
    Split the doubtful amount, and return each part's lower bound: negative only if the account's is.

    By the largest remainder a part's doubt may exceed its cost by a digit: then another part gives it.
    """
    doubtful = allocate(account.doubtful, account.shares)
    bounds = [cost - doubt for cost, doubt in zip(costs, doubtful, strict=True)]
    while min(bounds) < ZERO <= account.lower_bound:
        low, high = bounds.index(min(bounds)), bounds.index(max(bounds))
        given = min(-bounds[low], bounds[high])
        bounds[low] += given
        bounds[high] -= given
    return bounds
