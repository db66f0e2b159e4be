"""The FOCUS Foundation's own validator on our files: what it objects to is listed, and nothing else is.

It lives in environments of its own, made by ``make test-deep``: it needs older libraries than Airflow.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from books import Book

ROOT = Path(__file__).parents[2]
#: In the rules of 1.0: names that the specification never had, and conditional columns as mandatory ones.
MISNAMED = {"Provider", "Publisher", "InvoiceIssuer", "ResourceID"}
CONDITIONAL = {
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "RegionId",
    "RegionName",
    "ResourceName",
    "ResourceType",
    "SkuId",
    "SkuPriceId",
}
EXPECTED = {
    # It reads a CSV by itself, and takes ids of digits for numbers.
    "1.0": {f"{name}_Required" for name in MISNAMED | CONDITIONAL} | {"SubAccountId_IsString"},
    # It cannot know that there is no invoice.
    "1.2": {"InvoiceId-C-005-C"},
}
RULES = {"1.0": ["--validate-version", "1.0"], "1.2": ["--validate-version", "1.2.0.1", "--block-download"]}


@pytest.mark.deep
@pytest.mark.parametrize("version", RULES)
def test_the_validator_objects_to_what_is_listed(book: Book, tmp_path: Path, version: str) -> None:
    environment = ROOT / f".venv/focus-{version}"
    if not (environment / ".stamp").exists():
        pytest.skip(f"{environment} was not made: its Python is not on this machine")
    book.seen("10-31 23:55", {1: ("9", "search.a"), 2: ("9", "ads.a")})
    book.seen("11-01 00:05", {1: ("0", "search.a"), 2: ("0", "ads.a")})
    book.seen("11-04 09:00", {1: ("1.5", "search.a"), 2: ("2", "ads.a")})
    book.seen("11-05 09:00", {1: ("1", "search.b"), 2: ("2.00000001", "ads.a")})
    book.note(sub_account_id=2, amount="-0.05")
    file = book.publish(tmp_path, ["focus"], owners={"search.*": "Search"}).files["focus"]
    (packages,) = environment.glob("lib/python*/site-packages")
    command = [str(environment / "bin/focus-validator"), "--data-file", file, "--output-type", "console"]
    # It looks for its lists of currencies where it is started.
    done = subprocess.run(
        [*command, *RULES[version]], cwd=packages, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert "Validation" in said or "Pass:" in said, said[-2000:]
    found = re.findall(r"^(\w+) failed:|^\S+ ([\w-]+): FAIL", said, re.MULTILINE)
    assert {old or new for old, new in found} == EXPECTED[version]


def test_the_documentation_lists_what_it_objects_to() -> None:
    text = (ROOT / "docs/focus.md").read_text("utf-8")
    _, _, section = text.partition("## What a validator says")
    for name in MISNAMED | {"SubAccountId", "InvoiceId-C-005-C"}:
        assert f"`{name}`" in section
