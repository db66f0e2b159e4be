"""The published JSON Schema says what the reader says."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]
from test_reading import EXAMPLE

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.roster import read_roster
from airflow_provider_closeai.roster.reading import ENTRY_FIELDS, ROTATE_FIELDS, TOP_FIELDS

TEXT = resources.files("airflow_provider_closeai.roster").joinpath("schema.json").read_text()
SCHEMA = json.loads(TEXT)


def is_valid(tree: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(tree))


def is_read(tree: Any) -> bool:
    try:
        read_roster(tree)
    except InvalidParameter:
        return False
    return True


def test_it_is_a_schema_and_the_same_in_the_docs() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert (Path(__file__).resolve().parents[2] / "docs/roster.schema.json").read_text() == TEXT


def test_it_has_every_field() -> None:
    entry = SCHEMA["$defs"]["entry"]["properties"]
    assert set(SCHEMA["properties"]) == set(TOP_FIELDS)
    assert set(entry) == set(ENTRY_FIELDS)
    assert set(SCHEMA["properties"]["defaults"]["properties"]) == set(ENTRY_FIELDS) - {"alias"}
    assert set(SCHEMA["$defs"]["rotate"]["properties"]) == set(ROTATE_FIELDS)


def test_it_takes_the_example() -> None:
    tree = yaml.load(
        EXAMPLE.replace("2027-01-01T00:00:00+08:00", "'2027-01-01T00:00:00+08:00'"), yaml.SafeLoader
    )
    assert is_valid(tree)
    assert is_read(tree)


GOOD = {"alias": "a", "balance": 1, "model_pricing": {"m": "0.5"}}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"count": 2, "team": "A", "cost_center": 7},
        {"budget": "1.5", "over_budget": {}},
        {"rotate": {"every": "90d", "grace": "1h", "max_rotate": "10%", "from": "2027-01-01T00:00:00Z"}},
        {"expires": "2027-01-01T00:00:00+08:00"},
        {"rotate": None},
    ],
)
def test_both_take_what_is_right(entry: dict[str, Any]) -> None:
    tree = {"version": 1, "owns": ["*"], "main_account": 1, "accounts": [{**GOOD, **entry}]}
    assert (is_valid(tree), is_read(tree)) == (True, True)


@pytest.mark.parametrize(
    "entry",
    [
        {"alias": False},
        {"alias": 7},
        {"alias": ""},
        {"count": 0},
        {"balance": -1},
        {"balance": "x"},
        {"model_pricing": {}},
        {"model_pricing": {"m": -1}},
        {"budget": -5},
        {"budgett": 5},
        {"rotate": {"evry": "90d"}},
        {"rotate": {"every": "soon"}},
        {"expires": "2027-01-01T00:00:00"},
        {"team": False},
    ],
)
def test_both_refuse_what_is_wrong(entry: dict[str, Any]) -> None:
    tree = {"version": 1, "accounts": [{**GOOD, **entry}]}
    assert (is_valid(tree), is_read(tree)) == (False, False)
