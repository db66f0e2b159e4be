"""What is not documented about the platform: one switch for each possibility."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from airflow_provider_closeai.simulator.options import (
    Options,
    flag,
    maybe,
    one_of,
    option,
    span,
    whole_number,
)
from airflow_provider_closeai.simulator.values import to_decimal, to_units


def _money(value: Any) -> Decimal:
    if isinstance(value, Decimal | int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return to_decimal(to_units(value))
    raise ValueError("must be a Decimal, a whole number or a text, with at most 8 decimals")


def _limits(value: Any) -> dict[str, tuple[int, float]]:
    limits: dict[str, tuple[int, float]] = {}
    try:
        for call, (number, seconds) in value.items():
            limits[call] = (whole_number()(number), span(seconds))
    except (AttributeError, TypeError, ValueError):
        raise ValueError('must be like {"links": [2, 60]}: so many requests in so many seconds') from None
    if not limits.keys() <= {"links", "healthy"}:
        raise ValueError("can limit only links and healthy")
    return limits


@dataclass
class Settings(Options):
    """How this platform behaves; every field may be changed at run time.

    :param list_lag: Real seconds by which the listing lags behind creates, updates and deletes.
    :param alias_filter: How the listing's ``alias`` filter matches.
    :param total_counts: What ``total`` counts: matching accounts, all accounts, or the page's.
    :param max_page_size: A larger ``page_size`` (also -1) is silently reduced to this.
    :param unique_alias: Two accounts may not share an alias.
    :param delete_missing: How deleting an unknown sk is answered.
    :param max_count: The largest ``count`` of a create.
    :param max_sks: The largest number of ``sks`` in one call.
    :param rate_limits: ``{"links": (requests, seconds), "healthy": ...}``, per host, in real time.
    :param order: The order of the listing.
    :param omit_total: Leave ``total`` out.
    :param amounts_as_numbers: Write ``balance`` and ``monthly_cost`` as JSON numbers.
    :param mask_tokens: The listing shows a key as ``sk-abc****wxyz``; a create's answer shows it in full.
    :param main_usage: What the main account itself used this month, besides its sub-accounts.
    :param main_granted: What the main account was granted.
    :param token_price: The cost of a model's token at factor 1.
    :param empty_balance: What happens to a model call if the account has no balance left.
    """

    word: ClassVar[str] = "setting"

    list_lag: float = option(span, 0)
    alias_filter: str = option(one_of("exact", "substring", "ignored"), "exact")
    total_counts: str = option(one_of("filtered", "all", "page"), "filtered")
    max_page_size: int | None = option(maybe(whole_number()))
    unique_alias: bool = option(flag, False)
    delete_missing: str = option(one_of("ok", "error"), "ok")
    max_count: int = option(whole_number(), 1000)
    max_sks: int = option(whole_number(), 1000)
    rate_limits: dict[str, tuple[int, float]] = field(default_factory=dict, metadata={"check": _limits})
    order: str = option(one_of("id", "newest"), "id")
    omit_total: bool = option(flag, False)
    amounts_as_numbers: bool = option(flag, False)
    mask_tokens: bool = option(flag, False)
    main_usage: Decimal = option(_money, Decimal(0))
    main_granted: Decimal = option(_money, Decimal(10000))
    token_price: Decimal = option(_money, Decimal("0.00001"))
    empty_balance: str = option(one_of("refuse", "serve"), "refuse")
