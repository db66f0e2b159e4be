"""Last month and the year to date, the headline, statements, the digest, and the page's address."""

from __future__ import annotations

import json
import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import ReportResult

OWNERS = {"search.*": {"team": "Search", "cost_center": "CC-1"}, "ads.*": "Ads"}


@pytest.fixture
def year(book: Book, clock: Clock) -> Book:
    """Give a ledger that begins on 1 September; September is closed and corrected, October is left open."""
    book.seen("09-01 00:00", {1: ("0", "search.a"), 2: ("0", "ads.a")})
    book.seen("09-02 00:05", {1: ("0", "search.a"), 2: ("0", "ads.a")})
    for month, last in (("09", 30), ("10", 31)):
        book.seen(f"{month}-01 00:05", {1: ("0", "search.a"), 2: ("0", "ads.a")})
        book.seen(f"{month}-{last} 23:55", {1: (f"{int(month) * 100}", "search.a"), 2: ("50", "ads.a")})
        following = f"{int(month) + 1:02}"
        clock.at = local(f"{following}-01 00:06")
        book.seen(f"{following}-01 00:05", {1: ("0", "search.a"), 2: ("0", "ads.a")})
        if month == "09":
            book.close("2026-09", owners=OWNERS)
            book.note("2026-09", sub_account_id=2, amount="-10", reason="credit note")
    book.seen("11-16 00:00", {1: ("800", "search.a"), 2: ("20", "ads.a")})
    clock.at = local("11-16 00:05")
    return book


def published(book: Book, folder: Path, *formats: str, **options: Any) -> ReportResult:
    return book.publish(folder, formats or ["html", "json"], owners=OWNERS, **options)


def test_last_month_and_the_year_to_date(year: Book, tmp_path: Path) -> None:
    files = published(year, tmp_path / "out").files
    found = json.loads(Path(files["json"]).read_text())
    assert found["last_month"] == {
        "billing_month": "2026-10",
        "status": "final",
        "total": "1050",
        "by_team": {"Search": "1000", "Ads": "50"},
        "certainty": "certain",
        "uncertain_teams": [],
    }
    months = ["2026-09", "2026-10", "2026-11"]
    assert found["year_to_date"] == {
        "total": "2810",
        "months": months,
        "not_included": [],
        "certainty": "certain",
    }
    page = Path(files["html"]).read_text()
    assert re.search(r'id="last-month"><data value="1050">1,050.00<', page)
    assert re.search(r'id="year-to-date"><data value="2810">2,810.00<', page)
    assert "since September 2026" in page


def test_a_year_begins_in_january(year: Book, clock: Clock, tmp_path: Path) -> None:
    year.seen("11-30 23:55", {1: ("900", "search.a"), 2: ("20", "ads.a")})
    clock.at = local("12-20 12:00")
    year.seen("12-20 12:00", {1: ("7", "search.a"), 2: ("0", "ads.a")})
    found = json.loads(Path(published(year, tmp_path, "json", month="2026-12").files["json"]).read_text())
    assert found["year_to_date"]["total"] == "2917"
    assert found["year_to_date"]["months"] == ["2026-09", "2026-10", "2026-11", "2026-12"]


def test_a_month_that_cannot_be_read_is_named(year: Book, tmp_path: Path) -> None:
    for file in year.ledger.files("snapshots", "2026-10"):
        (year.ledger.root / file.name).write_bytes(b"cut")
    files = published(year, tmp_path).files
    found = json.loads(Path(files["json"]).read_text())
    assert found["last_month"] is None
    assert found["year_to_date"]["not_included"] == ["2026-10"]
    assert "without 2026-10" in Path(files["html"]).read_text()


def test_a_month_that_is_not_there_is_named(year: Book, tmp_path: Path) -> None:
    shutil.rmtree(Path(str(year.ledger.root)) / "snapshots/billing_month=2026-10")
    files = published(year, tmp_path).files
    found = json.loads(Path(files["json"]).read_text())["year_to_date"]
    assert (found["months"], found["not_included"]) == (["2026-09", "2026-11"], ["2026-10"])
    assert "without 2026-10" in Path(files["html"]).read_text()


def test_a_month_that_is_missing_before_the_year_s_first_is_named(
    book: Book, clock: Clock, tmp_path: Path
) -> None:
    """The ledger is older than the year: January is not there."""
    for at, cost in {"02-01 00:05": "0", "02-28 23:55": "6", "03-01 00:05": "0", "03-20 23:55": "7"}.items():
        book.seen(at, {1: cost})
    book.seen(local("01-05 12:00").replace(year=2025, month=11), {1: "4"})
    clock.at = local("03-21 12:00")
    for month, others in (("2026-03", ["2026-02"]), ("2026-02", [])):
        found = json.loads(Path(published(book, tmp_path, month=month).files["json"]).read_text())
        assert found["year_to_date"]["months"] == [*others, month]
        assert found["year_to_date"]["not_included"] == ["2026-01"]


def test_a_last_month_that_is_lost_is_named(book: Book, clock: Clock, tmp_path: Path) -> None:
    """Of another year it is not missing in the year to date."""
    book.seen(local("11-05 12:00").replace(year=2025), {1: "4"})
    book.turn("01", [1])
    clock.at = local("01-01 12:00")
    found = json.loads(Path(published(book, tmp_path, month="2026-01").files["json"]).read_text())
    assert "No last month: the ledger has nothing usable of 2025-12." in found["warnings"]
    assert (found["last_month"], found["year_to_date"]["not_included"]) == (None, [])


def test_a_closed_month_stays_in_doubt_while_its_begin_is(book: Book, clock: Clock, tmp_path: Path) -> None:
    """Another close settles its end; what its opening balance is of, nobody knows."""
    for at, cost in {"03-31 12:00": "60", "03-31 23:55": "70", "04-01 00:05": "71"}.items():
        book.seen(at, {1: cost})
    clock.at = local("04-01 00:06")
    book.close("2026-03", even_if_uncertain=True)
    book.seen("04-01 09:00", {1: "2"})
    book.seen("04-02 00:05", {1: "4"})
    clock.at = local("04-02 00:06")
    assert book.close("2026-03", run="d" * 12) is not None
    assert {line.certainty for line in book.report("2026-03").accounts} == {"uncertain"}
    found = json.loads(Path(published(book, tmp_path, month="2026-04").files["json"]).read_text())
    assert found["last_month"]["certainty"] == found["year_to_date"]["certainty"] == "uncertain"


@pytest.mark.parametrize("over", ["0.0004", "0.00000001"])
def test_no_team_is_within_its_budget_by_rounding(
    book: Book, clock: Clock, tmp_path: Path, over: str
) -> None:
    book.turn("10", [1])
    book.seen("10-31 23:55", {1: str(1000000 + Decimal(over))})
    book.turn("11", [1])
    clock.at = local("11-02 12:00")
    result = published(book, tmp_path, month="2026-10", budgets={"Unallocated": 1000000})
    assert "The one team with a budget went over it." in result.headline
    assert [team.level for team in result.teams] == ["bad"]


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        ({}, ""),
        ({"Search": 5000, "Ads": 500}, " No team is over budget."),
        ({"Search": 700, "Ads": 500}, " 1 of 2 teams with a budget is over it."),
        ({"Search": 900, "Ads": 500}, " 1 team is forecast to go over budget."),
        ({"Search": 700, "Ads": 30}, " 1 of 2 teams with a budget is over it, 1 is forecast to be."),
        ({"Search": 700, "Ads": 10}, " 2 of 2 teams with a budget are over it."),
    ],
)
def test_the_headline_of_an_open_month(year: Book, tmp_path: Path, budgets: Any, told: str) -> None:
    start = "November 2026 cost 820.00 CNY up to 16 Nov, 00:00. At this rate it will be 1,640.00, "
    result = published(year, tmp_path, "json", budgets=budgets)
    assert result.headline == f"{start}56.2 % more than October 2026.{told}"
    assert result.record()["headline"] == result.headline


@pytest.mark.parametrize(
    ("budget", "verdict", "told"),
    [
        ("10", "over budget", "1 of 2 teams with a budget is over it."),
        ("30", "forecast over budget", "1 team is forecast to go over budget."),
        ("41", "no owner", "No team is over budget."),
    ],
)
def test_accounts_without_an_owner_may_be_over_their_budget(
    year: Book, tmp_path: Path, budget: str, verdict: str, told: str
) -> None:
    result = year.publish(
        tmp_path, "json", owners={"search.*": "Search"}, budgets={"Unallocated": budget, "Search": 5000}
    )
    assert result.headline.endswith(told)
    [unallocated] = [team for team in result.teams if team.name == "Unallocated"]
    assert unallocated.verdict == verdict
    assert result.teams[0] is unallocated
    assert f"- Unallocated: {verdict}, 20.00 of " in result.digest


def test_the_headline_of_a_month_that_is_over(year: Book, clock: Clock, tmp_path: Path) -> None:
    year.seen("11-30 20:00", {1: ("800", "search.a"), 2: ("20", "ads.a")})
    clock.at = local("12-01 09:00")
    told = published(year, tmp_path, "json", budgets={"Ads": 10}).headline
    assert told.startswith("November 2026 cost at least 820.00 CNY, 21.9 % less than October 2026.")
    assert told.endswith(" The one team with a budget went over it.")


def test_a_month_is_compared_with_nothing_less(book: Book, clock: Clock, tmp_path: Path) -> None:
    book.seen("10-30 23:55", {1: "1"})
    book.seen("10-31 23:55", {1: "2"})
    book.seen("11-01 00:05", {1: "0"})
    book.seen("11-10 00:00", {1: "300"})
    clock.at = local("11-10 00:05")
    result = book.publish(tmp_path / "out", ["html"])
    assert result.headline == (
        "November 2026 cost 300.00 CNY up to 10 Nov, 00:00. At this rate it will be 1,000.00."
    )
    assert "since 30 Oct 2026, 23:55" in Path(result.files["html"]).read_text()


def test_accounts_to_look_at_are_on_the_page_and_in_the_digest(
    book: Book, clock: Clock, tmp_path: Path
) -> None:
    book.seen("10-31 23:55", {1: "5"})
    book.seen("11-01 00:05", {1: "0"})
    book.seen("11-10 00:00", {1: "900"})  # its balance is 100
    clock.at = local("11-10 00:05")
    for _ in range(2):  # also where it was told before
        result = book.publish(tmp_path / "out", ["html"], thresholds="balance")
        assert "its balance is 100.00 CNY: it will not last the month." in result.digest
        assert "it will not last the month" in Path(result.files["html"]).read_text()


def test_a_page_of_no_team_beside_a_month_before(book: Book, clock: Clock, tmp_path: Path) -> None:
    """Nobody had an account in either month, and no rule names a team."""
    book.seen("10-15 23:55", {})
    book.seen("11-15 23:55", {})
    clock.at = local("11-16 09:00")
    page = Path(book.publish(tmp_path / "out", ["html"]).files["html"]).read_text()
    assert re.search(r'id="last-month"><data value="0">0\.0000<', page)
    assert re.search(r'<tfoot><tr><th scope="row">Total</th>.*0\.0000', page)


def test_a_page_for_each_team(year: Book, tmp_path: Path) -> None:
    result = published(year, tmp_path / "out", "html", statements=True, budgets={"Search": 700})
    names = {name: Path(path) for name, path in result.files.items() if name.startswith("statement ")}
    assert set(names) == {"statement Search", "statement Ads"}
    page = Path(result.files["html"])
    for path in names.values():
        assert f'href="statements/2026-11/{path.name}"' in page.read_text()
        assert (path.parent / "../../closeai-costs-2026-11.html").resolve() == page.resolve()
    search = names["statement Search"].read_text()
    assert "over budget" in search
    assert "CC-1" in search
    assert '<data value="800">800.00' in search
    assert '<data value="2700">2,700.00' in search  # the year
    assert "search.a" in search
    assert "ads.a" not in search
    assert "href=" not in re.sub(r'href="(data:,|\.\./\.\./closeai-costs-2026-11\.html)"', "", search)


def test_no_two_teams_have_one_page(book: Book, tmp_path: Path) -> None:
    teams = ["A/B", "a b", "A b", "客服", "../x", "."]
    book.seen("11-05 09:00", {n: ("1", f"t{n}") for n in range(len(teams))})
    owners = {f"t{n}": team for n, team in enumerate(teams)}
    files = book.publish(tmp_path / "out", ["html"], owners=owners, statements="true").files
    pages = {path for name, path in files.items() if name.startswith("statement ")}
    assert len(pages) == len(teams)
    folder = (tmp_path / "out/statements/2026-11").resolve()
    assert {Path(page).resolve().parent for page in pages} == {folder}


def test_the_digest_says_what_matters(year: Book, tmp_path: Path) -> None:
    result = published(
        year,
        tmp_path,
        "html",
        budgets={"Search": 700, "Ads": 5000},
        public_url="https://costs.example.com/ai/",
    )
    lines = result.digest.splitlines()
    assert lines[:3] == [
        "CloseAI costs, November 2026 (open)",
        result.headline,
        "- Search: over budget, 800.00 of 700.00 CNY (114.3 %)",
    ]
    assert lines[-1] == result.url == "https://costs.example.com/ai/closeai-costs-2026-11.html"
    assert published(year, tmp_path, "json", public_url="https://costs.example.com").url is None


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("reports", "it is not a web address"),
        ("s3://bucket/x", "it is not a web address"),
        (7, "it is not a web address"),
        ("https://[", "it is not a web address"),
        ("https://user:secret@x.example", "it has a name, a password"),
        ("https://x.example/a?sig=secret", "it has a name, a password"),
    ],
)
def test_an_address_that_cannot_be_shown(book: Book, tmp_path: Path, address: Any, told: str) -> None:
    with pytest.raises(InvalidParameter, match=f"public_url: {told}") as caught:
        published(book, tmp_path, public_url=address)
    assert "secret" not in str(caught.value)


def test_what_a_closed_month_is_compared_by_is_what_was_closed(year: Book, tmp_path: Path) -> None:
    """Its observations are not read again, so a year of closed months costs nothing."""
    for file in year.ledger.files("snapshots", "2026-09")[:-1]:  # the last one shows October's turn
        (year.ledger.root / file.name).unlink()
    found = json.loads(Path(published(year, tmp_path, "json").files["json"]).read_text())
    assert Decimal(found["year_to_date"]["total"]) == 900 + 50 - 10 + 1050 + 820
