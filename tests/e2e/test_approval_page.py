"""Airflow's approval form in a real browser: what an alias holds stays text, and the plan reads well."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from browser import Browser, browser, chromium
from deployment import Deployment, running, wait_until
from platforms import Platform
from worlds import needs_airflow

pytestmark = [
    *needs_airflow(3, 1, why="approvals came with 3.1"),
    pytest.mark.skipif(chromium() is None, reason="there is no browser"),
]
ODD = [
    "team|pipe|",
    "team [a link](https://evil.example/x)",
    "team ![an image](https://evil.example/x.png)",
    "team <img src=https://evil.example/y.png onerror=alert(1)>",
    "team <script>alert(1)</script>",
    "team `code` **bold** _it_",
    "team https://evil.example/bare",
    "team \\| backslash \\",
    "team-推荐-搜索",
    "team-é-👩‍🚀",
]
UNSEEN = "team-\u202eevil\u2066x"  # what marks of direction hide is written out


def write(deployment: Deployment, aliases: list[str]) -> None:
    tree = {
        "version": 1,
        "defaults": {"balance": 100, "model_pricing": {"gpt-4o": 1, "claude-sonnet-4": "0.5"}},
        "owns": ["team*"],
        "accounts": [{"alias": alias} for alias in aliases],
    }
    (deployment.home / "roster.yaml").write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


@pytest.fixture(scope="module")
def deployment() -> Iterator[tuple[Deployment, Platform]]:
    platform = Platform("roster", start=datetime.now(UTC), speed=1)
    with platform.simulator, running(platform.environment, "e2e_roster.py") as airflow:
        yield airflow, platform


@pytest.fixture
def page() -> Iterator[Browser]:
    with browser(chromium() or "") as found:
        yield found


def shown(airflow: Deployment, page: Browser, name: str) -> str:
    """Plan, and look at the form; returns its text."""
    run = airflow.trigger("e2e_approved")
    ends = ("awaiting_input", "deferred", "upstream_failed")
    wait_until(lambda: run.task("approve")["state"] in ends, "the question")
    path = f"dags/{run.dag_id}/runs/{run.run_id}/tasks/approve/required_actions"
    page.open(f"{airflow.url}/{path}", width=1600)
    page.wait("document.body.innerText.includes('to create')")
    if pictures := os.environ.get("CLOSEAI_PICTURES"):  # a folder, for eyes
        page.screenshot(Path(pictures) / f"{name}.png")
    return str(page.value("document.body.innerText"))


def rows(page: Browser) -> list[list[str]]:
    """Give the cells of the form's last table."""
    cells = "[...document.querySelectorAll('table')].pop().tBodies[0].rows"
    found: list[list[str]] = page.value(f"[...{cells}].map(r => [...r.cells].map(c => c.textContent))")
    return found


def test_what_an_alias_holds_stays_text(deployment: tuple[Deployment, Platform], page: Browser) -> None:
    airflow, platform = deployment
    sim = platform.simulator
    _, _, drifted = (sim.add_account(alias) for alias in (UNSEEN, "team-old", "team-推荐-搜索"))
    write(airflow, ODD)
    text = shown(airflow, page, "odd")
    assert "9 to create, 1 to reprice, 2 to delete" in text
    found = rows(page)
    wanted = {alias: alias for alias in ODD} | {
        "team \\| backslash \\": "team \\u005c| backslash \\",  # Markdown cannot say it in a table
        "team-é-👩‍🚀": "team-é-👩\\u200d🚀",
        UNSEEN: "team-\\u202eevil\\u2066x",
        "team-old": "team-old",
    }
    assert sorted(row[1] for row in found) == sorted(wanted.values())
    assert {len(row) for row in found} == {5}
    what = "gpt-3.5-turbo: 1 -> claude-sonnet-4: 0.5, gpt-4o: 1"
    assert ["reprice", "team-推荐-搜索", str(drifted["id"]), what, "drift"] in found
    form = "[...document.querySelectorAll('table')].pop().parentElement"
    assert page.value(f"{form}.innerText.includes('valid for 24 h')")
    assert page.value(f"{form}.querySelectorAll('a, img, script, iframe').length") == 0
    assert not [address for address in page.requested() if "evil.example" in address]
    for account in sim.accounts():
        sim.delete_account(account["id"])


def test_a_plan_of_many_changes_has_counts_and_its_deletions(
    deployment: tuple[Deployment, Platform], page: Browser
) -> None:
    airflow, platform = deployment
    aliases = [f"team-{number}" for number in range(230)]
    for alias in aliases:
        platform.simulator.add_account(alias)
    old = platform.simulator.add_account("team-old")
    write(airflow, aliases)
    text = shown(airflow, page, "many")
    assert "0 to create, 230 to reprice, 1 to delete" in text
    assert "These are 231 changes, more than 200" in text
    assert rows(page) == [["delete", "team-old", str(old["id"]), "", "pruned"]]
