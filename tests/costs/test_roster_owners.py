"""The report's owners and budgets out of a roster: one file for the platform and for finance."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.requests import CloseRequest

ROSTER = """
version: 1
owns: ["team-*", "搜索*"]
defaults: {balance: 10, model_pricing: {gpt-4o: 1}, cost_center: CC-1, budget: 5}
accounts:
  - {alias: team-a, team: A, budget: "10.50"}
  - {alias: "team-[b]*", team: B, cost_center: "007"}
  - {alias: 搜索, team: A, budget: 0.25}
  - {alias: team-c, team: C, budget: 1}
  - {alias: team-d, team: C, budget: null}
  - {alias: team-e}
"""


def request(source: Any, **more: Any) -> CloseRequest:
    parameters = {"ledger": "/x", "month": "2026-11", "currency": "CNY", "owners": source, "budgets": source}
    return CloseRequest.parse(**(parameters | more))


@pytest.mark.parametrize("kind", ["yaml", "json", "mapping", "text"])
def test_owners_and_budgets_of_a_roster(tmp_path: Path, kind: str) -> None:
    import yaml

    tree = yaml.safe_load(ROSTER)
    path = tmp_path / f"roster.{kind}"
    path.write_text(ROSTER if kind == "yaml" else json.dumps(tree))
    found = request({"mapping": tree, "text": json.dumps(tree)}.get(kind, path))
    rules = [(rule.alias, rule.owner.team, rule.owner.cost_center) for rule in found.owners]
    assert rules == [
        ("team-a", "A", "CC-1"),
        ("team-[[]b][*]", "B", "007"),
        ("搜索", "A", "CC-1"),
        ("team-c", "C", "CC-1"),
        ("team-d", "C", "CC-1"),
    ]
    assert found.budgets == {"A": Decimal("10.75"), "B": Decimal(5)}, "an alias of C has no budget"


def test_a_mapping_of_owners_is_no_roster() -> None:
    found = request({"version": "Team V", "accounts": "Team A"}, budgets=None)
    assert [rule.owner.team for rule in found.owners] == ["Team V", "Team A"]


def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "roster.yaml"
    path.write_text("version: 1\naccounts:\n  - {alias: NO, team: A}\n")
    with pytest.raises(InvalidParameter, match=r"owners: accounts\[0\] of the roster"):
        request(path, budgets=None)
    path.write_text("version: 1\naccounts:\n  - {alias: a, team: A, budget: many}\n")
    with pytest.raises(InvalidParameter, match="a budget of 'A' in the roster is no number"):
        request(path, owners=None)
