"""The documented SQL views: an oracle that shares no code with the package, over random ledgers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from books import Book, Clock, local
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_closeai.costs import Report

duckdb = pytest.importorskip("duckdb")

DOCS = Path(__file__).parents[2] / "docs"
MONTHS = {"09": 30, "10": 31, "11": 30}
TEAMS = {
    "t1.*": {"team": "Search", "cost_center": "CC-1"},
    "t2.*": "=Ads",
    "t3.*": {"split": {"A": 60, "B": 40}},
}
ALIASES = ["t1.x", "t2.=x", "t3.客服", "t4.q'", "=t1"]
AMOUNTS = st.integers(1, 10**12).map(lambda units: Decimal(units).scaleb(-8))


class Life(NamedTuple):
    """An account: on which of the days it begins and ends, what it spends on each, and one refund."""

    alias: str
    first: int
    last: int
    spends: list[Decimal]
    refund: int
    note: Decimal | None


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[tuple[str, int]], list[Life], set[str]]:
    """Draw the days on which somebody looks, the accounts, and the months that are closed."""
    days = []
    for month, last in MONTHS.items():
        others = draw(st.sets(st.integers(2, last - 1), max_size=2))
        days += [(month, day) for day in sorted({1, *others, last})]
    places = st.integers(0, len(days) - 1)
    every = st.lists(AMOUNTS, min_size=len(days), max_size=len(days))
    note = st.one_of(st.none(), AMOUNTS)
    life = st.builds(Life, st.sampled_from(ALIASES), places, places, every, places, note)
    return days, draw(st.lists(life, min_size=1, max_size=5)), draw(st.sets(st.sampled_from(sorted(MONTHS))))


def live(book: Book, clock: Clock, days: list[tuple[str, int]], lives: list[Life]) -> None:
    """Counters start again at midnight; somebody looks just before and just after it, and in between."""
    counters: dict[int, Decimal] = {}

    def seen(at: str, numbers: Iterable[int], kind: str = "snapshots") -> None:
        book.seen(at, {n: (str(counters[n]), lives[n - 1].alias) for n in numbers}, kind=kind)

    for place, (month, day) in enumerate(days):
        if day == 1:
            counters = dict.fromkeys(counters, Decimal(0))
            seen(f"{month}-01 00:05", counters)
        for number, life in enumerate(lives, 1):
            if place == life.first:
                counters[number] = Decimal(0)
            if number in counters:
                counters[number] += life.spends[place]
            if place == life.refund and number in counters and 3 < day < MONTHS[month] - 2:
                counters[number] /= 2
            if place == life.last and number in counters:
                seen(f"{month}-{day:02} 12:00", [number], "deleted")
                del counters[number]
        seen(f"{month}-{day:02} 23:55", counters)
    clock.at = local("12-01 00:06")
    counters = dict.fromkeys(counters, Decimal(0))
    seen("12-01 00:05", counters)


def views(name: str, **folders: Path) -> Any:
    """Open a database with the views, as the page says."""
    database = duckdb.connect()
    for variable, folder in folders.items():
        database.execute(f"set variable {variable} = '{folder}'")
    database.execute((DOCS / f"sql/{name}.sql").read_text("utf-8"))
    return database


@pytest.mark.parametrize("examples", [8, pytest.param(300, marks=pytest.mark.deep)])
def test_the_views_say_what_the_reports_say(tmp_path_factory: Any, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    @given(stories())
    def check(story: tuple[list[tuple[str, int]], list[Life], set[str]]) -> None:
        days, lives, closed = story
        root, clock = tmp_path_factory.mktemp("sql"), Clock()
        book = Book(root / "ledger", clock)
        live(book, clock, days, lives)
        for month in sorted(closed):
            book.close(f"2026-{month}", owners=TEAMS, even_if_uncertain=True)
        clock.at = local("12-01 00:30")
        for number, life in enumerate(lives, 1):
            if life.note is not None:
                book.note("2026-10", sub_account_id=number, amount=-life.note, alias=life.alias)
        reports = [
            book.publish(root / "out", ["focus-csv"], f"2026-{month}", owners=TEAMS).report
            for month in (*MONTHS, "12")
        ]
        certain.append(compare(root, reports))

    certain: list[Decimal] = []
    check()
    assert sum(certain) > len(certain) / 4  # the ledger's first month is uncertain, and what grew unseen


def compare(root: Path, reports: list[Report]) -> Decimal:
    """Compare accounts where the report is certain, and teams; return how much of the accounts that is."""
    lines = [(report.month.name, line) for report in reports for line in report.accounts]
    accounts = {(month, line.sub_account_id): line.month_to_date for month, line in lines if line.is_certain}
    ledger = views("ledger", ledger=root / "ledger")
    found = {
        (month, n): amount for month, n, _, amount, _ in ledger.execute("from account_months").fetchall()
    }
    assert {key: found.get(key, 0) for key in accounts} == accounts
    assert found.keys() <= {(month, line.sub_account_id) for month, line in lines}
    assert ledger.execute("from damaged_files").fetchall() == []
    focus = views("focus", reports=root / "out")
    # A line appended to a closed month is of the period in which it was booked: compare all months together.
    teams: dict[tuple[str, str], Decimal] = {}
    for report in reports:
        for line in report.owners:
            owner = (line.owner.team, line.owner.cost_center)
            teams[owner] = teams.get(owner, Decimal(0)) + line.month_to_date
    found = focus.execute("select team, coalesce(cost_center, ''), sum(cost) from team_months group by all")
    charged = {(team, center): cost for team, center, cost in found.fetchall() if cost}
    assert charged == {owner: cost for owner, cost in teams.items() if cost}
    said = focus.execute(
        "select billing_month, team, coalesce(cost_center, '') from team_months where certainty = 'uncertain'"
    ).fetchall()
    assert set(said) == {
        (report.month.name, line.owner.team, line.owner.cost_center)
        for report in reports
        for line in report.owners
        if line.uncertain
    }
    return Decimal(len(accounts)) / max(len(lines), 1)


def test_a_file_that_was_edited_is_found(book: Book) -> None:
    book.seen("11-04 09:00", {1: "1"})
    file = book.seen("11-05 09:00", {1: "2"})
    path = book.ledger.root / file.name
    path.write_bytes(path.read_bytes().replace(b",2,", b",3,"))
    database = views("ledger", ledger=book.ledger.root)
    assert database.execute("select count(*) from damaged_files").fetchone() == (1,)


def test_the_page_shows_what_is_in_the_files() -> None:
    """Every statement of docs/sql.md that can be run is a view of the files, or runs on them."""
    text = (DOCS / "sql.md").read_text("utf-8")
    made = {
        name
        for file in ("ledger", "focus")
        for name in re.findall(
            r"^create or replace view (\w+)", (DOCS / f"sql/{file}.sql").read_text(), re.MULTILINE
        )
    }
    assert made == set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert re.findall(r"\(sql/(\w+)\.sql\)", text) == ["ledger", "focus"]


def test_the_examples_of_the_page_run(book: Book, tmp_path: Path) -> None:
    book.seen("10-31 23:55", {1: ("5", "search.a")})
    book.seen("11-01 00:05", {1: ("0", "search.a")})
    book.seen("11-05 09:00", {1: ("2", "search.a;=1+1")})
    for month in ("2026-10", "2026-11"):
        book.publish(tmp_path / "out", ["focus-csv"], month, owners=TEAMS)
    database = views("ledger", ledger=book.ledger.root)
    database.execute(f"set variable reports = '{tmp_path / 'out'}'")
    database.execute((DOCS / "sql/focus.sql").read_text("utf-8"))
    examples = re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text("utf-8"), re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        if "read_text" not in example and ".read" not in example:
            assert database.execute(example).fetchall(), example
    alias = "select alias from account_charges where billing_month = '2026-11'"
    assert database.execute(alias).fetchall() == [("search.a;=1+1",)]
    assert database.execute("select max(alias) from observations").fetchall() == [("search.a;=1+1",)]
