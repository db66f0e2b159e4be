"""What a closed month says of its doubt and its payers, in its own report and wherever else it stands."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.costs.accounting.shares import Owner

SHARED = {"a-1": {"split": {"Search": 50, "Ads": 50}}}


@pytest.fixture
def october(book: Book) -> Book:
    book.turn("10", [1])
    book.seen("10-03 00:05", {1: "0"})
    return book


def published(book: Book, folder: Path, month: str, **options: Any) -> dict[str, Any]:
    files = book.publish(folder, "json", month=month, **options).files
    found: dict[str, Any] = json.loads(Path(files["json"]).read_text())
    return found


def certainties(book: Book, folder: Path) -> list[str]:
    """Return what October's own report says, and November's about it."""
    own, next_month = (published(book, folder, month) for month in ("2026-10", "2026-11"))
    return [own["certainty"], next_month["last_month"]["certainty"]]


def test_a_doubt_is_settled_by_a_close_and_nothing_else(october: Book, clock: Clock, tmp_path: Path) -> None:
    october.seen("10-31 23:55", {1: "10"})
    clock.at = local("11-01 00:30")
    october.close("2026-10", even_if_uncertain=True)
    october.seen("11-01 01:00", {1: "0"})
    october.seen("11-02 23:55", {1: "1"})
    clock.at = local("11-03 12:00")
    assert certainties(october, tmp_path) == ["uncertain", "uncertain"]
    assert october.close("2026-10", run="d" * 12) is not None
    assert certainties(october, tmp_path) == ["certain", "certain"]
    assert october.close("2026-10", run="e" * 12) is None


def test_a_month_that_was_closed_in_doubt_stays_estimated(
    october: Book, clock: Clock, tmp_path: Path
) -> None:
    """Its certainty says that it is settled; its status is the same in its own report and as last month."""
    for at, cost in {"10-31 23:55": "5", "11-01 00:05": "5"}.items():
        october.seen(at, {1: cost})
    clock.at = local("11-01 00:06")
    october.close("2026-10", even_if_uncertain=True)
    october.seen("11-01 00:10", {1: "0"})
    clock.at = local("11-02 09:00")
    october.close("2026-10", run="d" * 12)
    files = october.publish(tmp_path, ["json", "html", "focus"], month="2026-10").files
    own = json.loads(Path(files["json"]).read_text())
    last = published(october, tmp_path, "2026-11")["last_month"]
    assert [(one["status"], one["certainty"]) for one in (own, last)] == [("estimated", "certain")] * 2
    assert own["closed"]["status"] == "estimated"
    assert ">Estimated<" in Path(files["html"]).read_text()
    with Path(files["focus"]).open(encoding="utf-8-sig") as file:
        assert {row["x_Completeness"] for row in csv.DictReader(file)} == {"estimated"}


def test_a_doubt_that_a_difference_left_is_settled_too(book: Book, clock: Clock, tmp_path: Path) -> None:
    for at, cost in {"10-05 23:55": "3", "10-31 23:50": "10", "11-01 00:05": "0", "11-02 00:05": "0"}.items():
        book.seen(at, {1: cost})
    clock.at = local("11-02 12:00")
    book.close("2026-10")
    book.seen("10-31 23:58", {1: "11"})  # files that come back from another host
    assert book.close("2026-10", run="d" * 12) is not None
    book.seen("09-30 23:55", {1: "7"})
    book.turn("10", [1])
    assert certainties(book, tmp_path) == ["uncertain", "uncertain"]
    assert book.close("2026-10", run="e" * 12) is not None
    assert certainties(book, tmp_path) == ["certain", "certain"]


def test_a_doubt_that_is_settled_as_another_month_s_alone_is_booked_too(october: Book, clock: Clock) -> None:
    """Made after the turn, and used when some zone may still turn: all of it is November's."""
    october.seen("10-31 23:55", {1: "10"})
    for at, cost, balance in (("11-01 11:00", "0", "100"), ("11-01 13:00", "5", "95")):
        october.seen(at, {1: "0", 2: (cost, None, "2026-11-01T10:00:00+08:00", balance)})
    clock.at = local("11-01 14:00")
    october.close("2026-10", even_if_uncertain=True)
    assert october.report("2026-10").certainty == "uncertain"
    for at, cost, balance in (("11-02 10:00", "7", "93"), ("11-03 10:00", "9", "91")):
        october.seen(at, {1: "0", 2: (cost, None, "2026-11-01T10:00:00+08:00", balance)})
    clock.at = local("11-03 12:00")
    assert october.close("2026-10", run="d" * 12) is not None
    report = october.report("2026-10")
    assert report.certainty == "certain"
    assert not any("Notes name" in text for text in report.warnings)
    assert october.close("2026-10", run="e" * 12) is None


def test_what_was_closed_in_doubt_is_no_lower_bound(october: Book, clock: Clock) -> None:
    """Closed with 10; then it shows that the counter had started again before: only 6 were October's."""
    october.seen("10-31 20:00", {1: "6"})
    october.seen("10-31 23:55", {1: "10"})
    clock.at = local("11-01 00:06")
    october.close("2026-10", even_if_uncertain=True)
    october.seen("10-31 22:00", {1: "0"})  # a file that comes late
    october.seen("11-02 00:05", {1: "12"})
    clock.at = local("11-02 12:00")
    report = october.report("2026-10")
    [line] = report.accounts
    assert (line.month_to_date, line.certainty, line.lower_bound) == (10, "uncertain", 6)
    assert "Of what is reported 4 may be another month's" in " ".join(report.warnings)


@pytest.mark.parametrize("owner", ["Search", {"split": {"Search": 60, "Ads": 40}}], ids=["one", "shared"])
def test_who_pays_what_only_a_note_names_stands_too(
    october: Book, clock: Clock, tmp_path: Path, owner: Any
) -> None:
    october.seen("10-31 23:55", {1: "10"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.note("2026-10", sub_account_id=0, amount="5", alias="(main account)")
    rules = {"a-1": "Team", "id:0": owner}
    october.close("2026-10", owners=rules)
    october.seen("11-02 23:55", {1: "1"})
    own = published(october, tmp_path, "2026-10", owners=rules)
    by_team = {line["team"]: line["month_to_date"] for line in own["owners"]}
    assert published(october, tmp_path, "2026-11", owners=rules)["last_month"]["by_team"] == by_team
    moved = october.report("2026-10", owners={"a-1": "Team", "id:0": "Board"})
    assert {line.owner.team for line in moved.owners} == by_team.keys()
    assert "the owner rules now give account 0 to somebody else" in " ".join(moved.warnings)


def test_a_note_after_the_close_is_paid_by_the_rules_of_now(
    october: Book, clock: Clock, tmp_path: Path
) -> None:
    october.seen("10-31 23:55", {1: "10"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.close("2026-10")
    october.note("2026-10", sub_account_id=0, amount="5", alias="(main account)")
    for owners in ({"id:0": "Infra"}, {"id:0": {"split": {"Infra": 50, "Board": 50}}}):
        own = published(october, tmp_path, "2026-10", owners=owners)
        by_team = {line["team"]: Decimal(line["month_to_date"]) for line in own["owners"]}
        last = published(october, tmp_path, "2026-11", owners=owners)["last_month"]["by_team"]
        assert {team: Decimal(amount) for team, amount in last.items()} == by_team


def paid(book: Book, folder: Path, owners: Any) -> list[dict[str, Decimal]]:
    """Return what teams pay of October: by its own report, by November's, and by both months' FOCUS rows."""
    own: defaultdict[str, Decimal] = defaultdict(Decimal)
    focus: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in book.report("2026-10", owners=owners).owners:
        own[line.owner.team] += line.month_to_date
    last = published(book, folder, "2026-11", owners=owners)["last_month"]["by_team"]
    for month in ("2026-10", "2026-11"):
        files = book.publish(folder, "focus-csv", month=month, owners=owners).files
        with Path(files["focus-csv"]).open(encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                focus[json.loads(row["Tags"])["team"]] += Decimal(row["EffectiveCost"])
    found = [own, {team: Decimal(amount) for team, amount in last.items()}, focus]
    return [{team: amount for team, amount in one.items() if amount} for one in found]


def test_notes_of_an_account_with_two_aliases_have_one_payer(
    october: Book, clock: Clock, tmp_path: Path
) -> None:
    october.seen("10-31 23:55", {1: "10"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.close("2026-10")
    for reason, alias, amount in (("a", "", "1"), ("b", "search-x", "2"), ("c", "ads-y", "3")):
        clock.at += timedelta(seconds=1)
        october.note("2026-10", sub_account_id=77, amount=amount, reason=reason, alias=alias)
    owners = {"search-*": "Search", "ads-*": "Ads"}
    assert paid(october, tmp_path, owners) == [{"Unallocated": 10, "Search": 6}] * 3


@pytest.mark.parametrize("owner", ["Search", {"split": {"Search": 50, "Ads": 50}}], ids=["one", "shared"])
def test_an_account_that_was_seen_after_the_close_has_one_payer(
    october: Book, clock: Clock, tmp_path: Path, owner: Any
) -> None:
    """The one file that has it was missing; a note of it has no alias."""
    october.seen("10-31 23:55", {1: "10"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.close("2026-10")
    october.seen("10-15 23:55", {1: "3", 2: ("4", "search-x")})
    october.note("2026-10", sub_account_id=2, amount="1.5")
    owners = {"search-*": owner}
    for pays in ({"Unallocated": Decimal("11.5")}, {"Unallocated": Decimal(10), "Search": Decimal("5.5")}):
        if owner != "Search" and "Search" in pays:
            pays |= {"Search": Decimal("2.75"), "Ads": Decimal("2.75")}
        assert paid(october, tmp_path, owners) == [pays] * 3
        october.close("2026-10", run="d" * 12, owners=owners, even_if_uncertain=True)


def test_a_cost_center_of_a_share_stands(october: Book, clock: Clock) -> None:
    def rules(cost_center: str) -> dict[str, Any]:
        ads = {"team": "Ads", "cost_center": "CC-2", "percent": 40}
        return {"a-1": {"split": [{"team": "Search", "cost_center": cost_center, "percent": 60}, ads]}}

    october.seen("10-31 23:55", {1: "10"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.close("2026-10", owners=rules("CC-1"))
    report = october.report("2026-10", owners=rules("CC-9"))
    assert [line.owner for line in report.owners] == [Owner("Search", "CC-1"), Owner("Ads", "CC-2")]
    assert "the owner rules now give account 1 to somebody else" in " ".join(report.warnings)


@pytest.mark.parametrize("late", ["0.00000002", "0.0000000150"])
def test_the_rows_of_a_closed_period_keep_their_sums_by_team(
    october: Book, clock: Clock, tmp_path: Path, late: str
) -> None:
    def by_team(month: str) -> dict[str, Decimal]:
        files = october.publish(tmp_path, "focus-csv", month=month, owners=SHARED).files
        found: defaultdict[str, Decimal] = defaultdict(Decimal)
        with Path(files["focus-csv"]).open(encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                found[json.loads(row["Tags"])["team"]] += Decimal(row["EffectiveCost"])
        return {team: amount for team, amount in found.items() if amount}

    october.seen("10-31 23:30", {1: "0.00000001"})
    october.turn("11", [1])
    clock.at = local("11-02 12:00")
    october.close("2026-10", owners=SHARED)
    before = by_team("2026-10")
    assert len(before) == 1  # one team has the last digit
    october.seen("10-31 23:55", {1: late})
    october.close("2026-10", run="d" * 12, owners=SHARED)
    october.seen("11-03 23:55", {1: "0"})
    clock.at = local("11-04 12:00")
    assert by_team("2026-10") == before
    together = [by_team(month).get(team, 0) for month in ("2026-10", "2026-11") for team in ("Search", "Ads")]
    own = {line.owner.team: line.month_to_date for line in october.report("2026-10", owners=SHARED).owners}
    assert [together[0] + together[2], together[1] + together[3]] == [own["Search"], own["Ads"]]
