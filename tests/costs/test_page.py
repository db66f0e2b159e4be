"""The page, in a real browser: what it shows, how it looks on a phone, and that it asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local
from browser import NAMES, Browser, browser, chromium

from airflow_provider_closeai.costs import Report
from airflow_provider_closeai.costs.render.numbers import Money
from airflow_provider_closeai.costs.render.page import render

EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
LONG = "data-platform." + "nightly-embedding-refresh-" * 4 + "production"


@pytest.fixture
def report(book: Book, clock: Clock) -> Report:
    """Give a month with everything in it: a refund, a rename, a deletion, a missed day, foreign texts."""
    aliases = {1: "search.web", 2: "ads.bids", 3: EVIL, 4: LONG, 5: "客服.机器人", 6: "trial"}
    book.seen("10-31 23:55", {number: ("900", alias) for number, alias in aliases.items()})
    for day in range(1, 31):
        if day == 20:
            aliases[6] = "ads.trial"
        costs = {
            number: (str(Decimal(day) * (7 - number) + Decimal("0.00000001") * number), alias)
            for number, alias in aliases.items()
        }
        if day >= 15:
            costs[2] = (str(Decimal(day) * 5 - 40), aliases[2])
        if day == 25:
            book.deleted("11-25 15:00", {4: (Decimal(day) * 3, aliases[4])})
        if day >= 25:
            costs.pop(4)
        if day != 9:
            book.seen(f"11-{day:02} 23:55", costs)
    book.control("11-30 23:55", "600")
    book.seen("12-01 00:05", {number: ("0", alias) for number, alias in aliases.items() if number != 4})
    book.note(sub_account_id=1, amount="-2.5", reason="<b>note</b>")
    clock.at = local("12-01 00:06")
    return book.report(
        owners={
            "search.*": "Search",
            "ads.*": {"team": "Ads & <i>Co</i>", "cost_center": "CC-7"},
            "old": "Nobody",
        },
        budgets={"Search": "150", "Ads & <i>Co</i>": "1000"},
    )


def began(book: Book, aliases: dict[int, str]) -> None:
    """Let all counters start again at the month's turn, for certain."""
    book.seen("10-31 23:55", {number: ("5", alias) for number, alias in aliases.items()})
    book.seen("11-01 00:05", {number: ("0", alias) for number, alias in aliases.items()})


@pytest.fixture
def page(report: Report, tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(render(report, account="Main & Sons"), "utf-8")
    return path


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(f"no Chromium on this machine (looked for CHROMIUM and {', '.join(NAMES)})")
    with browser(program) as found:
        yield found


def rectangles(chrome: Browser, selector: str) -> list[dict[str, Any]]:
    code = f"""[...document.querySelectorAll({selector!r})].map(e => {{
        const r = e.getBoundingClientRect();
        return {{amount: e.dataset.amount, day: e.dataset.day, width: r.width, height: r.height,
            minus: e.classList.contains('minus')}} }})"""
    return list(chrome.value(code))


CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const part = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => { const f = [r, g, b].map(v => part(v / 255));
    return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text || /^(title|desc)$/i.test(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), color = rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const [a, b] = [light(color), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push([e.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return bad; })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 390, 320])
def test_it_fits_and_reads_well(chrome: Browser, page: Path, width: int, scheme: str) -> None:
    chrome.open(page, width=width, scheme=scheme, is_mobile=width < 500)
    assert chrome.value("innerWidth") == width
    assert chrome.value("document.documentElement.scrollWidth") == width
    wide = """[...document.querySelectorAll('section, .card, header')]
        .filter(e => e.getBoundingClientRect().right > innerWidth).length"""
    assert chrome.value(wide) == 0
    assert chrome.value(CONTRAST) == []
    dark = chrome.value("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(20, 22, 27)") is (scheme == "dark")


def test_it_asks_nobody_and_runs_nothing(chrome: Browser, page: Path) -> None:
    chrome.open(page)
    chrome.value("new Promise(done => setTimeout(done, 200))")
    assert chrome.requested() == [page.as_uri()]
    assert chrome.told() == []
    assert chrome.value("document.scripts.length") == 0
    assert (
        chrome.value(
            "document.querySelectorAll('img, link[href]:not([href^=\"data:\"]), iframe, [onerror]').length"
        )
        == 0
    )
    assert chrome.value("document.title") == "CloseAI costs – November 2026"
    source = page.read_text("utf-8")
    assert not re.findall(
        r"(?:src|href)=\"(?!data:)[^\"]*\"|url\(|https?://|@import", re.sub("&lt;img.*?&gt;", "", source)
    )


def test_the_browser_would_tell(chrome: Browser, tmp_path: Path) -> None:
    """Show that the checks of the test before can fail."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<script>console.error('x')</script><img src=gone.png><p style='color:#aaa;background:#fff'>pale"
    )
    chrome.open(bad, width=390)
    chrome.value("new Promise(done => setTimeout(done, 200))")
    assert len(chrome.requested()) == 2
    assert chrome.told()
    assert chrome.value(CONTRAST) == [["pale", "2.32"]]


def test_texts(chrome: Browser, page: Path, report: Report) -> None:
    chrome.open(page)
    text = chrome.value("document.body.innerText")
    for wanted in (
        "CloseAI costs – November 2026",
        "Final",
        "Main & Sons · all amounts in CNY",
        EVIL,
        "Ads & <i>Co</i>",
        "客服.机器人",
        LONG[:100],
        "\N{MINUS SIGN}2.50 appended (manual): <b>note</b>",
        "renamed from trial to ads.trial",
        "deleted; its last value of 75.00 was recorded just before",
        "No snapshot on 2026-11-09",
        "No account of this month matches owners rule 3 (alias 'old' -> 'Nobody')",
        "over budget",
        "within budget",
        "Of it in no sub-account",
    ):
        assert wanted in text, wanted
    total = report.totals.month_to_date
    assert chrome.value("document.querySelector('#total data').value") == format(total, "f")
    assert chrome.value("document.querySelector('#total').innerText") == Money(2)(total)


PRINTED = """selector => [...document.querySelectorAll(selector)].flatMap(table => {
    const number = cell => { const text = cell.textContent.replaceAll(',', '').replace('\u2212', '-').trim();
        return /^-?[0-9.]+$/.test(text) ? Number(text) : null; };
    const foot = table.querySelector('tfoot tr');
    return [...foot.cells].map((cell, column) => {
        const cells = [...table.tBodies[0].rows].map(row => number(row.cells[column]));
        const lines = cells.filter(n => n !== null);
        return [table.id, column, number(cell), lines.reduce((a, b) => a + b, 0), lines.length]; })
        .filter(found => found[2] !== null); })"""


def test_columns_add_up_as_printed(chrome: Browser, page: Path) -> None:
    """A controller with a pocket calculator comes to the totals, with the line for the rounding."""
    chrome.open(page)
    columns = chrome.value(f"({PRINTED})('table:has(tfoot)')")
    assert {table for table, *_ in columns} == {"teams", "days", "accounts"}
    assert [found for found in columns if round(found[2] - found[3], 2)] == []
    assert all(lines for *_, lines in columns)


def test_rounding_is_a_line_of_its_own(chrome: Browser, book: Book, tmp_path: Path) -> None:
    began(book, {number: f"t{number}" for number in range(1, 26)})
    book.seen("11-21 09:00", {number: (f"{number * 10}.004", f"t{number}") for number in range(1, 26)})
    owners = {f"t{number}": f"Team {number}" for number in range(1, 26)}
    path = tmp_path / "page.html"
    path.write_text(render(book.report(owners=owners), account="m"), "utf-8")
    chrome.open(path)
    columns = chrome.value(f"({PRINTED})('table:has(tfoot)')")
    assert {table for table, *_ in columns} == {"teams", "more-teams", "days", "accounts", "more-accounts"}
    assert [found for found in columns if round(found[2] - found[3], 2)] == []
    rounding = chrome.value("[...document.querySelectorAll('.rounding')].map(e => e.innerText)")
    assert any("0.08" in text for text in rounding)


def test_amounts_are_exact_beneath(chrome: Browser, page: Path, report: Report) -> None:
    chrome.open(page)
    total = report.totals.month_to_date
    read = "[...document.querySelectorAll('#accounts tbody data')].map(e => [e.value, e.innerText])"
    cells = chrome.value(read)
    assert sum(Decimal(value) for value, _ in cells) == total
    assert all(Decimal(shown.replace(",", "")) == Money(2).rounded(Decimal(value)) for value, shown in cells)
    days = chrome.value("[...document.querySelectorAll('#days tbody data')].map(e => e.value)")
    assert [Decimal(value) for value in days] == [*report.daily.values(), report.totals.adjustments]


def test_minus_signs_and_thousands_are_alike(chrome: Browser, book: Book, tmp_path: Path) -> None:
    began(book, {1: "a-1", 2: "a-2"})
    book.seen("11-05 09:00", {1: "1234567.5", 2: "5000"})
    book.seen("11-21 09:00", {1: "1200000.25", 2: "5000"})
    book.note(sub_account_id=2, amount="-1234.5")
    book.control("11-21 09:00", "1190000")
    path = tmp_path / "page.html"
    path.write_text(render(book.report(budgets={"A": 1500}, owners={"a-2": "A"}), account="m"), "utf-8")
    chrome.open(path)
    text = chrome.value("document.body.innerText")
    assert "\N{MINUS SIGN}34,567.25" in text
    assert "\N{MINUS SIGN}1,234.50" in text
    assert not re.search(r"-\d", re.sub(r"\d{4}-\d\d(-\d\d)?|[\w/=]*\.csv|a-\d", "", text))
    assert not re.search(r"(?<![\d.,-])\d{5,}", text)


def test_bars_are_as_long_as_their_figures(chrome: Browser, page: Path, report: Report) -> None:
    chrome.open(page)
    days = rectangles(chrome, "#day-chart rect[data-amount]")
    assert {bar["day"]: Decimal(bar["amount"]) for bar in days} == {
        day.isoformat(): amount for day, amount in report.daily.items()
    }
    highest = max(days, key=lambda bar: Decimal(bar["amount"]))
    for bar in days:
        wanted = highest["height"] * float(abs(Decimal(bar["amount"])) / Decimal(highest["amount"]))
        assert bar["height"] == pytest.approx(wanted, abs=1.5)
        assert bar["minus"] is (Decimal(bar["amount"]) < 0)
    assert sum(bar["minus"] for bar in days) == 1
    bars = rectangles(chrome, "#teams rect[data-amount]")
    tracks = rectangles(chrome, "#teams .track")
    search, ads = report.budgets
    assert bars[0]["minus"]  # over budget comes first
    assert tracks[0]["width"] / bars[0]["width"] == pytest.approx(
        float(search.budget / search.month_to_date), abs=0.01
    )
    of_ads = next(n for n, bar in enumerate(bars) if Decimal(bar["amount"]) == ads.month_to_date)
    assert bars[of_ads]["width"] / tracks[of_ads]["width"] == pytest.approx(
        float(ads.month_to_date / ads.budget), abs=0.02
    )


def test_charts_can_be_read_without_seeing_them(chrome: Browser, page: Path) -> None:
    chrome.open(page)
    charts = chrome.value(
        """[...document.querySelectorAll('#day-chart')].map(chart =>
            chart.getAttribute('aria-labelledby').split(' ')
                .map(id => document.getElementById(id).textContent.trim().length > 10))"""
    )
    assert charts == [[True, True]]
    bars = chrome.value("[...document.querySelectorAll('.usage svg[role=img]')].map(e => e.ariaLabel)")
    assert bars[0] == "Search: 177.50 of a budget of 150.00 CNY"
    assert chrome.value("document.documentElement.lang") == "en"
    assert chrome.value("[...document.querySelectorAll('table')].every(t => t.querySelector('th[scope]'))")
    names = chrome.value(
        """[...document.querySelectorAll('section')]
            .every(s => document.getElementById(s.getAttribute('aria-labelledby')))"""
    )
    assert names


def test_print(chrome: Browser, page: Path, tmp_path: Path) -> None:
    chrome.open(page, scheme="dark")
    chrome.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert chrome.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chrome.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert chrome.value(CONTRAST) == []
    chrome.pdf(tmp_path / "page.pdf")
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 6


@pytest.mark.parametrize(("width", "media"), [(360, ""), (900, ""), (1280, ""), (690, "print")])
def test_long_names_and_amounts_do_not_meet(
    chrome: Browser, book: Book, tmp_path: Path, width: int, media: str
) -> None:
    names = [f"{letter * 2}ommercial Wholesale Machinery of Northwestern Europe" for letter in "WM"]
    began(book, {1: "a", 2: "b"})
    book.seen("11-21 09:00", {1: ("98765432.10", "a"), 2: ("87654321.09", "b")})
    report = book.report(
        owners=dict(zip("ab", names, strict=True)), budgets=dict.fromkeys(names, "99999999.99")
    )
    page = tmp_path / "page.html"
    page.write_text(render(report, account="m"))
    chrome.open(page, width=width, is_mobile=width < 400)
    chrome.call("Emulation.setEmulatedMedia", media=media)
    assert "forecast over budget" in page.read_text()
    beside = """[...document.querySelectorAll('#teams tr')].flatMap(row => {
        const cells = [...row.cells].filter(cell => cell.offsetWidth);
        return cells.slice(1).filter((cell, n) => {
            const range = document.createRange(); range.selectNodeContents(cells[n]);
            const ends = [range, cells[n]].map(e => e.getBoundingClientRect().right);
            return Math.min(...ends) > cell.getBoundingClientRect().left + 1;
        }).map(cell => cell.textContent); })"""
    assert chrome.value(beside) == []


def test_fifty_five_teams_are_read_on_one_screen(chrome: Browser, book: Book, tmp_path: Path) -> None:
    """What needs attention is on the first screen, and all the others are one click away."""
    costs = {number: (f"{number * 100}.01", f"t{number}.x") for number in range(1, 56)}
    began(book, {number: alias for number, (_, alias) in costs.items()})
    book.seen("11-21 09:00", costs)
    owners = {f"t{number}.*": f"Team {number}" for number in range(1, 56)}
    budgets = {f"Team {number}": number * (90 if number in (7, 21) else 10000) for number in range(1, 56)}
    path = tmp_path / "page.html"
    path.write_text(render(book.report(owners=owners, budgets=budgets), account="m"), "utf-8")
    chrome.open(path)
    rows = chrome.value(
        "[...document.querySelectorAll('#teams tbody tr')].map(e => e.cells[0].innerText.trim())"
    )
    assert rows == ["Team 21", "Team 7", "Team 55", "Team 54", "Team 53", "Team 52", "49 more, below"]
    assert chrome.value("document.querySelector('#teams tfoot').getBoundingClientRect().bottom") < 900
    assert chrome.value("document.querySelectorAll('#more-teams tbody .team').length") == 49
    assert chrome.value("document.querySelector('#more-teams').closest('details').open") is False


def test_many_accounts_stay_a_page(book: Book) -> None:
    book.seen("11-05 09:00", {number: (f"{number}.01", f"t{number % 40}.x") for number in range(1, 1001)})
    report = book.report(owners={f"t{number}.*": f"Team {number}" for number in range(40)})
    source = render(report, account="m")
    assert "800 more, in the tables" in source
    assert source.count("<tr>") < 300


def test_nothing_was_spent(book: Book) -> None:
    book.seen("11-05 09:00", {})
    source = render(book.report(budgets={"A": 5}), account="m")
    assert "0.0000" in source
    assert "nan" not in source.lower()


def test_rounding_is_half_up_and_leaves_a_rest() -> None:
    money = Money(2)
    assert [money(Decimal(text)) for text in ("0.005", "0.004999", "-0.005", "1234567.891")] == [
        "0.01",
        "0.00",
        "\N{MINUS SIGN}0.01",
        "1,234,567.89",
    ]
    assert money(None) == "–"
    parts = [Decimal("0.005"), Decimal("0.005"), Decimal("0.00000001")]
    assert money.rounding(parts, sum(parts, Decimal(0))) == Decimal("-0.01")
