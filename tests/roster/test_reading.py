"""Reading a roster: what is wrong is named with line, field, problem and cure, and nothing is guessed."""

from __future__ import annotations

import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.roster import Roster, read_roster

EXAMPLE = """\
version: 1
owns: ["team-*"]            # aliases that this file speaks for
defaults: {balance: 100, model_pricing: {gpt-4o: 1}}
accounts:
  - alias: team-search
    count: 2
    model_pricing: {gpt-4o: 1, gpt-4o-mini: "0.5"}
    team: Search
    cost_center: CC-100
    budget: 60
    over_budget: {gpt-4o-mini: 1}
    rotate: {every: 90d, grace: 7d}
    expires: 2027-01-01T00:00:00+08:00
  - alias: team-ads
main_account: 123
"""


def read(tmp_path: Path, text: str | bytes, name: str = "roster.yaml") -> Roster:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_roster(path)


def problem(tmp_path: Path, text: str | bytes, name: str = "roster.yaml") -> str:
    with pytest.raises(InvalidParameter) as caught:
        read(tmp_path, text, name)
    return str(caught.value)


def entry(text: str) -> str:
    return f"version: 1\ndefaults: {{balance: 1, model_pricing: {{m: 1}}}}\naccounts:\n- {text}\n"


def test_the_example(tmp_path: Path) -> None:
    roster = read(tmp_path, EXAMPLE)
    search, ads = roster.entries.values()
    assert (roster.owns, roster.main_account) == (("team-*",), 123)
    assert search.pricing == {"gpt-4o": Decimal(1), "gpt-4o-mini": Decimal("0.5")}
    assert (search.team, search.cost_center, search.count, search.budget) == (
        "Search",
        "CC-100",
        2,
        Decimal(60),
    )
    assert search.over_budget == {"gpt-4o-mini": Decimal(1)}
    assert search.rotate is not None
    assert (search.rotate.every, search.rotate.grace) == (timedelta(days=90), timedelta(days=7))
    assert search.expires == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert (ads.balance, ads.pricing, ads.count, ads.rotate) == (
        Decimal(100),
        {"gpt-4o": Decimal(1)},
        1,
        None,
    )


def test_json_a_mapping_text_and_other_stores_are_the_same(tmp_path: Path) -> None:
    tree = {
        "version": 1,
        "owns": "team-*",
        "accounts": [{"alias": "team-a", "balance": "1.10", "model_pricing": {"m": 0.3}, "budget": 5}],
    }
    wanted = read_roster(tree).entries

    class Store:
        """What fsspec gives: it can be opened, and that is all."""

        def open(self, mode: str) -> io.BytesIO:
            return io.BytesIO(json.dumps(tree).encode())

        def __str__(self) -> str:
            return "s3://config/roster.json"

    def bare(entries: Any) -> list[Any]:
        return [
            {name: getattr(each, name) for name in each.__struct_fields__ if name != "line"}
            for each in entries
        ]

    for found in (
        read(tmp_path, json.dumps(tree, indent=2), "roster.json"),
        read(tmp_path, b"\xef\xbb\xbf" + json.dumps(tree).encode()),
        read_roster(json.dumps(tree)),
        read_roster(Store()),
        read_roster(str(tmp_path / "roster.json")),
    ):
        assert bare(found.entries.values()) == bare(wanted.values())
    assert wanted["team-a"].balance == Decimal("1.10")
    assert wanted["team-a"].pricing == {"m": Decimal("0.3")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "alias: NO",
            "line 4, accounts[0].alias: alias is NO (for YAML the boolean False): write it in quotes",
        ),
        ("alias: 007", "line 4, accounts[0].alias: alias is 007 (for YAML a number in another notation)"),
        ("alias: 1:30", "line 4, accounts[0].alias: alias is 1:30 (for YAML a number in another notation)"),
        ("alias: 12", "line 4, accounts[0].alias: alias is 12, which is not text: write it in quotes"),
        ("alias: 2027-01-01", "which is not text: write it in quotes"),
        ("alias: ~", "line 4, accounts[0]: has no alias: give the accounts' exact alias"),
        ('alias: " a"', "with spaces around it"),
        ("{alias: a, budgett: 5}", "accounts[0].budgett: is not a known field: did you mean 'budget'?"),
        ("{alias: a, zzz: 5}", "accounts[0].zzz: is not a known field: there are alias, count, balance"),
        ("{alias: a, budget: -5}", "accounts[0].budget: budget is -5: give a number >= 0"),
        ("{alias: a, budget: 0}", "budget is 0: give an amount above 0, or leave it out"),
        ("{alias: a, balance: lots}", "balance is text, and not a number"),
        ("{alias: a, rotate: {every: 700000000d}}", "of at most 100 years"),
        (
            "{alias: a, model_pricing: [{model: m, auto_following: no}]}",
            "has no pricing_factor (prompt_price",
        ),
        (
            "{alias: a, model_pricing: [{model: m, pricing_factor: 007}]}",
            "model_pricing['m'] is 007 (for YAML a number in another notation)",
        ),
        ("{alias: a, count: 0}", "count is 0: give a whole number >= 1"),
        ("{alias: a, model_pricing: {}}", "model_pricing is empty"),
        (
            "{alias: a, model_pricing: {m: yes}}",
            "model_pricing['m'] is yes (for YAML the boolean True): give a",
        ),
        ("{alias: a, budget: 1, over_budget: {m: x}}", "over_budget['m'] is text, and not a number"),
        ("{alias: a, budget: 1, over_budget: nothing}", "over_budget is text: name the models"),
        ("{alias: a, over_budget: {m: 1}}", "is given without a budget: say from which cost on it counts"),
        ("{alias: a, expires: 2027-01-01T00:00:00}", "not a moment: give a datetime with a time zone"),
        ("{alias: a, expires: soon}", "expires is 'soon', which is not a moment"),
        ("{alias: a, expires: 2027-01-01}", "expires is 2027-01-01 00:00:00, which is not a moment"),
        ("{alias: 2027-01-01}", "alias is 2027-01-01 00:00:00, which is not text"),
        ("{alias: a, rotate: {every: 8d, grace: 7d}}", "give every as at least 2 x grace"),
        (
            "{alias: a, rotate: {evry: 90d}}",
            "accounts[0].rotate.evry: is not a known field: did you mean 'every'?",
        ),
        ("alias: a\n  rotate:\n    from: soon", "line 6, accounts[0].rotate.from: from is 'soon', which is"),
        ("alias: a\n  rotate:\n    every: 1d\n    grace: 1y", "line 7, accounts[0].rotate.grace: grace is"),
        ("{alias: a, rotate: monthly}", "accounts[0].rotate: it is of type str: give a mapping"),
        ("{alias: a, team: NO}", "team is NO (for YAML the boolean False): write it in quotes"),
        (
            "{alias: a}\n- {alias: a}",
            "line 5, accounts[1].alias: 'a' is claimed by another entry, too (line 4",
        ),
        ("{alias: a}\nowns: [b*]", "line 4, accounts[0].alias: 'a' is outside owns (b*)"),
        ("a", "line 4, accounts[0]: is not a mapping: give at least an alias"),
    ],
)
def test_an_entry_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    found = problem(tmp_path, entry(text))
    assert message in found
    assert f"roster {tmp_path}/roster.yaml, line" in found
    assert found.endswith("Nothing was sent or changed.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        (" \n# nothing\n", "it is empty"),
        ("{}", "is empty: begin with 'version: 1'"),
        ("- a", "line 1: is not a mapping: begin with 'version: 1'"),
        ("a: [", "line 2: it is not YAML"),
        ("version: 1\nversion: 1", "line 2: 'version' is there twice in one mapping"),
        ("&a {b: *a}", "line 1: it holds itself"),
        ("a: 1\n---\nb: 2", "it is not YAML"),
        ("NO: 1", "line 1: the key 'NO' is not text for YAML: write it in quotes"),
        ("a: !!python/object:os.system x", "line 1: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("version: 2\naccounts: []", "line 1, version: version is 2: this package reads version 1"),
        ("accounts: []", "has no version: write version: 1"),
        ("version: 1", "has no accounts: give a list of entries"),
        ("version: 1\naccounts: {a: 1}", "line 2, accounts: accounts is of type dict: give a list"),
        ("version: 1\naccounts: []\nowns: []", "line 3, owns: owns is not a list of globs"),
        ("version: 1\naccounts: []\nmain_account: me", "main_account is 'me': give the main"),
        (
            "version: 1\naccounts: []\naccount: []",
            "line 3, account: is not a known field: did you mean 'accounts'?",
        ),
        (
            b"\xff\xfe",
            "cannot be read: it is not UTF-8 text (byte 0). Nothing was changed. Save it as UTF-8.",
        ),
        ("version\uff1a1\naccounts: []", "line 1 has U+FF1A (FULLWIDTH COLON): is a plain one meant?"),
        ("version: 1\naccounts:\n-\u00a0alias: a\n  count: 1", "line 3 has U+00A0 (NO-BREAK SPACE)"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in problem(tmp_path, text)


@pytest.mark.parametrize("text", ["{'version': 1}", "[{'version': 1}]"])
def test_a_roster_that_a_template_rendered_as_python_text(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"no JSON.*tojson"):
        read_roster(text)


def test_json_says_lines_too(tmp_path: Path) -> None:
    tree = {"version": 1, "accounts": [{"alias": "a", "balance": -1, "model_pricing": {"m": 1}}]}
    found = problem(tmp_path, json.dumps(tree, indent=1), "roster.json")
    assert "roster.json, line 6, accounts[0].balance: balance is -1" in found
    assert "line 3: it is no JSON" in problem(tmp_path, '{\n"version": 1,\n"owns" 1}', "roster.json")
    assert "'a' is there twice" in problem(tmp_path, '{"a": 1, "a": 2}', "roster.json")


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    found = problem(tmp_path, entry("{alias: a, balance: -1}\n- {alias: b, count: x}\n- {alias: a}"))
    assert [line.partition(", ")[2].partition(",")[0] for line in found.splitlines()[:-1]] == [
        "line 4", "line 5", "line 6"
    ]  # fmt: skip


def test_what_is_wrong_in_defaults_is_said_once(tmp_path: Path) -> None:
    text = "version: 1\ndefaults: {balance: -1, model_pricing: {m: 1}}\naccounts: [{alias: a}, {alias: b}]\n"
    assert problem(tmp_path, text).count("balance is -1") == 1
    text = text.replace("balance: -1", "balance: 1, rotate: {from: soon}")
    found = problem(tmp_path, text)
    assert "line 2, defaults.rotate.from: from is 'soon'" in found
    assert found.count("'soon'") == 1


def test_anchors_and_merged_mappings(tmp_path: Path) -> None:
    first = "version: 1\naccounts:\n- &a {alias: a, balance: 1, model_pricing: {m: 1}, count: 3}\n"
    roster = read(tmp_path, f"{first}- {{<<: *a, alias: b, count: 2}}\n")
    assert [(each.alias, each.count) for each in roster.entries.values()] == [("a", 3), ("b", 2)]
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefghi")
    )
    assert "millions of values" in problem(tmp_path, bomb)


def test_an_entry_may_give_up_a_default(tmp_path: Path) -> None:
    defaults = "{balance: 1, model_pricing: {m: 1}, rotate: {every: 90d}, over_budget: {}}"
    accounts = "- {alias: a, rotate: ~}\n- {alias: b, budget: 5}"
    roster = read(tmp_path, f"version: 1\ndefaults: {defaults}\naccounts:\n{accounts}\n")
    one, other = roster.entries.values()
    assert (one.rotate, one.over_budget) == (None, None)
    assert other.rotate is not None
    assert other.over_budget == {}


def test_prices_as_the_api_lists_them(tmp_path: Path) -> None:
    prices = "[{model: m, pricing_factor: 0.5}, {model: n, auto_following: true, prompt_price: 3}]"
    with pytest.warns(DeprecationWarning, match="taken as pricing_factor 1"):
        roster = read(tmp_path, entry(f"{{alias: a, model_pricing: {prices}}}"))
    assert roster.entries["a"].pricing == {"m": Decimal("0.5"), "n": Decimal(1)}


@pytest.mark.parametrize(
    "field", [{"team": "x\ud800"}, {"cost_center": "\ud800"}, {"model_pricing": {"m\ud800": 1}}]
)
def test_half_a_character_is_refused_in_a_mapping_too(field: dict[str, Any]) -> None:
    wanted = {"alias": "a", "balance": 1, "model_pricing": {"m": 1}, **field}
    with pytest.raises(InvalidParameter, match="half a character"):
        read_roster({"version": 1, "accounts": [wanted]})
    with pytest.raises(InvalidParameter, match="half a character"):
        read_roster({"version": 1, "owns": ["a", "\ud800*"], "accounts": [{**wanted, **GOOD}]})


GOOD = {"team": "T", "cost_center": "C", "model_pricing": {"m": 1}}


@pytest.mark.parametrize(
    "source",
    ["", "s3://bucket/roster.yaml", 7, None, "/nowhere/roster.yaml", "~nosuchuser/roster.yaml"],
)
def test_what_is_no_file_is_said(source: Any) -> None:
    with pytest.raises(InvalidParameter, match=r"roster.*(Give a path|cannot be read).*"):
        read_roster(source)
