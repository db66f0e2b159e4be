"""The costs of a shared account, as its owners pay them."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_closeai.costs.accounting.history import FALL, OPENING
from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts
from airflow_provider_closeai.costs.accounting.shares import allocate, split


def parts_of(account: AccountCosts) -> list[AccountCosts]:
    """
    Split a shared account: each of its movements, what was appended, and its forecast.

    :param account: which; its forecast and its sums are done.
    """
    history = account.history
    amounts, kinds = (history.amounts, history.kinds) if history else ([], [])
    appended = [item.amount for item in account.appended]
    # As it was closed first: what is appended later takes nothing from anybody's part of that.
    every = split([*amounts, account.kept, *appended], account.shares)
    doubtful = split([account.doubtful], account.shares)
    more: list[Any] = [None] * len(account.shares)
    if account.forecast is not None:
        more = allocate(account.forecast, account.shares)
    found = []
    for share, own, forecast, [doubt] in zip(account.shares, every, more, doubtful, strict=True):
        moved, rest = own[: len(amounts)], own[len(amounts) :]
        opening = sum((part for part, kind in zip(moved, kinds, strict=True) if kind == OPENING), ZERO)
        falls = sum((part for part, kind in zip(moved, kinds, strict=True) if kind == FALL), ZERO)
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
                increases=sum(moved, ZERO) - opening - falls,
                falls=falls,
                adjustments=sum(rest, ZERO),
                forecast=forecast,
                doubtful=doubt,
            )
        )
    return found
