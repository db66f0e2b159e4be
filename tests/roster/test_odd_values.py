"""Whatever a roster or a plan's record holds: what is wrong is one error, which names it and can be shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.roster import Plan, read_roster
from airflow_provider_closeai.roster.decide import Options, Seen, make_plan
from airflow_provider_closeai.roster.reading import ENTRY_FIELDS, ROTATE_FIELDS

HALF = "\ud83d"
HUGE = 10**5000
ENTRY = {"alias": "a", "balance": 1, "model_pricing": {"m": 1}}
ODD = [HALF, HUGE, [HUGE], {HALF: 1}, {"m": HALF}, {1: 2}, timedelta.max, datetime(2027, 1, 1), b"x", [HALF]]
PRICES = [{"model": "m", "pricing_factor": 1, 1: 2, "x": 3}]
CASES: list[dict[str, Any]] = [{field: value} for field in ENTRY_FIELDS if field != "rotate" for value in ODD]
CASES += [{"model_pricing": PRICES}, {"over_budget": PRICES, "budget": 1}, {HALF: 1}]
CASES += [{"balance": value} for value in (-HUGE, Decimal("0." + "3" * 5000))]
CASES += [{"rotate": {field: value}} for field in (*ROTATE_FIELDS, HALF) for value in ODD]


def refused(source: Any) -> str:
    with pytest.raises(InvalidParameter) as caught:
        read_roster(source)
    message = str(caught.value)
    message.encode()
    assert len(message) < 500
    return message


@pytest.mark.parametrize("number", range(len(CASES)))
def test_an_odd_value_in_an_entry_is_named(number: int) -> None:
    name = next(iter(CASES[number])).replace(HALF, "\\ud83d")
    assert name in refused({"version": 1, "accounts": [{**ENTRY, **CASES[number]}]})


@pytest.mark.parametrize("field", ["version", "main_account", "owns", "accounts", "defaults", HALF])
@pytest.mark.parametrize("value", ODD[:3], ids=["half", "huge", "huge in a list"])
def test_an_odd_value_of_the_whole_is_named(tmp_path: Path, field: str, value: Any) -> None:
    tree = {"version": 1, "accounts": [ENTRY], field: value}
    name = field.replace(HALF, "\\ud83d")
    assert name in refused(tree)
    if value == HALF:
        file = tmp_path / "r.json"
        file.write_text(json.dumps(tree))
        assert name in refused(file)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (f'{{"version": 1, "{HALF}": 1}}', "half a character"),
        (f"/nowhere/{HALF}.yaml", "cannot be read"),
    ],
)
def test_half_a_character_in_text_is_refused(source: str, told: str) -> None:
    assert told in refused(source)


def test_a_key_of_yaml_that_is_no_scalar_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("version: 1\n? !!str {a: b}\n: 1\n")
    assert "line 2: the key a list or mapping is not text" in refused(file)


@pytest.mark.parametrize(
    "change",
    [
        {"made_at": "2026-11-26T00:00:00"},
        {"owns": [HALF]},
        {"notes": [{"alias": HALF, "text": "x"}]},
        {"digest": HALF},
        {"digest": HUGE},
        {"max_create": HUGE},
        {"entries": [{**ENTRY, "pricing": {"m": 1}, "expires": "2027-01-01T00:00:00"}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plans_record_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    roster = read_roster({"version": 1, "accounts": [ENTRY]})
    record = make_plan(roster, Seen(accounts=(), now=datetime.now(UTC)), Options()).record()
    assert Plan.parse(record).digest == record["digest"]
    with pytest.raises(InvalidParameter, match="plan: it ") as caught:
        Plan.parse({**record, **change})
    str(caught.value).encode()
