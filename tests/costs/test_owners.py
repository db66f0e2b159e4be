"""Owner rules and budgets, from dictionaries and from files."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.owners import Owners, parse_budgets, parse_owners
from airflow_provider_closeai.costs.accounting.shares import Owner
from airflow_provider_closeai.costs.arguments import read_rules
from airflow_provider_closeai.costs.errors import CurrencyConflict


def test_who_pays() -> None:
    owners = Owners(
        parse_owners(
            {
                "search.*": {"team": "Search", "cost_center": "CC-1"},
                "search.lab": "Lab",
                "id:7": "Ads",
                8: {"team": "Ads", "cost_center": "CC-2"},
                "[ab]-?": "Letters",
            }
        )
    )
    assert owners.rule_of(1, "search.web").owner == Owner("Search", "CC-1")
    assert owners.rule_of(2, "Search.web").owner == Owner("Unallocated")
    assert owners.rule_of(7, "search.web").owner == Owner("Ads")
    assert owners.rule_of(8, "x").owner == Owner("Ads", "CC-2")
    assert owners.rule_of(9, "a-1").owner == Owner("Letters")
    assert owners.rule_of(9, "c-1").owner == Owner("Unallocated")


def test_rows_of_a_data_frame() -> None:
    """What is missing is NaN there, and then whole numbers are floats."""
    nan = float("nan")
    rules = parse_owners(
        [
            {"id": 7.0, "alias": nan, "team": "Search", "cost_center": 100.0},
            {"id": nan, "alias": "a", "team": "Ads", "cost_center": nan},
        ]
    )
    assert [(rule.id, rule.alias, rule.owner) for rule in rules] == [
        (7, None, Owner("Search", "100")),
        (None, "a", Owner("Ads")),
    ]
    assert [rule.id for rule in parse_owners({7.0: "Search"})] == [7]
    for team in (nan, True):
        with pytest.raises(InvalidParameter, match="team"):
            parse_owners([{"alias": "a", "team": team}])


def test_rules_that_match_nothing_or_overlap_are_named() -> None:
    rules = {"search.*": "Search", "*.web": "Web", "old-*": "Nobody", "search.a*": "Search"}
    owners = Owners(parse_owners(rules))
    for number in range(1, 8):
        assert owners.rule_of(number, "search.web").owner.team == "Search"
    owners.rule_of(9, "search.api")
    assert owners.warnings() == [
        "No account of this month matches owners rule 3 (alias 'old-*' -> 'Nobody'): a typing error, or a "
        "rule that is not needed any more.",
        "Both owners rule 1 (alias 'search.*' -> 'Search') and owners rule 2 (alias '*.web' -> 'Web') match "
        "accounts 1, 2, 3, 4, 5 and 2 more: the first one counts. Make one of them narrower, or name these "
        "accounts by id.",
    ]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("text", "owners: str is neither a mapping nor a list of rules"),
        ([1], "owners: entry 1 is not a mapping"),
        ([{"team": "A"}], r"owners rule 1 \('A'\): give exactly one of id and alias"),
        ([{"team": "A", "id": 1, "alias": "a"}], "exactly one of id and alias"),
        ([{"alias": "a"}], "owners rule 1: team is missing or empty"),
        ([{"team": "A", "id": "x1"}], "'x1' is not the id of a sub-account"),
        (
            [{"team": "A", "alias": "a", "centre": "1"}],
            "'centre' is not known; there are alias, cost_center, id, percent, split, team",
        ),
        ({"lab": ["Search", "Ads"]}, r"owners rule 1: team: \['Search', 'Ads'\] is not text"),
        ({"lab": {"team": {"x": 1}}}, r"owners rule 1: team: \{'x': 1\} is not text"),
        ({("a", "b"): "A"}, r"owners rule 1: alias: \('a', 'b'\) is not text"),
        ({"a": "\ud83d"}, r"owners rule 1: team: '\\ud83d' holds half a character"),
        ({"a": {"team": "A", "cost_center": "\ud83d"}}, "cost_center: .* holds half a character"),
        ({"a": {"split": {"\ud83d": 50, "B": 50}}}, "split: .* holds half a character"),
    ],
)
def test_wrong_rules(rules: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        parse_owners(rules)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("o.yaml", "- {alias: 'search.*', team: Search, cost_center: 007}\n- {id: 7, team: Ads}\n"),
        ("o.yml", "search.*: {team: Search, cost_center: 007}\nid:7: Ads\n"),
        ("o.csv", "\ufeffalias,id,team,cost_center\nsearch.*,,Search,007\n,7,Ads,\n"),
        ("o.csv", "alias,id,team,cost_center,\nsearch.*,,Search,007,\n,,,,\n,7,Ads\n\n"),
    ],
)
def test_files(path: str, text: str) -> None:
    owners = Owners(parse_owners(read_rules("owners", path, text.encode())))
    assert owners.rule_of(1, "search.web").owner == Owner("Search", "007")
    assert owners.rule_of(7, "x").owner == Owner("Ads")


@pytest.mark.parametrize(
    ("path", "data", "told"),
    [
        ("o.yaml", b"{", "cannot be read"),
        ("o.csv", "alias,team\na,团队\n".encode("gbk"), "it is not UTF-8. Save it as UTF-8"),
        ("o.csv", "alias,team\na,A\n".encode("utf-16"), "it is not UTF-8. Save it as UTF-8"),
        ("o.csv", b"alias;team\na;A\n", "its first line is 'alias;team': save it with commas"),
        ("o.csv", b"sep=;\nalias;team\na;A\n", "save it with commas"),
        ("o.csv", b"alias\tteam\na\tA\n", "save it with commas"),
        ("o.csv", b"alias,team,team\na,A,B\n", "its first line has 'team' twice"),
        ("o.txt", b"", "ends neither in"),
        ("o.csv", b'a\n"x', "cannot be read"),
        ("o.csv", b"alias,team\na,A,B\n", "line 2 has more cells"),
        ("o.csv", b"alias,team\n", "has no rules"),
        ("o.yaml", b"", "has no rules"),
        ("o.yaml", b"a: A\nb: B\na: C\n", "'a' is there twice"),
    ],
)
def test_files_that_cannot_be_read(path: str, data: bytes, told: str) -> None:
    with pytest.raises(InvalidParameter, match=f"owners: .*{path} ?.*{told}"):
        read_rules("owners", path, data)


def test_an_alias_may_be_as_long_as_the_ledger_has_it() -> None:
    [rule] = parse_owners(read_rules("owners", "o.csv", f"alias,team\n{'x' * 1_000_000},A\n".encode()))
    assert len(rule.alias or "") == 1_000_000


def test_budgets_keep_what_was_written() -> None:
    read = read_rules("budgets", "b.yaml", b"Search: 1000.10\nAds: '0.00000001'\n")
    assert parse_budgets(read, "CNY") == {"Search": Decimal("1000.10"), "Ads": Decimal("0.00000001")}
    read = read_rules("budgets", "b.csv", b"team,budget,currency\nSearch,10,CNY\nAds,20,\n")
    assert parse_budgets(read, "CNY") == {"Search": Decimal(10), "Ads": Decimal(20)}


@pytest.mark.parametrize(
    ("budgets", "error", "told"),
    [
        (
            [{"team": "A", "budget": 5, "currency": "USD"}],
            CurrencyConflict,
            r"entry 1 \('A'\) is in USD, and .* in CNY",
        ),
        ({"A": "1,000"}, InvalidParameter, r"budgets entry 1 \('A'\): '1,000' is not an amount"),
        ({"A": 0}, InvalidParameter, "a budget is above 0, not 0"),
        (
            [{"team": "A", "budget": 1}, {"team": "A", "budget": 2}],
            InvalidParameter,
            "'A' has a budget already",
        ),
        ("5", InvalidParameter, "str is neither"),
        ({"\ud83d": 5}, InvalidParameter, "budgets entry 1: team: .* holds half a character"),
    ],
)
def test_wrong_budgets(budgets: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        parse_budgets(budgets, "CNY")


def test_the_unallocated_line_makes_the_totals_meet(book: Book) -> None:
    book.seen("11-05 09:00", {1: ("0.1", "search.a"), 2: ("0.2", "x"), 3: ("0.00000003", "y")})
    report = book.report(owners={"search.*": "Search"}, budgets={"Search": 1, "Ghosts": 2})
    lines = [(line.owner.team, line.accounts, str(line.month_to_date)) for line in report.owners]
    assert lines == [("Search", 1, "0.1"), ("Unallocated", 2, "0.20000003")]
    assert str(report.totals.month_to_date) == "0.30000003"
    assert report.warnings == ["The budget of 'Ghosts' has no costs: no account belongs to that team."]


def test_an_alias_with_brackets_is_itself_too() -> None:
    owners = Owners(parse_owners({"team[1]": "A", "id:2": "B", "b": "C"}))
    assert owners.rule_of(1, "team[1]").owner.team == "A"
    assert owners.rule_of(2, "b").owner.team == "B"
    assert owners.warnings() == [], "the rule of b matches, though an id rule comes first"


def test_nothing_in_yaml_is_nothing() -> None:
    rules = read_rules(
        "owners", "o.yaml", b"a: {team: A, cost_center: null}\nb: {team: B, cost_center: 'null'}\n"
    )
    owners = Owners(parse_owners(rules))
    assert (owners.rule_of(1, "a").owner.cost_center, owners.rule_of(2, "b").owner.cost_center) == (
        "",
        "null",
    )
    with pytest.raises(InvalidParameter, match="team is missing"):
        parse_owners(read_rules("owners", "o.yaml", b"a: null\n"))


SPLIT = {"a-1": {"split": {"Search": "33.3", "Ads": "33.3%", "Ops": "33.4"}}, "a-2": "Ads"}


def test_a_shared_account_is_split_to_the_last_digit(book: Book) -> None:
    book.seen("10-31 23:58", {1: "1", 2: "1"})
    book.turn("11", [1, 2])
    book.seen("11-02 00:05", {1: "0.00000001", 2: "1"})
    book.seen("11-03 00:05", {1: "10.00000001", 2: "1"})
    book.seen("11-04 00:05", {1: "9.99999999", 2: "1"})
    book.note(sub_account_id=1, amount="0.00000004")
    report = book.report(owners=SPLIT, budgets={"Search": "3"})
    found = {line.owner.team: line.month_to_date for line in report.owners}
    assert found == {
        "Ads": Decimal("4.33000001"),
        "Ops": Decimal("3.34000001"),
        "Search": Decimal("3.33000001"),
    }
    assert sum(found.values()) == report.totals.month_to_date == Decimal("11.00000003")
    movements = (movement for account in report.accounts for movement in account.movements())
    assert sum(movement.amount for movement in movements) == report.totals.month_to_date
    assert sum(report.daily.values()) == report.totals.month_to_date - Decimal("0.00000004")
    assert report.budgets[0].month_to_date == Decimal("3.33000001")
    [shared] = [line for line in report.accounts if line.sub_account_id == 1]
    assert shared.owner.team == "Search 33.3 % + Ads 33.3 % + Ops 33.4 %"


def rows(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text("utf-8-sig"))))


def test_a_part_of_an_increase_is_one_however_it_is_rounded(book: Book, tmp_path: Path) -> None:
    """Of 6 units B has 1, and of 7 none: by the largest remainder the others have more."""
    book.seen("10-31 23:58", {1: "1"})
    book.turn("11", [1])
    for day, units in ((10, 6), (20, 7), (25, 5)):
        book.seen(f"11-{day} 23:55", {1: str(units * Decimal("1e-8"))})
    owners = {"a-1": {"split": {"A": 68, "B": 8, "C": 24}}}
    files = book.publish(tmp_path, "csv", owners=owners).files
    days, sums = rows(files["days.csv"]), {line["team"]: line for line in rows(files["owners.csv"])}
    kinds = {(line["day"], line["kind"]) for line in days}
    assert kinds == {("2026-11-06", "increase"), ("2026-11-15", "increase"), ("2026-11-23", "correction")}
    for kind, column in (("increase", "increases"), ("correction", "corrections")):
        for team in "ABC":
            found = [Decimal(line["amount"]) for line in days if (line["team"], line["kind"]) == (team, kind)]
            assert sum(found) == Decimal(sums[team][column])


def test_no_part_has_less_than_nothing_for_certain(book: Book, clock: Clock) -> None:
    """Of 7 units, B has none and of 6 one: where 6 of 7 are doubtful, the others' parts have that one."""
    book.seen("10-30 23:55", {1: "1"})
    book.seen("10-31 23:55", {1: "1"})
    for at in ("11-01 00:05", "11-02 23:55"):
        book.seen(at, {1: "0"})
    least, most, after = (str(number * Decimal("1e-8")) for number in (1, 7, 5))
    looks = {"11-10 23:55": least, "12-01 00:05": least, "12-01 23:30": most, "12-03 23:55": after}
    for at, cost in looks.items():
        book.seen(at, {1: cost})
    clock.at = local("12-06 10:00")
    report = book.report(owners={"a-1": {"split": {"A": 68, "B": 8, "C": 24}}})
    [account] = report.accounts
    assert (account.month_to_date, account.lower_bound) == (Decimal(most), Decimal(least))
    assert sum(line.lower_bound for line in report.owners) == report.lower_bound == Decimal(least)
    assert all(0 <= line.lower_bound <= line.month_to_date for line in report.owners)


def test_how_a_shared_account_was_split_when_it_was_closed_stands(book: Book, clock: Clock) -> None:
    book.seen("10-31 23:58", {1: "1"})
    book.turn("11", [1])
    book.seen("11-30 23:58", {1: "10"})
    book.turn("12", [1])
    clock.at = local("12-02 00:00")
    book.close(owners=SPLIT)
    report = book.report(owners={"*": "Elsewhere"})
    assert {line.owner.team: str(line.month_to_date.normalize()) for line in report.owners} == {
        "Ops": "3.34",
        "Ads": "3.33",
        "Search": "3.33",
    }


@pytest.mark.parametrize(
    ("now", "is_moved"),
    [
        ({"A": "50.0", "B": 50}, False),
        ([{"team": "B", "percent": "50%"}, {"team": "A", "percent": 50}], False),
        ({"A": 60, "B": 40}, True),
        ([{"team": "A", "percent": 50, "cost_center": "CC-1"}, {"team": "B", "percent": 50}], True),
    ],
)
def test_one_split_may_be_written_in_several_ways(book: Book, clock: Clock, now: Any, is_moved: bool) -> None:
    book.turn("11", [1])
    book.seen("11-03 00:05", {1: "0"})
    book.seen("11-30 23:58", {1: "0.00000003"})
    book.turn("12", [1])
    clock.at = local("12-02 00:00")
    split = {"A": 50, "B": 50}
    book.close(owners={"a-1": {"split": split}})
    report = book.report(owners={"a-1": {"split": now}})
    assert any("to somebody else" in text for text in report.warnings) == is_moved
    found = {line.owner.team: line.month_to_date for line in report.owners}
    assert found == {"A": Decimal("0.00000002"), "B": Decimal("0.00000001")}, "as it was closed"
    rules = {"a-1": {"split": split}, "a-*": {"split": now}}
    assert any(text.startswith("Both ") for text in book.report(owners=rules).warnings) == is_moved


def by_team(path: str, column: str) -> dict[str, Decimal]:
    """Add up a column of a report's file."""
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in csv.DictReader(io.StringIO(Path(path).read_text("utf-8-sig"))):
        team = line["team"] if "team" in line else json.loads(line["Tags"])["team"]
        found[team] += Decimal(line[column])
    return dict(found)


def test_the_days_of_a_team_add_up_to_what_it_pays(book: Book, tmp_path: Path) -> None:
    book.seen("10-31 23:58", {1: "1", 2: "1"})
    book.turn("11", [1, 2])
    book.seen("11-03 00:05", {1: "100", 2: "1"})
    book.note(sub_account_id=1, amount="-10")
    files = book.publish(tmp_path / "out", ["csv"], owners=SPLIT).files
    found = by_team(files["days.csv"], "amount")
    assert found == by_team(files["owners.csv"], "month_to_date")
    assert found == {"Search": Decimal("29.97"), "Ads": Decimal("30.97"), "Ops": Decimal("30.06")}


def test_a_shared_account_of_36_digits_is_exact_in_later_reports(
    book: Book, clock: Clock, tmp_path: Path
) -> None:
    book.seen("10-31 23:58", {1: "1"})
    book.turn("11", [1])
    book.seen("11-30 23:58", {1: "123456789012345678.123456789012345678"})
    book.turn("12", [1])
    clock.at = local("12-02 00:00")
    book.close(owners=SPLIT)
    book.note(sub_account_id=1, amount="-0.000000000000000007")
    files = book.publish(tmp_path / "out", ["json", "focus"], "2026-12", owners=SPLIT).files
    last = json.loads(Path(files["json"]).read_text())["last_month"]
    assert last["total"] == "123456789012345678.123456789012345671"
    assert last["by_team"] == {
        "Ads": "41111110741111110.815111110741111108",
        "Ops": "41234567530123456.493234567530123454",
        "Search": "41111110741111110.815111110741111109",
    }
    charged = by_team(files["focus"], "EffectiveCost")
    assert sum(charged.values()) == Decimal("-0.000000000000000007")


def test_shares_in_a_table() -> None:
    text = b"alias,team,cost_center,percent\nlab,Search,CC-1,60%\nlab,Ads,,40\nx,Ads,,\n"
    [lab, other] = parse_owners(read_rules("owners", "owners.csv", text))
    assert [(share.owner.team, share.percent) for share in lab.shares] == [
        ("Search", Decimal(60)),
        ("Ads", Decimal(40)),
    ]
    assert (lab.alias, other.alias, other.shares) == ("lab", "x", ())


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"A": 60, "B": 39.9}, "the shares are 99.9 % together, not 100"),
        ({"A": 100, "B": 0}, "a share is above 0 %"),
        ({"A": "x"}, "percent: 'x' is not an amount"),
        ([{"team": "A"}], "split: give a mapping"),
        ("A", "split: give a mapping"),
        ([{"team": "A", "percent": 50}, {"team": "A", "percent": 50}], "has two shares"),
        ({None: 50, "B": 50}, "a team is missing or empty"),
        ([{"team": " ", "percent": 50}, {"team": "B", "percent": 50}], "a team is missing or empty"),
    ],
)
def test_shares_that_are_wrong(split: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        parse_owners({"a": {"split": split}})


def test_a_part_of_an_account_is_never_all_that_is_paid() -> None:
    with pytest.raises(InvalidParameter, match="the shares are 50 % together, not 100"):
        parse_owners({"a": {"team": "A", "percent": 50}})


def test_a_shared_account_is_one_account_of_each_who_pays_and_of_all(book: Book, tmp_path: Path) -> None:
    book.seen("11-05 09:00", {1: ("7", "lab"), 2: ("1", "x")})
    shares = [("Search", "1", 50), ("Search", "2", 30), ("Ads", "", 20)]
    split = [{"team": team, "cost_center": center, "percent": part} for team, center, part in shares]
    result = book.publish(tmp_path, ["json"], owners={"lab": {"split": split}, "*": "Search"})
    published = result.published()
    counts = {team["team"]: team["sub_accounts"] for team in published["teams"]}
    assert (published["sub_accounts"], counts) == (2, {"Search": 2, "Ads": 1})
    totals = result.report.totals
    assert (totals.accounts, totals.uncertain) == (2, 2)  # the ledger begins with them
    assert [line.accounts for line in result.report.owners] == [1, 1, 1, 1]
