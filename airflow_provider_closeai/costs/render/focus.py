"""FOCUS: the columns of 1.2, those of 1.3 and 1.4 that can be filled, and the metadata.

A row is a movement. This is not a claim of conformance: what each version requires and a monthly counter
cannot give is in docs/focus.md.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import IO, Any

import msgspec

from airflow_provider_closeai import __version__
from airflow_provider_closeai.costs.accounting.money import ZERO
from airflow_provider_closeai.costs.accounting.report_model import OPEN, AccountCosts, Movement, Report
from airflow_provider_closeai.costs.accounting.shares import Owner
from airflow_provider_closeai.costs.tables import Column, Constant, utc_text
from airflow_provider_closeai.costs.texts import json_text

#: ``BilledCost`` is the cost; or 0, if usage is paid from credit whose purchase is a row elsewhere.
BILLED_COSTS = ("effective", "zero")
_EMPTY = Constant(None)
_PROVIDER = Constant("CloseAI")
_USAGE = "usage (difference of a monthly counter)"
FOCUS_VERSION = "1.2"
_GENERATOR = "airflow-provider-closeai"
_TYPES = {"text": "STRING", "amount": "DECIMAL", "time": "DATETIME", "integer": "INTEGER"}
#: A schema's id is made from its columns: the same columns have the same id in every deployment.
_NAMESPACE = uuid.UUID("6f1a0f1e-6d3c-5f0e-9b7d-0c9b0f6a2d11")


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """
    A month to be written, as FOCUS and as pages.

    :param late: lines appended to earlier, closed months while this month went on.
    :param account: ``BillingAccountId``: the main account's name in your books.
    :param billed_cost: ``effective`` or ``zero``.
    """

    report: Report
    late: Sequence[Movement]
    account: str
    billed_cost: str


class _Charge(msgspec.Struct, frozen=True, gc=False):
    """
    A row: a movement.

    :param name: the account's alias at the time of the movement.
    :param charge_class: ``Correction`` if it corrects an earlier, closed month.
    :param certainty: the certainty of the account's month; this and ``unseen_minutes`` are ``None`` if the
        row is of another month.
    """

    movement: Movement
    name: str
    charge_class: str | None = None
    certainty: str | None = None
    unseen_minutes: int | None = None


def charges(dataset: Dataset) -> Iterator[_Charge]:
    """
    Yield the rows of a billing period.

    Lines appended to a month before it was closed belong to that month; later lines belong to the period in
    which they were booked, so that no row of a closed period changes and none is counted twice.
    """
    closing = dataset.report.closing
    closed_at = None if closing is None else closing.at
    for account in dataset.report.accounts:
        is_in_period, unseen = False, max(account.unseen_minutes, account.gap_minutes)
        for movement in account.movements():
            if movement.recorded_at is None or closed_at is None or movement.recorded_at < closed_at:
                is_in_period = True
                name = _name_then(account, movement)
                yield _Charge(movement, name, None, account.certainty, unseen)
        if not is_in_period and not account.is_certain:  # else a lower bound of 0 would not be seen
            for part in account.parts or [account]:
                nothing = Movement(part.sub_account_id, part.alias, part.owner, "uncertain", ZERO)
                yield _Charge(nothing, part.alias, None, account.certainty, unseen)
    for movement in dataset.late:
        yield _Charge(movement, movement.alias, "Correction")


def _name_then(account: AccountCosts, movement: Movement) -> str:
    """Return the alias at the end of a movement, so that later renames do not change earlier rows."""
    if movement.end is not None and account.history is not None:
        for rename in account.history.renames:
            if rename.at > movement.end:
                return rename.old
    return movement.alias


def columns_of(dataset: Dataset) -> tuple[Column, ...]:
    """Return the columns, in alphabetical order, those of later FOCUS versions included."""
    report = dataset.report
    start, end = report.month.start, report.month.end
    amount = "movement.amount"
    billed = amount if dataset.billed_cost == "effective" else Constant(ZERO)
    return (
        Column("BilledCost", "amount", billed),
        Column("BillingAccountId", cell=Constant(dataset.account)),
        Column("BillingAccountName", cell=Constant(dataset.account)),
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
        Column("HostProviderName", cell=_PROVIDER),
        Column("InvoiceId", cell=_EMPTY),
        Column("InvoiceIssuerName", cell=_PROVIDER),
        Column("ListCost", "amount", amount),
        Column("PricingQuantity", "amount", _EMPTY),
        Column("PricingUnit", cell=_EMPTY),
        Column("ProviderName", cell=_PROVIDER),
        Column("PublisherName", cell=_PROVIDER),
        Column("ServiceCategory", cell=Constant("AI and Machine Learning")),
        Column("ServiceName", cell=Constant("CloseAI API")),
        Column("ServiceProviderName", cell=_PROVIDER),
        Column("ServiceSubcategory", cell=Constant("Generative AI")),
        Column("SubAccountId", cell=lambda row: str(row.movement.sub_account_id)),
        Column("SubAccountName", cell="name"),
        Column("SubAccountType", cell=Constant("sub-account")),
        Column("Tags", cell=lambda row: _tags(row.movement.owner)),
        Column("x_Completeness", cell=Constant(report.status)),
        Column("x_Kind", cell="movement.kind"),
        Column("x_LocalMonth", cell=Constant(report.month.name)),
        Column("x_Certainty", cell="certainty"),
        Column("x_UnseenMinutes", "integer", "unseen_minutes"),
    )


@functools.lru_cache(4096)
def _tags(owner: Owner) -> str:
    tags = {"team": owner.team, "cost_center": owner.cost_center}
    return json_text(msgspec.json.encode({key: value for key, value in tags.items() if value}).decode())


def write_metadata(file: IO[bytes], dataset: Dataset) -> None:
    """Write the metadata of a month's rows as JSON, in FOCUS 1.3's collections."""
    report = dataset.report
    columns = [_definition(column) for column in columns_of(dataset)]
    schema = uuid.uuid5(_NAMESPACE, json.dumps(columns))
    instance = uuid.uuid5(_NAMESPACE, dataset.account)
    updated = utc_text(report.generated_at)
    metadata = {
        "DataGenerator": {"DataGenerator": _GENERATOR, "DataGeneratorVersion": __version__},
        "DatasetInstance": {
            "DatasetInstanceId": str(instance),
            "DatasetInstanceName": f"CloseAI costs of {dataset.account}",
            "FocusDatasetId": "CostAndUsage",
        },
        "Recency": {
            "DatasetInstanceId": str(instance),
            "DatasetInstanceLastUpdated": updated,
            "TimeSectors": [
                {
                    "TimeSectorStart": utc_text(report.month.start),
                    "TimeSectorEnd": utc_text(report.month.end),
                    "TimeSectorComplete": report.status != OPEN,
                    "TimeSectorLastUpdated": updated,
                }
            ],
        },
        "Schema": {
            "SchemaId": str(schema),
            "FocusVersion": FOCUS_VERSION,
            "DataGeneratorVersion": __version__,
            "DatasetInstanceId": str(instance),
            "CreationDate": updated,
            "ColumnDefinition": columns,
        },
    }
    file.write(json.dumps(metadata, indent=1).encode() + b"\n")


def _definition(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"ColumnName": column.name}
    found["DataType"] = "JSON" if column.name == "Tags" else _TYPES[column.kind]
    if column.kind == "text":
        found["StringEncoding"] = "UTF-8"
    return found
