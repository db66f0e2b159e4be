"""The API's data types: sub-accounts, prices, bases, keys.

Shapes are those of the platform's page (docs/platform-api.md). Unknown fields of an answer are
ignored; amounts may be strings, as on the page, or JSON numbers, and are kept exact.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

#: A sub-account's ``token_type`` on the platform's page.
SUB_ACCOUNT_TOKEN_TYPE = "slave"  # noqa: S105
#: Before or after an amount's or factor's point: costs are summed exactly, and "1e400" is not one.
MOST_DIGITS = 60
_HINT_FROM = len("sk-") + 8  # the last four characters would show half of a shorter key
# Characters that no key has, and what consoles show in place of its middle ("sk-abc****wxyz", "sk-abc…",
# "sk-xxxxxxxx", "sk-abc----wxyz") or of all of it.
_MASK = re.compile(
    r"[^A-Za-z0-9_.~+/=:-]|\.\.|x{8}|[_-]{4}"
    r"|^(?=.{,23}$).*(x{4}|-{3}|_{3})"  # short keys rarely have these by chance
    r"|^(sk-)?(hidden|masked|redacted|secret|none|null|undefined|n/a|-|)$",
    re.IGNORECASE,
)


class SecretToken:
    """A key that stays hidden in ``repr``, ``str``, formats, JSON and pickles."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the key itself, to send it or to hand it to its owner."""
        return self.__value

    @property
    def hint(self) -> str:
        """``sk-…`` and the last four characters: enough to tell two keys apart."""
        return "sk-…" + (self.__value[-4:] if len(self.__value) >= _HINT_FROM else "")

    @property
    def is_masked(self) -> bool:
        """Whether characters of the key seem to be replaced for display, so that it is useless."""
        return _MASK.search(self.__value) is not None

    def __repr__(self) -> str:
        return f"SecretToken({self.hint!r})"

    def __str__(self) -> str:
        return self.hint

    def __format__(self, spec: str) -> str:
        return format(self.hint, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretToken):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self.__value)

    def __copy__(self) -> SecretToken:
        return self

    def __deepcopy__(self, memo: object) -> SecretToken:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretToken is not pickled: hand over its account's id instead")


class ModelPricing(msgspec.Struct, frozen=True, gc=False):
    """
    One model that a sub-account may use, and its price factor.

    :param model: the model's name.
    :param pricing_factor: a factor >= 0. ``None`` in a listing: the account still has obsolete prices that
        the platform never converted, and the entry cannot be sent back as it is.
    :param auto_following: an obsolete parameter, which the platform turned into factor 1.
    """

    model: str
    pricing_factor: Decimal | None = None
    auto_following: bool | None = None

    def __post_init__(self) -> None:
        factor = self.pricing_factor
        if factor is not None and not (factor.is_finite() and abs(factor.adjusted()) <= MOST_DIGITS):
            raise ValueError("pricing_factor is not a number that an account can have")

    @property
    def factor(self) -> Decimal | None:
        """The factor in force; ``None`` if the platform never converted this entry."""
        if self.pricing_factor is None and self.auto_following:
            return Decimal(1)
        return self.pricing_factor


class SubAccount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    A sub-account as a listing or a create returns it. ``token`` is its secret key.

    ``created_at`` and ``updated_at`` are the platform's own text (``+08:00``, microseconds); a number is kept
    as text and is not read as a time.
    """

    id: int
    token: SecretToken
    alias: str | None = ""
    user_id: int | None = None
    token_type: str | None = ""
    enabled: bool | None = True
    model_pricing: tuple[ModelPricing, ...] | None = ()
    balance: Decimal | None = None
    monthly_cost: Decimal | None = None
    created_at: str | None = None
    updated_at: str | None = None

    def __post_init__(self) -> None:
        _require_amount("balance", self.balance)
        _require_amount("monthly_cost", self.monthly_cost)

    @property
    def is_sub_account(self) -> bool:
        """False for anything that must never be deleted, such as the main account's own key."""
        return self.token_type == SUB_ACCOUNT_TOKEN_TYPE

    @property
    def is_other(self) -> bool:
        """True if the entry says that it is not a sub-account; false if it does not say what it is."""
        return bool(self.token_type) and not self.is_sub_account

    @property
    def created(self) -> datetime | None:
        """When it was created; ``None`` if the time cannot be read."""
        try:
            created = datetime.fromisoformat(self.created_at or "")
            return None if created.utcoffset() is None else created.astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    @property
    def pricing(self) -> dict[str, Decimal | None]:
        """Factor by model; ``None`` if the platform never converted the obsolete prices."""
        return {entry.model: entry.factor for entry in self.model_pricing or ()}

    def record(self) -> dict[str, Any]:
        """
        Return the account as plain JSON without its token, safe for XCom and logs.

        Amounts are strings, exactly as the platform gave them.
        """
        return {
            "id": self.id,
            "alias": self.alias,
            "balance": amount_text(self.balance),
            "monthly_cost": amount_text(self.monthly_cost),
            "model_pricing": pricing_record(self.pricing),
            "enabled": self.enabled,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "token_hint": self.token.hint,
        }


class UnreadableItem(msgspec.Struct, frozen=True):
    """
    An entry of a listing that cannot be read.

    :param id: its id; ``None`` if even that cannot be read.
    :param alias: its alias; ``None`` if that cannot be read.
    :param problem: what is wrong, by the name of the field, never its content.
    :param digest: hash of its content: tells entries without an id apart.
    """

    id: int | None
    alias: str | None
    problem: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{'no id' if self.id is None else f'id {self.id}'}: {self.problem}"


#: An entry of a listing.
Item = SubAccount | UnreadableItem


class SubAccountPage(msgspec.Struct, frozen=True):
    """
    One page of a listing.

    :param items: its accounts, in the platform's order.
    :param total: number of accounts that the platform reports, in all or on this page.
    :param page_size: accounts per page that the platform reports to have used.
    :param unreadable: its entries that cannot be read; they are not in ``items``.
    """

    items: tuple[SubAccount, ...] | None
    total: int | None = None
    page_size: int | None = msgspec.field(default=None, name="pageSize")
    unreadable: tuple[UnreadableItem, ...] = ()


class SuccessAnswer(msgspec.Struct, frozen=True):
    """The answer of an update or a delete."""

    success: Any

    def __post_init__(self) -> None:
        if str(self.success).lower() not in ("true", "1"):
            raise ValueError("`success` is not true")


class CreateAnswer(msgspec.Struct, frozen=True):
    """The answer of a create: the new accounts, keys included."""

    items: tuple[SubAccount, ...] | None


class CreditGrants(msgspec.Struct, frozen=True):
    """The main account's billing; ``total_used`` is its consumption this month."""

    total_used: Decimal

    def __post_init__(self) -> None:
        _require_amount("total_used", self.total_used)


class ApiBase(msgspec.Struct, frozen=True):
    """
    A base that serves the API, as discovery lists it.

    :param api: its origin, for instance ``https://api.example.org``; no trailing slash.
    :param priority: larger is better; low ones are for emergencies only.
    :param status: ``ok`` when the platform recommends it.
    """

    api: str
    desc: str | None = ""
    priority: int = 0
    status: str = "ok"


class BaseHealth(msgspec.Struct, frozen=True):
    """
    What is known of a base's health.

    :param healthy: whether it answered 200 with exactly ``healthy``, or served a real call.
    :param checked_at: when that was, in seconds since the epoch.
    :param detail: how that was seen, for people.
    :param is_proof: False if ``healthy`` proves nothing: not probed yet, or the probe was throttled.
    """

    base: ApiBase
    healthy: bool
    checked_at: float
    detail: str
    is_proof: bool = True


def amount_text(amount: Decimal | None) -> str | None:
    """Write an amount as plain digits (never ``1E-8``), ``None`` as ``None``."""
    return None if amount is None else format(amount, "f")


def factor_json(factor: Decimal | None) -> int | float | str | None:
    """Write a factor as the JSON number that reads back the same, or as text if no double does."""
    if factor is None:
        return None
    if factor == factor.to_integral_value():
        return int(factor)
    return float(factor) if Decimal(repr(float(factor))) == factor else format(factor, "f")


def same_factor(one: Decimal | None, other: Decimal | None) -> bool:
    """Return whether two factors are the same JSON double, as which they are sent."""
    if one is None or other is None:
        return one is other
    return float(one) == float(other)


def same_pricing(one: Mapping[str, Decimal | None], other: Mapping[str, Decimal | None]) -> bool:
    """Return whether two price lists have the same models with the same factors."""
    return one.keys() == other.keys() and all(same_factor(one[model], other[model]) for model in one)


def pricing_record(pricing: dict[str, Decimal | None]) -> list[dict[str, Any]]:
    """Write prices as the API's list of dicts."""
    return [{"model": model, "pricing_factor": factor_json(factor)} for model, factor in pricing.items()]


def pricing_body(pricing: Mapping[str, Decimal]) -> list[dict[str, Any]]:
    """Write prices for a request: exact numbers, integers without a fraction."""
    return [
        {"model": model, "pricing_factor": int(factor) if factor == factor.to_integral_value() else factor}
        for model, factor in pricing.items()
    ]


def _require_amount(name: str, amount: Decimal | None) -> None:
    if amount is None:
        return
    text = str(amount)
    if len(text) < MOST_DIGITS and "E" not in text and amount.is_finite():
        return  # nearly every amount, at a fifth of the cost of ``as_tuple``
    if not amount.is_finite():
        raise ValueError(f"{name} is not a finite number")
    if max(amount.adjusted(), -int(amount.as_tuple().exponent)) > MOST_DIGITS:
        raise ValueError(f"{name} has more than {MOST_DIGITS} digits before or after the point")
