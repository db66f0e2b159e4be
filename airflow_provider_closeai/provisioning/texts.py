"""How accounts and prices are written in logs and errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from airflow_provider_closeai.client.models import SubAccount, factor_json

_SHOWN = 20
_PRICES_SHOWN = 5


def format_ids(ids: Collection[object]) -> str:
    """Write ids: all, or the first of many."""
    shown = ", ".join(str(each) for each in list(ids)[:_SHOWN])
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"[{shown}]{more}"


def ids_of(accounts: Collection[SubAccount]) -> str:
    """Write the ids of accounts."""
    return format_ids([account.id for account in accounts])


def count_of(accounts: Collection[object]) -> str:
    """Write the number of sub-accounts."""
    return f"{len(accounts)} sub-account{'s' * (len(accounts) != 1)}"


def span_text(span: timedelta) -> str:
    """Write a span of time: ``90 days``, ``1 day 12 h``, ``90 min``."""
    days, rest = span.days, span - timedelta(days=span.days)
    hours, minutes = divmod(int(rest.total_seconds() // 60), 60)
    parts = [
        f"{days} day{'s' * (days != 1)}" * bool(days),
        f"{hours} h" * bool(hours),
        f"{minutes} min" * bool(minutes),
    ]
    return " ".join(part for part in parts if part) or f"{span.total_seconds():g} s"


def pricing_text(pricing: Mapping[str, Decimal | None]) -> str:
    """Write a price list in one line."""
    texts = [
        f"{model}: {'no factor' if factor is None else factor_json(factor)}"
        for model, factor in sorted(pricing.items())
    ]
    return ", ".join(texts) or "no models"


def prices_of(accounts: Sequence[SubAccount]) -> str:
    """Write the prices of accounts, by id."""
    shown = [f"id {each.id} has {pricing_text(each.pricing)}" for each in accounts[:_PRICES_SHOWN]]
    more = f" and {len(accounts) - len(shown)} more" if len(accounts) > len(shown) else ""
    return "; ".join(shown) + more
