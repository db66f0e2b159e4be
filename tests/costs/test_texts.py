"""Texts that came from elsewhere, for people and for spreadsheets."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_closeai.costs.texts import csv_text, json_text, plain_text, shown


@pytest.mark.parametrize(
    "text", ["=1+1", "x;=1+1", "x;;@a", "x\t=1", "x\n-1", "a|+1", ";=1", "x; =1", "'x", " =1"]
)
def test_no_cell_of_any_split_is_a_formula(text: str) -> None:
    for separator in ";\t\n|":
        for cell in csv_text(text).split(separator):
            assert not cell.strip().startswith(tuple("=+-@"))


@given(st.text(alphabet="'=+-@;|\t\r\n x＝", max_size=12))  # noqa: RUF001
def test_it_is_read_back(text: str) -> None:
    assert plain_text(csv_text(text)) == text


@given(st.text(alphabet="'=+-@;|\t\r\n\\\" x＝\u2003", max_size=12))  # noqa: RUF001
def test_json_needs_no_apostrophe_and_says_the_same(text: str) -> None:
    found = json_text(msgspec.json.encode({"team": text}).decode())
    assert csv_text(found) == found
    assert json.loads(found) == {"team": text}


def test_what_a_person_sees() -> None:
    assert shown("team-a") == "team-a"
    assert shown("\u202egpj.exe") == "\\u202egpj.exe"
    assert shown("a\x00b\n") == "a\\u0000b\\u000a"
    assert shown("家族👨\u200d👩\u200d👧") == "家族👨\u200d👩\u200d👧"
    long = shown("x" * 1_000_000)
    assert len(long) < 200
    assert long.endswith("… (1,000,000 characters)")
