"""One file for platform and finance: the report's owners and budgets are those of a roster."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import CloseRequest
from airflow_provider_closeai.costs.accounting.owners import Owners
from airflow_provider_closeai.costs.accounting.shares import Owner

ROSTER: dict[str, Any] = {
    "version": 1,
    "defaults": {"balance": 1, "model_pricing": {"m": 1}},
    "accounts": [
        {"alias": "team-a", "team": "Search", "cost_center": "CC-1", "budget": "10.5"},
        {"alias": "team-b", "team": "Search", "cost_center": "CC-1", "budget": 2},
        {"alias": "team-[c]*", "team": "Ads", "budget": 5},
        {"alias": "team-d", "team": "Ads"},
        {"alias": "team-e", "budget": 7},
    ],
}


def parsed(source: Any, tmp_path: Path) -> CloseRequest:
    return CloseRequest.parse(ledger=tmp_path, month="2026-11", currency="CNY", owners=source, budgets=source)


@pytest.mark.parametrize("form", ["mapping", "text", "json", "yaml"])
def test_owners_and_budgets_come_from_a_roster(form: str, tmp_path: Path) -> None:
    source: Any = {"mapping": ROSTER, "text": json.dumps(ROSTER)}.get(form)
    if source is None:
        source = tmp_path / f"roster.{form}"
        source.write_text(json.dumps(ROSTER))
    request = parsed(source, tmp_path)
    owners = Owners(request.owners)
    found = [
        owners.rule_of(1, alias).owner.team
        for alias in ("team-a", "team-b", "team-[c]*", "team-cx", "team-e")
    ]
    assert found == ["Search", "Search", "Ads", "Unallocated", "Unallocated"]
    assert owners.rule_of(1, "team-a").owner == Owner("Search", "CC-1")
    assert request.budgets == {"Search": Decimal("12.5")}, "a team's, where all of its aliases have one"


def test_a_roster_that_is_wrong_is_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "roster.yaml"
    file.write_text("version: 1\naccounts:\n- {alias: NO, balance: 1, model_pricing: {m: 1}}\n")
    with pytest.raises(InvalidParameter, match=r"roster.yaml, line 3, accounts\[0\].alias: alias is NO"):
        parsed(file, tmp_path)
