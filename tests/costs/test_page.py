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
from airflow_provider_closeai.costs.render.page import Money, render

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
    book.note(sub_account_id=1, amount="-2.5", reason="<b>note</b>")
    clock.at = local("12-01 00:05")
    return book.report(
        owners={
            "search.*": "Search",
            "ads.*": {"team": "Ads & <i>Co</i>", "cost_center": "CC-7"},
            "old": "Nobody",
        },
        budgets={"Search": "150", "Ads & <i>Co</i>": "1000"},
    )


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
        LONG,
        "\N{MINUS SIGN}2.50 appended (manual): <b>note</b>",
        "renamed from 'trial' to 'ads.trial'",
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


def test_tables_add_up_as_shown(chrome: Browser, page: Path, report: Report) -> None:
    chrome.open(page)
    total = report.totals.month_to_date
    for table in ("owners", "accounts"):
        read = f"[...document.querySelectorAll('#{table} tbody data')].map(e => [e.value, e.innerText])"
        cells = chrome.value(read)
        assert sum(Decimal(value) for value, _ in cells) == total
        assert all(
            Decimal(shown.replace(",", "")) == Money(2).rounded(Decimal(value)) for value, shown in cells
        )
    shown = sum(Money(2).rounded(line.month_to_date) for line in report.owners)
    residue = chrome.value("document.querySelector('#residue').innerText")
    assert format(total - shown, "f") in residue
    days = chrome.value("[...document.querySelectorAll('#days tbody data')].map(e => e.value)")
    assert [Decimal(value) for value in days] == list(report.daily.values())


def test_bars_are_as_long_as_their_figures(chrome: Browser, page: Path, report: Report) -> None:
    chrome.open(page)
    owners = rectangles(chrome, "#owner-chart .bar")
    assert [Decimal(bar["amount"]) for bar in owners] == sorted(
        (line.month_to_date for line in report.owners), reverse=True
    )
    longest = owners[0]
    assert longest["width"] == rectangles(chrome, "#owner-chart .track")[0]["width"]
    for bar in owners:
        wanted = longest["width"] * float(Decimal(bar["amount"]) / Decimal(longest["amount"]))
        assert bar["width"] == pytest.approx(wanted, abs=0.5)
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
    budgets = rectangles(chrome, "#budget-chart rect[data-amount]")
    track = rectangles(chrome, "#budget-chart .track")
    search, ads = report.budgets
    assert budgets[0]["minus"]
    assert track[0]["width"] / budgets[0]["width"] == pytest.approx(
        float(search.budget / search.actual), abs=0.01
    )
    assert budgets[1]["width"] / track[1]["width"] == pytest.approx(float(ads.actual / ads.budget), abs=0.01)


def test_charts_can_be_read_without_seeing_them(chrome: Browser, page: Path) -> None:
    chrome.open(page)
    charts = chrome.value(
        """[...document.querySelectorAll('svg[role=img]')].map(chart =>
            chart.getAttribute('aria-labelledby').split(' ')
                .map(id => document.getElementById(id).textContent.trim().length > 10))"""
    )
    assert charts == [[True, True]] * 3
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


OVERLAPS = """[...document.querySelectorAll('.row')].flatMap(row => {
    const [label, value] = [...row.children].map(child => child.getBoundingClientRect());
    const whole = row.closest('svg').getBoundingClientRect();
    const isOff = box => box && (box.left < whole.left - 1 || box.right > whole.right + 1 || !box.width);
    return isOff(label) || isOff(value) || (value && label.right > value.left) ? [row.textContent] : [];
})"""


@pytest.mark.parametrize(("width", "media"), [(360, ""), (900, ""), (1280, ""), (690, "print")])
def test_long_names_and_amounts_do_not_meet(
    chrome: Browser, book: Book, tmp_path: Path, width: int, media: str
) -> None:
    names = [f"{letter * 2}ommercial Wholesale Machinery of Northwestern Europe" for letter in "WM"]
    book.seen("10-31 23:55", {1: "0", 2: "0"})
    book.seen("11-21 09:00", {1: ("98765432.10", "a"), 2: ("87654321.09", "b")})
    report = book.report(
        owners=dict(zip("ab", names, strict=True)), budgets=dict.fromkeys(names, "99999999.99")
    )
    page = tmp_path / "page.html"
    page.write_text(render(report, account="m"))
    chrome.open(page, width=width, is_mobile=width < 400)
    chrome.call("Emulation.setEmulatedMedia", media=media)
    assert "forecast over budget" in page.read_text()
    assert chrome.value("document.querySelectorAll('.row').length") == 6
    assert chrome.value(OVERLAPS) == []


def test_many_accounts_stay_a_page(book: Book) -> None:
    book.seen("11-05 09:00", {number: (f"{number}.01", f"t{number % 40}.x") for number in range(1, 1001)})
    report = book.report(owners={f"t{number}.*": f"Team {number}" for number in range(40)})
    source = render(report, account="m")
    assert "800 more, in the tables" in source
    assert "29 others" in source
    assert source.count("<tr>") < 300
    cells = re.findall(r'<data value="([\d.]+)">', source[source.index('id="accounts"') :])
    assert sum(map(Decimal, cells[:201])) == report.totals.month_to_date == Decimal(cells[201])


def test_nothing_was_spent(book: Book) -> None:
    book.seen("11-05 09:00", {})
    source = render(book.report(budgets={"A": 5}), account="m")
    assert "0.0000" in source
    assert "nan" not in source.lower()


def test_rounding_is_half_up_and_leaves_its_residue() -> None:
    money = Money(2)
    assert [money(Decimal(text)) for text in ("0.005", "0.004999", "-0.005", "1234567.891")] == [
        "0.01",
        "0.00",
        "\N{MINUS SIGN}0.01",
        "1,234,567.89",
    ]
    assert money(None) == "–"
    parts = [Decimal("0.005"), Decimal("0.005"), Decimal("0.00000001")]
    assert money.residue(parts, sum(parts, Decimal(0))) == Decimal("-0.00999999")
