"""FOCUS: its columns, its folders, its metadata, and that no row of yesterday changes tomorrow."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from books import Book, Clock, local

from airflow_provider_closeai import __version__

DOCS = Path(__file__).parents[2] / "docs/focus.md"
#: What each version wants in Cost and Usage, as its text says.
MANDATORY = {
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
}
CONDITIONAL = {
    "AllocatedMethodId",
    "AllocatedResourceId",
    "AllocatedResourceName",
    "AllocatedTags",
    "BillingAccountType",
    "CapacityReservationId",
    "CapacityReservationStatus",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
    "CommitmentProgramEligibilityDetails",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractApplied",
    "ContractedUnitPrice",
    "InvoiceDetailId",
    "InvoiceId",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "RegionId",
    "RegionName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
}
RECOMMENDED = {"AllocatedMethodDetails", "AvailabilityZone", "ChargeFrequency", "ServiceSubcategory"}


def table(path: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text("utf-8-sig"))))


@pytest.fixture
def plain(book: Book) -> Book:
    book.seen("10-31 23:55", {1: ("7", "search.a")})
    book.seen("11-04 09:00", {1: ("1.5", "search.a"), 2: ("2", "=x")})
    return book


def test_every_column_of_the_specification_is_listed(plain: Book, tmp_path: Path) -> None:
    """What is there is named, and so is what is not there, with the reason."""
    written = set(table(plain.publish(tmp_path, ["focus"]).files["focus"])[0])
    assert written >= MANDATORY
    _, _, columns = DOCS.read_text().partition("## Every column")
    listed, _, _ = columns.partition("\n## ")
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| (.+) \|$", listed, re.MULTILINE))
    assert set(rows) == MANDATORY | CONDITIONAL | RECOMMENDED | {name for name in written if name[:2] == "x_"}
    assert {name for name, told in rows.items() if told.startswith("not there")} == set(rows) - written


def test_the_newer_names_say_who_is_who(plain: Book, tmp_path: Path) -> None:
    names = ("ServiceProviderName", "HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName")
    for line in table(plain.publish(tmp_path, ["focus"]).files["focus"]):
        assert {line[name] for name in names} == {"CloseAI"}
        assert line["InvoiceId"] == ""


def test_the_metadata_names_versions_and_columns(plain: Book, tmp_path: Path) -> None:
    files = plain.publish(tmp_path, ["focus"]).files
    found = json.loads(Path(files["focus-metadata"]).read_text())
    assert found["DataGenerator"] == {
        "DataGenerator": "airflow-provider-closeai",
        "DataGeneratorVersion": __version__,
    }
    schema = found["Schema"]
    assert (schema["FocusVersion"], schema["DataGeneratorVersion"]) == ("1.2", __version__)
    assert [column["ColumnName"] for column in schema["ColumnDefinition"]] == list(table(files["focus"])[0])
    kinds = {column["ColumnName"]: column["DataType"] for column in schema["ColumnDefinition"]}
    assert (kinds["Tags"], kinds["BilledCost"], kinds["ChargePeriodEnd"]) == ("JSON", "DECIMAL", "DATETIME")
    [sector] = found["Recency"]["TimeSectors"]
    assert (sector["TimeSectorStart"], sector["TimeSectorComplete"]) == ("2026-10-31T16:00:00Z", False)
    again = json.loads(Path(plain.publish(tmp_path, ["focus"]).files["focus-metadata"]).read_text())
    assert again["Schema"]["SchemaId"] == schema["SchemaId"]


def test_folders_to_query(plain: Book, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    for month in ("2026-10", "2026-11"):
        plain.publish(out, ["focus", "focus-csv", "focus-parquet"], month)
    name = "billing_month=2026-11/closeai-costs-2026-11-focus"
    one = out / "closeai-costs-2026-11-focus.csv"
    assert (out / f"focus-csv/{name}.csv").read_bytes() == one.read_bytes()
    found = parquet.read_table(out / f"focus-parquet/{name}.parquet")
    assert str(found.schema.field("EffectiveCost").type) == "decimal128(38, 8)"
    assert found["EffectiveCost"].to_pylist() == [Decimal(line["EffectiveCost"]) for line in table(one)]
    assert found["SubAccountName"].to_pylist() == ["=x", "search.a"]
    months = parquet.read_table(out / "focus-parquet")  # all of them, by their folders
    assert set(months["billing_month"].to_pylist()) == {"2026-10", "2026-11"}


def test_a_rename_changes_no_earlier_row(book: Book, clock: Clock, tmp_path: Path) -> None:
    book.seen("11-04 09:00", {1: ("1", "old.name")})
    book.seen("11-05 09:00", {1: ("3", "old.name")})
    before = table(book.publish(tmp_path, ["focus"]).files["focus"])
    book.seen("11-06 09:00", {1: ("4", "new.name")})
    book.seen("11-07 09:00", {1: ("6", "newest.name")})
    after = table(book.publish(tmp_path, ["focus"]).files["focus"])
    assert after[: len(before)] == before
    names = [line["SubAccountName"] for line in after]
    assert names == ["old.name", "old.name", "new.name", "newest.name"]
    clock.at = local("11-08 09:00")
    book.note(sub_account_id=1, amount="-1", alias="newest.name")
    assert table(book.publish(tmp_path, ["focus"]).files["focus"])[-1]["SubAccountName"] == "newest.name"


def test_an_account_that_vanished_has_the_minutes_that_nobody_saw(book: Book, tmp_path: Path) -> None:
    for at in ("11-03 12:00", "11-04 12:00"):
        book.seen(at, {1: "50", 2: "1"})
    book.seen("11-04 18:00", {2: "1"})
    rows = table(book.publish(tmp_path, ["focus"]).files["focus"])
    unseen = {row["SubAccountId"]: row["x_UnseenMinutes"] for row in rows}
    assert unseen == {"1": "360", "2": "0"}
