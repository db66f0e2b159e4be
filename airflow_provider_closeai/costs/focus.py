"""The FOCUS 1.2 column layout: one row per account and interval. Not a claim of conformance.

What the specification wants and a monthly counter cannot give is listed in docs/costs.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import IO, Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.closing import Correction, read_closing, read_corrections
from airflow_provider_closeai.costs.errors import DamagedFile
from airflow_provider_closeai.costs.figures import Report
from airflow_provider_closeai.costs.ledger import CORRECTIONS, Ledger
from airflow_provider_closeai.costs.months import Month, month_of, total
from airflow_provider_closeai.costs.owners import Owner
from airflow_provider_closeai.costs.tables import Column

BILLED_COSTS = ("effective", "zero")
_PROVIDER = "CloseAI"
_COLUMNS = (
    Column("BilledCost", "amount"),
    Column("BillingAccountId"),
    Column("BillingAccountName"),
    Column("BillingCurrency"),
    Column("BillingPeriodEnd", "time"),
    Column("BillingPeriodStart", "time"),
    Column("ChargeCategory"),
    Column("ChargeClass"),
    Column("ChargeDescription"),
    Column("ChargeFrequency"),
    Column("ChargePeriodEnd", "time"),
    Column("ChargePeriodStart", "time"),
    Column("ConsumedQuantity", "amount"),
    Column("ConsumedUnit"),
    Column("ContractedCost", "amount"),
    Column("EffectiveCost", "amount"),
    Column("InvoiceIssuerName"),
    Column("ListCost", "amount"),
    Column("PricingQuantity", "amount"),
    Column("PricingUnit"),
    Column("ProviderName"),
    Column("PublisherName"),
    Column("ServiceCategory"),
    Column("ServiceName"),
    Column("ServiceSubcategory"),
    Column("SubAccountId"),
    Column("SubAccountName"),
    Column("SubAccountType"),
    Column("Tags"),
    Column("x_Completeness"),
    Column("x_Kind"),
    Column("x_LocalMonth"),
)


class Issuer(msgspec.Struct, frozen=True):
    """
    What FOCUS wants to know and the platform does not tell.

    :param account: ``BillingAccountId``: the main account's name in your books.
    :param billed: ``effective``: ``BilledCost`` is the cost. ``zero``: it is 0, for usage is paid from credit
        whose purchase is a row elsewhere.
    """

    account: str
    billed: str = "effective"

    def __post_init__(self) -> None:
        if self.billed not in BILLED_COSTS:
            raise InvalidParameter(f"billed_cost: {self.billed!r} is not one of {', '.join(BILLED_COSTS)}.")


def write_focus(file: IO[bytes], report: Report, ledger: Ledger, issuer: Issuer) -> None:
    """
    Write a month's rows: its own, and corrections of earlier, closed months that were booked in it.

    :param file: where to.
    :param report: the month.
    :param ledger: where corrections are.
    :param issuer: who bills.
    """
    rows = (_cells(row, report, issuer) for row in _rows(report, ledger))
    tables.write_csv(file, _COLUMNS, rows)


class _Row(msgspec.Struct, frozen=True):
    amount: Decimal
    start: datetime
    end: datetime
    account_id: int
    alias: str
    owner: Owner
    kind: str
    is_correction: bool = False
    note: str = "usage (difference of a monthly counter)"


def _rows(report: Report, ledger: Ledger) -> Iterator[_Row]:
    """
    Yield the rows of a billing period.

    What was appended to a month before it was closed is that month's; what came afterwards is of the period
    in which it was booked, so that no row of a closed period changes and none is counted twice.
    """
    owners = {line.sub_account_id: line.owner for line in report.accounts}
    closed_at = None if report.closing is None else report.closing.at
    appended: dict[int, list[Correction]] = {}
    for item in report.appended:
        appended.setdefault(item.sub_account_id, []).append(item)
    for line in report.accounts:
        who = (line.sub_account_id, line.alias, line.owner)
        for span, amount in line.history.movements() if line.history else ():
            yield _Row(amount, span.start, span.end, *who, span.kind(amount))
        booked = appended.get(line.sub_account_id, [])
        for item in booked:
            if closed_at is None or item.recorded_at < closed_at:
                yield _correction(item, report.month, owners, is_correction=False)
        kept = total([line.adjustments, *(-item.amount for item in booked)])
        if kept:
            yield _Row(kept, report.month.start, report.month.end, *who, "closed", note="as closed")
    for name in ledger.months(CORRECTIONS):
        earlier = Month(name, report.month.zone)
        try:
            closing = read_closing(ledger, name, report.currency) if earlier < report.month else None
            later = read_corrections(ledger, name, report.currency) if closing else []
        except DamagedFile as error:
            report.warnings.append(f"Not in the FOCUS file: corrections of {name}. {error}")
            continue
        for item in later:
            is_booked_here = month_of(item.recorded_at, report.month.zone) == report.month
            if closing and is_booked_here and item.recorded_at >= closing.at:
                paid_by = {number: one.owner for number, one in closing.accounts.items()}
                yield _correction(item, earlier, owners | paid_by, is_correction=True)


def _correction(item: Correction, month: Month, owners: dict[int, Owner], *, is_correction: bool) -> _Row:
    return _Row(
        item.amount,
        month.start,
        month.end,
        item.sub_account_id,
        item.alias,
        owners.get(item.sub_account_id, Owner("")),
        item.source,
        is_correction,
        item.reason,
    )


def _cells(row: _Row, report: Report, issuer: Issuer) -> tuple[Any, ...]:
    tags = {"team": row.owner.team, "cost_center": row.owner.cost_center}
    return (
        row.amount if issuer.billed == "effective" else Decimal(0),
        issuer.account,
        issuer.account,
        report.currency,
        report.month.end,
        report.month.start,
        "Usage",
        "Correction" if row.is_correction else None,
        f"CloseAI sub-account: {row.note}",
        "Usage-Based",
        row.end,
        row.start,
        None,
        None,
        row.amount,
        row.amount,
        _PROVIDER,
        row.amount,
        None,
        None,
        _PROVIDER,
        _PROVIDER,
        "AI and Machine Learning",
        "CloseAI API",
        "Generative AI",
        str(row.account_id),
        row.alias,
        "sub-account",
        msgspec.json.encode({key: value for key, value in tags.items() if value}).decode(),
        report.status,
        row.kind,
        report.month.name,
    )
