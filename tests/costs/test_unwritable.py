"""What Python refuses to write out, such as an integer of 5,000 digits, is refused by name like the rest."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import NoteRequest, ReportRequest, SnapshotRequest

LONG = 10**5000
MONTH: dict[str, Any] = {"ledger": "ledger", "month": "2026-11", "currency": "CNY"}
REPORT: dict[str, Any] = {**MONTH, "output": "out"}
NOTE: dict[str, Any] = {**MONTH, "sub_account_id": 1, "amount": 1, "reason": "x"}
OPTIONS = (
    "owners budgets final_within time_zone formats thresholds close account billed_cost statements notify_on "
    "public_url"
)


@pytest.mark.parametrize("value", [LONG, [LONG], {LONG: 1}], ids=["itself", "in a list", "as a key"])
@pytest.mark.parametrize(
    ("parse", "known", "name"),
    [
        *((ReportRequest.parse, REPORT, name) for name in [*REPORT, *OPTIONS.split()]),
        *((SnapshotRequest.parse, {}, name) for name in ("ledger", "time_zone", "file_format", "max_lag")),
        *((NoteRequest.parse, NOTE, name) for name in [*NOTE, "alias"]),
    ],
)
def test_it_is_refused_by_name(parse: Any, known: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=name) as caught:
        parse(**{"ledger": "ledger", **known, name: value})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "rules",
    [
        {"owners": {"a": {"split": {"A": LONG}}}},
        {"owners": {"a": {"split": {LONG: 100}}}},
        {"owners": [{"alias": "a", "team": "A", LONG: 1}]},
        {"budgets": {"A": [LONG]}},
        {"budgets": [{"team": "A", "budget": 1, "currency": LONG}]},
    ],
)
def test_in_a_rule_it_is_refused_too(rules: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(rules))) as caught:
        ReportRequest.parse(**REPORT, **rules)
    assert len(str(caught.value)) < 400
