"""Users' requests, with the defaults and checks of every write (operators show the same defaults)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict

import msgspec

from airflow_provider_closeai.client.models import SubAccount, same_pricing
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.inputs import bad
from airflow_provider_closeai.provisioning.selection import Selection
from airflow_provider_closeai.provisioning.texts import span_text

_MODES = ("merge", "replace")
_IF_EXISTS = ("ensure", "update", "match", "fail")
_MISSING = ("ignore", "fail")
_SHORTEST_GRACE = timedelta(hours=1)


class CreateOptions(TypedDict, total=False):
    """The keywords of :meth:`CreateRequest.parse`."""

    if_exists: str
    batch_size: int | str
    settle: float | str


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    Exactly ``count`` accounts of an alias must exist.

    :param besides: ids of accounts that do not count: rotation replaces them.
    :param at_most: how many may be created, even if more are missing by then; ``None``: no limit.
    """

    alias: str
    pricing: dict[str, Decimal]
    balance: Decimal
    count: int
    if_exists: str
    batch_size: int
    settle: float
    besides: frozenset[int] = frozenset()
    at_most: int | None = None

    @classmethod
    def parse(
        cls,
        alias: object,
        model_pricing: object,
        balance: object,
        count: object = 1,
        *,
        if_exists: object = "ensure",
        batch_size: object = 100,
        settle: object = 30.0,
    ) -> CreateRequest:
        """
        Check the parameters, those of CreateSubAccountsOperator (docs/operators/create.md).

        :raises InvalidParameter: one is wrong; names the first.
        """
        return cls(
            alias=inputs.new_alias(alias),
            pricing=inputs.pricing(model_pricing),
            balance=inputs.amount("balance", balance),
            count=inputs.whole_number("count", count, 1),
            if_exists=inputs.choice("if_exists", if_exists, _IF_EXISTS),
            batch_size=inputs.whole_number("batch_size", batch_size, 1),
            settle=float(inputs.amount("settle", settle)),
        )

    def differing(self, accounts: Iterable[SubAccount]) -> list[SubAccount]:
        """Return the accounts whose prices are not the requested ones."""
        return [each for each in accounts if not same_pricing(each.pricing, self.pricing)]

    def record(self, account: SubAccount) -> dict[str, Any]:
        """
        Return an account's record, with ``pricing_differs: true`` if its prices are not the requested ones.
        """
        return account.record() | ({"pricing_differs": True} if self.differing([account]) else {})


class RepriceOptions(TypedDict, total=False):
    """The options of :meth:`RepriceRequest.parse`."""

    mode: str
    batch_size: int | str
    dry_run: bool | str


class RepriceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Selected accounts must have these prices."""

    accounts: Selection
    pricing: dict[str, Decimal]
    mode: str
    batch_size: int
    dry_run: bool

    @classmethod
    def parse(
        cls,
        model_pricing: object,
        sub_accounts: object = None,
        alias: object = None,
        sks: object = None,
        mode: object = "merge",
        batch_size: object = 100,
        dry_run: object = False,
    ) -> RepriceRequest:
        """
        Check the parameters, those of UpdatePricingOperator (docs/operators/pricing.md).

        :raises InvalidParameter: one is wrong; names the first.
        """
        return cls(
            accounts=Selection.parse(sub_accounts, alias, sks),
            pricing=inputs.pricing(model_pricing),
            mode=inputs.choice("mode", mode, _MODES),
            batch_size=inputs.whole_number("batch_size", batch_size, 1),
            dry_run=inputs.flag("dry_run", dry_run),
        )


class DeleteOptions(TypedDict, total=False):
    """The options of :meth:`DeleteRequest.parse`."""

    missing: str
    max_delete: int | str | None
    batch_size: int | str
    dry_run: bool | str


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Selected accounts must be deleted."""

    accounts: Selection
    missing: str
    max_delete: int | None
    batch_size: int
    dry_run: bool

    @classmethod
    def parse(
        cls,
        sub_accounts: object = None,
        alias: object = None,
        sks: object = None,
        missing: object = "ignore",
        max_delete: object = None,
        batch_size: object = 100,
        dry_run: object = False,
    ) -> DeleteRequest:
        """
        Check the parameters, those of DeleteSubAccountsOperator (docs/operators/delete.md).

        :raises InvalidParameter: one is wrong; names the first.
        """
        return cls(
            accounts=Selection.parse(sub_accounts, alias, sks),
            missing=inputs.choice("missing", missing, _MISSING),
            max_delete=None if max_delete is None else inputs.whole_number("max_delete", max_delete, 0),
            batch_size=inputs.whole_number("batch_size", batch_size, 1),
            dry_run=inputs.flag("dry_run", dry_run),
        )


class RotateOptions(TypedDict, total=False):
    """The options of :meth:`RotateRequest.parse`."""

    every: timedelta | str
    grace: timedelta | str
    max_rotate: int | str
    rotate_from: datetime | str | None
    batch_size: int | str
    settle: float | str


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    ``count`` accounts of an alias, younger than ``every``, must always exist.

    :param wanted: the accounts that must exist.
    :param max_rotate: how many adopted keys may be replaced at a time.
    :param begins: nothing is replaced before this time.
    :param expires: from then on no account is wanted: nothing is replaced within ``grace`` before it.
    """

    wanted: CreateRequest
    every: timedelta
    grace: timedelta
    max_rotate: int
    begins: datetime | None = None
    expires: datetime | None = None

    @classmethod
    def parse(
        cls,
        alias: object,
        model_pricing: object,
        balance: object,
        count: object = 1,
        *,
        every: object = timedelta(days=90),
        grace: object = timedelta(days=7),
        max_rotate: object = "10%",
        rotate_from: object = None,
        expires: object = None,
        batch_size: object = 100,
        settle: object = 30.0,
    ) -> RotateRequest:
        """
        Check the parameters, those of RotateSubAccountsOperator (docs/operators/rotate.md).

        :raises InvalidParameter: one is wrong; names the first.
        """
        wanted = CreateRequest.parse(
            alias, model_pricing, balance, count, batch_size=batch_size, settle=settle
        )
        life, overlap = inputs.span("every", every), inputs.span("grace", grace)
        if overlap < _SHORTEST_GRACE:
            raise bad(
                "grace",
                f"is {span_text(overlap)}",
                "give at least 1 h: in it, all users of a key reload it",
            )
        if life < 2 * overlap:
            raise bad(
                "every",
                f"is {span_text(life)}, and grace is {span_text(overlap)}",
                "give every as at least 2 x grace",
            )
        return cls(
            wanted=wanted,
            every=life,
            grace=overlap,
            max_rotate=_share("max_rotate", max_rotate, wanted.count),
            begins=None if rotate_from is None else inputs.moment("rotate_from", rotate_from),
            expires=None if expires is None else inputs.moment("expires", expires),
        )

    def may_replace(self, now: datetime) -> bool:
        """Return whether it is time to replace anything at all."""
        is_begun = self.begins is None or now >= self.begins
        return is_begun and (self.expires is None or now + self.grace < self.expires)


def _share(name: str, value: object, whole: int) -> int:
    cure = "give a whole number >= 1, or a percentage of count such as '10%'"
    percent = inputs.percentage(value)
    if percent:
        return max(int(whole * percent / 100), 1)
    number = inputs.integer(value)
    if number is None or number < 1:
        raise bad(name, f"is {inputs.shown(value)}", cure)
    return number
