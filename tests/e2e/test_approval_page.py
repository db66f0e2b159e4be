"""Airflow's approval form in a real browser: what an alias holds stays text, and the plan reads well."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__
from browser import Browser, browser, chromium
from deployment import Deployment, Run, running, wait_until
from platforms import Platform

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(__version__ < "3.1", reason="approvals came with 3.1"),
    pytest.mark.skipif(sys.platform != "linux", reason="the processes' keeper needs Linux"),
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


def asked(airflow: Deployment) -> Run:
    run = airflow.trigger("e2e_approved")
    wait_until(lambda: run.task("approve")["state"] in ("awaiting_input", "deferred"), "the question", 1200)
    return run


def show(airflow: Deployment, page: Browser, run: Run, name: str) -> Any:
    path = f"dags/{run.dag_id}/runs/{run.run_id}/tasks/approve/required_actions"
    page.open(f"{airflow.url}/{path}", width=1600)
    page.wait("document.body.innerText.includes('to create')")
    pictures = os.environ.get("CLOSEAI_PICTURES")
    if pictures:
        page.screenshot(Path(pictures) / f"{name}.png")
    return page


def test_what_an_alias_holds_stays_text(deployment: tuple[Deployment, Platform], page: Browser) -> None:
    airflow, platform = deployment
    for alias in (UNSEEN, "team-old"):
        platform.simulator.add_account(alias)
    platform.simulator.add_account("team-推荐-搜索")
    write(airflow, ODD)
    run = asked(airflow)
    show(airflow, page, run, "approval")
    print(page.value("document.body.innerText"))
    print(page.value("document.querySelector('main, #root').innerHTML")[:8000])
