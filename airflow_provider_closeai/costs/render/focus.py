"""The FOCUS 1.2 column layout: one row per account and interval. Not a claim of conformance.

What the specification wants and a monthly counter cannot give is listed in docs/costs.md.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import IO

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.accounting.report_model import Movement, Report
from airflow_provider_closeai.costs.accounting.shares import Owner
from airflow_provider_closeai.costs.tables import Column, Constant

BILLED_COSTS = ("effective", "zero")
_EMPTY = Constant(None)
_PROVIDER = Constant("CloseAI")
_USAGE = "usage (difference of a monthly counter)"


class _Charge(msgspec.Struct, frozen=True, gc=False):
    """A row: a movement, and whether it corrects an earlier, closed month."""

    movement: Movement
    charge_class: str | None = None


def parse_billed_cost(value: object) -> str:
    """
    Read the ``billed_cost`` parameter.

    :param value: ``effective``: ``BilledCost`` is the cost. ``zero``: it is 0, for usage is paid from credit
        whose purchase is a row elsewhere.
    :raises InvalidParameter: another one.
    """
    if value not in BILLED_COSTS:
        raise InvalidParameter(f"billed_cost: {value!r} is not one of {', '.join(BILLED_COSTS)}.")
    return str(value)


def write_focus(
    file: IO[bytes], report: Report, late: Iterable[Movement], *, account: str, billed_cost: str
) -> None:
    """
    Write a month's rows: its own, and lines appended to earlier, closed months that were booked in it.

    :param file: where to.
    :param report: the month.
    :param late: the lines appended to earlier months.
    :param account: ``BillingAccountId``: the main account's name in your books.
    :param billed_cost: ``effective`` or ``zero``.
    """
    tables.write_csv(file, _columns(report, account, billed_cost), _charges(report, late))


def _charges(report: Report, late: Iterable[Movement]) -> Iterator[_Charge]:
    """
    Yield the rows of a billing period.

    What was appended to a month before it was closed is that month's; what came afterwards is of the period
    in which it was booked, so that no row of a closed period changes and none is counted twice.
    """
    closed_at = None if report.closing is None else report.closing.at
    for account in report.accounts:
        for movement in account.movements():
            if movement.recorded_at is None or closed_at is None or movement.recorded_at < closed_at:
                yield _Charge(movement)
    for movement in late:
        yield _Charge(movement, "Correction")


def _columns(report: Report, account: str, billed_cost: str) -> tuple[Column, ...]:
    start, end = report.month.start, report.month.end
    amount = "movement.amount"
    return (
        Column("BilledCost", "amount", amount if billed_cost == "effective" else Constant(Decimal(0))),
        Column("BillingAccountId", cell=Constant(account)),
        Column("BillingAccountName", cell=Constant(account)),
        Column("BillingCurrency", cell=Constant(report.currency)),
        Column("BillingPeriodEnd", "time", Constant(end)),
        Column("BillingPeriodStart", "time", Constant(start)),
        Column("ChargeCategory", cell=Constant("Usage")),
        Column("ChargeClass", cell="charge_class"),
        Column("ChargeDescription", cell=lambda row: f"CloseAI sub-account: {row.movement.reason or _USAGE}"),
        Column("ChargeFrequency", cell=Constant("Usage-Based")),
        Column("ChargePeriodEnd", "time", lambda row: row.movement.end or end),
        Column("ChargePeriodStart", "time", lambda row: row.movement.start or start),
        Column("ConsumedQuantity", "amount", _EMPTY),
        Column("ConsumedUnit", cell=_EMPTY),
        Column("ContractedCost", "amount", amount),
        Column("EffectiveCost", "amount", amount),
        Column("InvoiceIssuerName", cell=_PROVIDER),
        Column("ListCost", "amount", amount),
        Column("PricingQuantity", "amount", _EMPTY),
        Column("PricingUnit", cell=_EMPTY),
        Column("ProviderName", cell=_PROVIDER),
        Column("PublisherName", cell=_PROVIDER),
        Column("ServiceCategory", cell=Constant("AI and Machine Learning")),
        Column("ServiceName", cell=Constant("CloseAI API")),
        Column("ServiceSubcategory", cell=Constant("Generative AI")),
        Column("SubAccountId", cell=lambda row: str(row.movement.sub_account_id)),
        Column("SubAccountName", cell="movement.alias"),
        Column("SubAccountType", cell=Constant("sub-account")),
        Column("Tags", cell=lambda row: _tags(row.movement.owner)),
        Column("x_Completeness", cell=Constant(report.status)),
        Column("x_Kind", cell="movement.kind"),
        Column("x_LocalMonth", cell=Constant(report.month.name)),
    )


@functools.lru_cache(4096)
def _tags(owner: Owner) -> str:
    tags = {"team": owner.team, "cost_center": owner.cost_center}
    return msgspec.json.encode({key: value for key, value in tags.items() if value}).decode()
