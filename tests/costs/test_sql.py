"""The documented SQL views: an oracle that shares no code with the package, over random ledgers."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

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
from airflow_provider_closeai.costs.accounting.booked import ClosedCost
from airflow_provider_closeai.costs.store.kinds import CLOSED

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
    """
    An account: on which of the days it begins and ends, what it spends on each, and one refund.

    ``overlap``: so many minutes before its end a snapshot shows it with more than its last record.
    """

    alias: str
    first: int
    last: int
    spends: list[Decimal]
    refund: int
    note: Decimal | None
    overlap: int | None


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
    overlap = st.sampled_from([None, 0, 4, 5])
    life = st.builds(Life, st.sampled_from(ALIASES), places, places, every, places, note, overlap)
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
                if life.overlap is not None:
                    counters[number] += 1
                    seen(f"{month}-{day:02} 12:{10 * number - life.overlap:02}", counters)
                    counters[number] -= 1
                seen(f"{month}-{day:02} 12:{10 * number:02}", [number], "deleted")
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


def months_of(book: Book) -> list[tuple[Any, ...]]:
    """Return what the ledger's views say that each month cost."""
    query = "select billing_month, sum(month_to_date) from account_months group by all order by all"
    found: list[tuple[Any, ...]] = views("ledger", ledger=book.ledger.root).execute(query).fetchall()
    return found


@pytest.mark.parametrize("name", ["{0}-{1}-abcdefabcdef-{3}.csv", "{0}-{1}-{2}-{3} (1).csv", "a.csv"])
def test_a_note_that_was_copied_counts_once(book: Book, name: str) -> None:
    book.seen("11-04 09:00", {1: "10"})
    file = book.note(sub_account_id=1, amount="-1")
    assert file is not None
    path = book.ledger.root / file.name
    parts = path.name.removesuffix(".csv").split("-")
    (path.parent / name.format(*parts)).write_bytes(path.read_bytes())
    assert book.report().totals.month_to_date == Decimal(9)
    assert months_of(book) == [("2026-11", Decimal(9))]


def test_a_snapshot_in_another_month_s_folder_counts_nowhere(book: Book) -> None:
    book.seen("10-31 23:55", {1: "7"})
    book.turn("11", [1])
    book.seen("11-04 09:00", {1: "10"})
    path = book.ledger.root / book.seen("11-05 09:00", {1: "12"}).name
    path.rename(path.parent.with_name("billing_month=2026-10") / path.name)
    assert [book.report(month).totals.month_to_date for month in ("2026-10", "2026-11")] == [7, 10]
    assert months_of(book) == [("2026-10", 7), ("2026-11", 10)]


def test_a_month_that_was_closed_without_accounts_is_nothing(book: Book, clock: Clock) -> None:
    """An old snapshot that comes back changes nothing, nor does a second closing."""
    book.seen("11-30 23:50", {})
    book.turn("12", [])
    clock.at = local("12-01 00:05")
    book.close()
    book.seen("11-15 09:00", {1: "5"})
    assert book.report().totals.month_to_date == 0
    assert months_of(book) == []
    line = ClosedCost("CNY", 1, "a-1", "A", "", Decimal(5), "final")
    book.ledger.write(CLOSED, "2026-11", local("12-02 00:05"), "d" * 12, [line])
    assert book.report().totals.month_to_date == 0
    assert months_of(book) == []


def figures_of(book: Book, file: str) -> tuple[Decimal, tuple[Any, ...], bool]:
    """Return November's cost by the report and by SQL, and whether a file of differences was left out."""
    report = book.report()
    left_out = any(f"Left out: the differences in {file}" in warning for warning in report.warnings)
    return report.totals.month_to_date, months_of(book)[1], left_out


def test_differences_count_with_their_closing_only(book: Book, clock: Clock) -> None:
    """Without it the observations have them already; a closing that is made anew has them too."""
    book.seen("10-31 23:55", {1: "7"})
    book.turn("11", [1])
    book.seen("11-30 23:50", {1: "20"})
    book.turn("12", [1])
    clock.at = local("12-01 00:06")
    closing = book.close()
    assert closing is not None
    book.seen("11-30 23:55", {1: "25"})
    clock.at = local("12-01 01:00")
    difference = book.close()
    assert difference is not None
    assert figures_of(book, difference.name) == (25, ("2026-11", 25), False)
    (book.ledger.root / closing.name).rename(book.ledger.root.parent / "quarantine")
    assert figures_of(book, difference.name) == (25, ("2026-11", 25), True)
    clock.at = local("12-01 02:00")
    book.close(run="d" * 12)
    assert figures_of(book, difference.name) == (25, ("2026-11", 25), True)
    book.seen("11-30 23:57", {1: "26"})
    book.close()
    assert figures_of(book, difference.name)[:2] == (26, ("2026-11", 26))


def test_an_alias_with_any_white_space_comes_back(book: Book, tmp_path: Path) -> None:
    spaces = [chr(code) for code in range(0x3001) if re.match(r"\s", chr(code))]
    texts = [f"a{sign}{space}{space}'=x" for sign in "|;" for space in spaces]
    aliases = dict(enumerate(texts, 1))
    book.seen("11-05 09:00", {number: ("1", alias) for number, alias in aliases.items()})
    book.publish(tmp_path / "out", ["focus-csv"])
    database = views("ledger", ledger=book.ledger.root)
    assert dict(database.execute("select sub_account_id, alias from observations").fetchall()) == aliases
    database = views("focus", reports=tmp_path / "out")
    assert dict(database.execute("select sub_account_id, alias from account_charges").fetchall()) == aliases


@pytest.mark.parametrize("team", ["Ops; -EU", "Search | +Ads", "R&D;@home", "a;\u2003='b\\", "=A"])
def test_a_team_has_one_name_in_all_files(book: Book, tmp_path: Path, team: str) -> None:
    book.seen("11-05 09:00", {1: "1"})
    owners = {"*": {"team": team, "cost_center": team}}
    book.publish(tmp_path, ["focus-csv", "focus-parquet"], owners=owners)
    database = views("focus", reports=tmp_path)
    assert database.execute("select team, cost_center from team_months").fetchall() == [(team, team)]
    parquet = [f"{tmp_path}/focus-parquet/*/*.parquet"]
    found = database.execute("select Tags ->> '$.team' from read_parquet(?)", parquet)
    assert found.fetchall() == [(team,)]


def test_the_month_before_is_the_calendar_s(book: Book, clock: Clock, tmp_path: Path) -> None:
    for month, last, cost in (("08", 31, "10"), ("09", 30, "20"), ("11", 30, "40")):
        book.turn(month, [1])
        book.seen(f"{month}-{last} 23:55", {1: cost})
    book.turn("12", [1])
    clock.at = local("12-01 00:06")
    for month in ("08", "09", "11"):
        book.publish(tmp_path / "out", ["focus-csv"], f"2026-{month}")
    found = views("focus", reports=tmp_path / "out").execute(
        "select billing_month, cost, month_before, year_to_date from months order by all"
    )
    assert found.fetchall() == [
        ("2026-08", 10, None, 10),
        ("2026-09", 20, 10, 30),
        ("2026-11", 40, None, 70),
    ]


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
