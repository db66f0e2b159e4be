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


AMOUNTS = [
    0,
    "0",
    1,
    "60",
    "60.50",
    60.5,
    ".5",
    "5.",
    " 5 ",
    "1e2",
    "+1",
    "1_000",
    "\uff11",
    "1e299",
    1e299,
    1e300,
    "-0",
    -1,
    "-1",
    "x",
    "",
    None,
    True,
    [],
    {},
]
SPELLED = ["1e3", "1_000", "\uff11", "5.", "+1", "-1"]
WHOLES: list[Any] = [1, 0, "2", 2.0, "2.0", 2.5, " 2 ", "0", "two", "", None, True, 10**15, 10**16, [], {}]
WHOLES += SPELLED
MOMENTS: list[Any] = [
    "2027-01-01T00:00:00Z",
    "2027-01-01T00:00:00+08:00",
    "2027-01-01 00:00+0800",
    "2027-01-01",
    "x",
]
MOMENTS += ["2027-01-01T00:00:00", "2027-01-01T00:00:00.5Z", " 2027-01-01T00:00Z ", "2027-01-01Tx:00Z", "", 1]
MOMENTS += ["20270101T000000+0800", "2027-W01-1T00:00+08:00", "2027-01-01t00:00Z", "2027-01-01T24:00:00Z"]
MOMENTS += ["2027-13-01T00:00Z", "2027-01-01T00:00+24:00", "2027-01-01T00:00+08:00:00"]
SPANS = ["1e2d", "1_0d", "\uff19\uff10d", "+90d", ".5d", "90 d", "90D", "-90d", "90", "90.d"]
LISTS: list[Any] = [
    [],
    [{"model": "m", "pricing_factor": 1}],
    [{"model": "m", "pricing_factor": -1}],
    [{"model": "m", "auto_following": True, "prompt_price": 1}],
    [{"model": "m", "auto_following": False}],
    [{"model": "m", "pricing_factor": None, "auto_following": True}],
    [{"model": "m"}],
    [{"pricing_factor": 1}],
    [{"model": "m", "pricing_factor": 1, "price": 1}],
    ["m"],
]
UNSEEN = (
    "m\u200b",
    "a\u00a0b",
    "a\tb",
    "m\ufeff",
    "a\u200db",
    "\u00e9\u200d\u00e9",
    "\u201cm\u201d",
    "\u201d",
    "m\u2019",
)
PRICES = [{}, *LISTS, '{"m": 1}', '[{"model": "m", "pricing_factor": 1}]', "m", "", None, 1, "{}", "[ ]"]
PRICES += [{name: 1} for name in ("", " m", "m ", "a b", "模型", *UNSEEN)] + [{"m": each} for each in AMOUNTS]
SHARES = [*WHOLES, "10%", "100%", "0%", "101%", "0.5 %", "100.1%", "%", "-1%", "1e1%", "+5%", ".5%", "5.%"]
SHARES += ["010%"]
VALUES: dict[str, list[Any]] = {
    "alias": [
        "a",
        "a b",
        "研发-团队",
        "",
        " a",
        "a ",
        "a\n",
        "None",
        "x" * 255,
        "x" * 256,
        "a\u200bb",
        "a\u200db",
        "\u00e9\u200db",
        "\u00e9\u200d\u00e9",
        "\u00e9\u200d",
        "\u201ca\u201d",
        "\u201ca\u201d \u201cb\u201d",
        "\u2018a b\u2019",
        "a\u201d",
        "\u201c",
        7,
        None,
        [],
    ],
    "count": WHOLES,
    "balance": AMOUNTS,
    "budget": AMOUNTS,
    "model_pricing": PRICES,
    "over_budget": PRICES,
    "team": ["T", " T", "", "  ", 7, None, True],
    "cost_center": ["C", "", " ", "7", 7, 7.0, 7.5, 10**16, None, True],
    "expires": [*MOMENTS, None],
    "rotate": [
        None,
        {},
        [],
        "x",
        {"every": "90d"},
        {"every": 90},
        {"every": "1y"},
        {"grace": "1h"},
        {"evry": "1d"},
    ]
    + [{"every": each, "grace": "1h"} for each in SPANS]
    + [{"max_rotate": each} for each in SHARES if each is not None]
    + [{"from": each} for each in [*MOMENTS, None]],
}
TOP: dict[str, list[Any]] = {
    "version": [1, 2, "1", "2", 1.0, None, True, *SPELLED],
    "owns": ["*", ["*"], [], [1], [""], [" "], "", None],
    "main_account": [1, 0, -1, "123", "x", 1.5, 10**16, None, True, *SPELLED],
    "accounts": [[], {}, "x", None],
    "defaults": [{}, None, [], {"alias": "a"}, {"count": 3}],
}
CASES = [(True, field, value) for field, values in VALUES.items() for value in values]
CASES += [(False, field, value) for field, values in TOP.items() for value in values]


@pytest.mark.parametrize(
    ("is_entry", "field", "value"), CASES, ids=[f"{name}={value!r:.40}" for _, name, value in CASES]
)
def test_both_judge_each_value_alike(is_entry: bool, field: str, value: Any) -> None:
    entry = {**GOOD, "budget": 5, **({field: value} if is_entry else {})}
    tree = {"version": 1, "accounts": [entry], **({} if is_entry else {field: value})}
    assert is_valid(tree) == is_read(tree)


@pytest.mark.parametrize("field", ["balance", "model_pricing"])
def test_both_want_what_neither_the_entry_nor_the_defaults_have(field: str) -> None:
    bare = {name: value for name, value in GOOD.items() if name != field}
    for tree, want in (
        ({"version": 1, "accounts": [bare]}, False),
        ({"version": 1, "accounts": [bare], "defaults": {"count": 2}}, False),
        ({"version": 1, "accounts": [bare], "defaults": {field: GOOD[field]}}, True),
    ):
        assert (is_valid(tree), is_read(tree)) == (want, want)
