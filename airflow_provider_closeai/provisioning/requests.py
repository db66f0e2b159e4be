"""What users ask for, read once: the defaults and the checks of every write are here and nowhere else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypedDict

import msgspec

from airflow_provider_closeai.client.models import SubAccount, same_pricing
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.selection import Selection

_MODES = ("merge", "replace")
_IF_EXISTS = ("ensure", "update", "match", "fail")
_MISSING = ("ignore", "fail")


class CreateOptions(TypedDict, total=False):
    """The keywords of :meth:`CreateRequest.parse`."""

    if_exists: str
    batch_size: int | str
    settle: float | str


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly ``count`` accounts of an alias shall exist."""

    alias: str
    pricing: dict[str, Decimal]
    balance: Decimal
    count: int
    if_exists: str
    batch_size: int
    settle: float

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
        Check the parameters; they are those of CreateSubAccountsOperator (docs/operators/create.md).

        :raises InvalidParameter: naming the first that is wrong.
        """
        return cls(
            alias=inputs.new_alias(alias),
            pricing=inputs.pricing(model_pricing),
            balance=inputs.amount("balance", balance),
            count=inputs.whole("count", count, 1),
            if_exists=inputs.choice("if_exists", if_exists, _IF_EXISTS),
            batch_size=inputs.whole("batch_size", batch_size, 1),
            settle=inputs.seconds("settle", settle),
        )

    def record(self, account: SubAccount) -> dict[str, Any]:
        """
        Return an account's record, with ``pricing_differs: true`` where its prices are not those asked for.

        :param account: of the alias.
        """
        differs = not same_pricing(account.pricing, self.pricing)
        return account.record() | ({"pricing_differs": True} if differs else {})


class RepriceOptions(TypedDict, total=False):
    """The options of :meth:`RepriceRequest.parse`."""

    mode: str
    batch_size: int | str
    dry_run: bool | str


class RepriceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Selected accounts shall have prices."""

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
        Check the parameters; they are those of UpdatePricingOperator (docs/operators/pricing.md).

        :raises InvalidParameter: naming the first that is wrong.
        """
        return cls(
            accounts=Selection.parse(sub_accounts, alias, sks),
            pricing=inputs.pricing(model_pricing),
            mode=inputs.choice("mode", mode, _MODES),
            batch_size=inputs.whole("batch_size", batch_size, 1),
            dry_run=inputs.flag("dry_run", dry_run),
        )


class DeleteOptions(TypedDict, total=False):
    """The options of :meth:`DeleteRequest.parse`."""

    missing: str
    max_delete: int | str | None
    batch_size: int | str
    dry_run: bool | str


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Selected accounts shall be gone."""

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
        Check the parameters; they are those of DeleteSubAccountsOperator (docs/operators/delete.md).

        :raises InvalidParameter: naming the first that is wrong.
        """
        return cls(
            accounts=Selection.parse(sub_accounts, alias, sks),
            missing=inputs.choice("missing", missing, _MISSING),
            max_delete=None if max_delete is None else inputs.whole("max_delete", max_delete, 0),
            batch_size=inputs.whole("batch_size", batch_size, 1),
            dry_run=inputs.flag("dry_run", dry_run),
        )
