"""What nobody outside knows about the platform: one switch for each possibility."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from airflow_provider_closeai.simulator.values import to_decimal, to_units


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("must be a whole number of at least 1")
    return value


def _maybe_whole(value: Any) -> int | None:
    return None if value is None else _whole(value)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError("must be seconds, 0 or more")
    return value


def _money(value: Any) -> Decimal:
    if isinstance(value, bool | float):
        raise TypeError("must be a Decimal, a whole number or a string")
    return to_decimal(to_units(value))


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return check


def _limits(value: Any) -> dict[str, tuple[int, float]]:
    if not isinstance(value, Mapping):
        raise TypeError('must be like {"links": (2, 60)}')
    limits: dict[str, tuple[int, float]] = {}
    for call, limit in value.items():
        if call not in ("links", "healthy"):
            raise ValueError("can limit only links and healthy")
        number, seconds = limit
        limits[call] = (_whole(number), _seconds(seconds))
    return limits


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "list_lag": _seconds,
    "alias_filter": _one_of("exact", "substring", "ignored"),
    "total_counts": _one_of("filtered", "all"),
    "max_page_size": _maybe_whole,
    "unique_alias": _flag,
    "delete_missing": _one_of("ok", "error"),
    "max_count": _whole,
    "max_sks": _whole,
    "rate_limits": _limits,
    "order": _one_of("id", "newest"),
    "omit_total": _flag,
    "amounts_as_numbers": _flag,
    "main_usage": _money,
    "main_granted": _money,
}


@dataclass
class Settings:
    """How this platform behaves; every field may be changed while it runs.

    :param list_lag: Real seconds by which the listing lags behind creates, updates and deletes.
    :param alias_filter: How the listing's ``alias`` filter matches.
    :param total_counts: Whether ``total`` counts the accounts that match or all of them.
    :param max_page_size: A larger ``page_size`` (also -1) is silently this one.
    :param unique_alias: Two accounts may not share an alias.
    :param delete_missing: What deleting an unknown sk is.
    :param max_count: The largest ``count`` of a create.
    :param max_sks: The largest number of ``sks`` in one call.
    :param rate_limits: ``{"links": (requests, seconds), "healthy": ...}``, per host, in real time.
    :param order: The order of the listing.
    :param omit_total: Leave ``total`` out.
    :param amounts_as_numbers: Write ``balance`` and ``monthly_cost`` as JSON numbers.
    :param main_usage: What the main account itself used this month, next to its sub-accounts.
    :param main_granted: What the main account was granted.
    """

    list_lag: float = 0
    alias_filter: Literal["exact", "substring", "ignored"] = "exact"
    total_counts: Literal["filtered", "all"] = "filtered"
    max_page_size: int | None = None
    unique_alias: bool = False
    delete_missing: Literal["ok", "error"] = "ok"
    max_count: int = 1000
    max_sks: int = 1000
    rate_limits: dict[str, tuple[int, float]] = field(default_factory=dict)
    order: Literal["id", "newest"] = "id"
    omit_total: bool = False
    amounts_as_numbers: bool = False
    main_usage: Decimal = Decimal(0)
    main_granted: Decimal = Decimal(10000)

    def __setattr__(self, name: str, value: Any) -> None:
        check = _CHECKS.get(name)
        if check is None:
            raise AttributeError(f"the simulator has no setting {name!r}; it has {', '.join(_CHECKS)}")
        try:
            object.__setattr__(self, name, check(value))
        except (ValueError, TypeError) as error:
            raise ValueError(f"setting {name} {error}") from None
