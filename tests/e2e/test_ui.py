"""The page in Airflow's own UI: what it shows in a real browser, and whom it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from browser import NAMES, Browser, browser, chromium
from deployment import Deployment, running, wait_until
from platforms import Platform
from worlds import needs_airflow

pytestmark = needs_airflow(3, 1, why="Airflow frames a plugin's page since 3.1")
PAGE = "/closeai/"
SCRIPTS = ("<script>alert(1)</script>", "<script>alert(2)</script>")
FRAME = "document.querySelector('iframe')?.contentDocument"


class Office:
    """An Airflow with users, and the platform that its tasks ask."""

    def __init__(self, airflow: Deployment, platform: Platform) -> None:
        self.airflow, self.platform = airflow, platform

    def ask(
        self, path: str, user: str | None = None, method: str = "GET", **headers: str
    ) -> requests.Response:
        if user:
            headers["Authorization"] = f"Bearer {self.airflow.token(user)}"
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, self.airflow.url + path, headers=headers, timeout=60, allow_redirects=False
            )

    def run(self, *dag_ids: str, wanted: str = "success", **conf: Any) -> None:
        for run in [self.airflow.trigger(dag_id, **conf) for dag_id in dag_ids]:
            assert run.ended() == wanted, [
                (task["task_id"], task["state"], run.log(task["task_id"], 1)[-1500:]) for task in run.tasks()
            ]


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    platform = Platform("page", start=datetime.now(UTC), speed=1)
    users = {"admin": "admin", "viewer": "viewer", "nobody": ""}
    with platform.simulator, running(platform.environment, "e2e_page.py", users=users) as airflow:
        yield Office(airflow, platform)


@pytest.fixture(scope="module")
def window(office: Office) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with browser(program) as opened:
        token = office.airflow.token("viewer")
        opened.call("Network.setCookie", name="_token", value=token, url=office.airflow.url)
        yield opened


def test_without_anything_published_it_says_what_to_do(office: Office) -> None:
    answer = office.ask(PAGE, "viewer")
    assert answer.status_code == 200
    assert answer.text.count("Nothing has been published yet.") == 3
    assert "HealthSensor" in answer.text


def test_no_route_answers_who_may_not_read_assets(office: Office) -> None:
    """Each route of the app, also one that is added later; and where FastAPI has its schema and its docs."""
    from airflow_provider_closeai.plugins.page import make_app

    routes = [(method, route.path) for route in make_app().routes for method in route.methods]
    assert ("GET", "/") in routes
    for method, path in routes:
        path = PAGE + path.lstrip("/")
        assert office.ask(path, method=method).status_code == 401, path
        assert office.ask(path, method=method, Cookie="_token=forged.forged.forged").status_code == 403
        assert office.ask(path, "nobody", method).status_code == 403
        assert office.ask(path, "viewer", method).status_code == 200
    for name in ("openapi.json", "docs", "docs/oauth2-redirect", "redoc"):
        for user in (None, "nobody", "admin"):
            assert office.ask(PAGE + name, user).status_code == 404, name


def test_it_shows_what_tasks_published(office: Office, window: Browser) -> None:
    sim = office.platform.simulator
    for alias in ("team-a", *SCRIPTS[:1], "搜索团队"):
        sim.add_account(alias, monthly_cost="12.5")
    sim.stop_base(1)
    office.run("e2e_page", "e2e_page_plan")
    sent = len(sim.requests)

    window.open(office.airflow.url + "/plugin/closeai")
    window.wait(f"!!{FRAME}?.querySelector('.report')")
    text = window.value(f"{FRAME}.body.innerText")
    for base, health in zip(sim.base_urls, ("healthy", "not healthy"), strict=True):
        assert re.search(rf"{re.escape(base)}\s+{health}", text), text
    assert "Discovery was asked" in text
    assert re.search(r"Team A\W+over budget\s+1\s+12\.5\d+\s+1\.0000", text), text
    assert "搜索团队" in text
    assert SCRIPTS[0] in text  # an alias, in the plan
    assert SCRIPTS[1] + "\\u202eteam" in text  # a team
    assert window.value(f"{FRAME}.body.querySelectorAll('script').length") == 0
    assert "0 to create, 3 to reprice, 0 to delete" in text
    assert not [each for each in window.told() if "content security" in str(each).lower()]
    framed = office.ask(PAGE, "viewer").text
    assert len(sim.requests) == sent, "the page asked the platform"
    assert not [key for key in office.platform.secrets if key in framed]


def test_it_follows_airflows_theme_and_fits_a_phone(office: Office, window: Browser) -> None:
    paper = f"{FRAME}.defaultView.getComputedStyle({FRAME}.body).backgroundColor"
    for chosen, system, wanted in (
        ("dark", "light", "rgb(20, 22, 27)"),
        ("light", "dark", "rgb(246, 245, 242)"),
    ):
        window.open(office.airflow.url + "/plugin/closeai", scheme=system)
        window.value(f"localStorage.setItem('theme', '{chosen}')")
        window.open(office.airflow.url + "/plugin/closeai", scheme=system)
        window.wait(f"!!{FRAME}?.querySelector('main') && {paper} === '{wanted}'")
    for scheme, wanted in (("light", "rgb(246, 245, 242)"), ("dark", "rgb(20, 22, 27)")):
        window.open(office.airflow.url + PAGE, width=390, scheme=scheme, is_mobile=True)
        assert window.value("getComputedStyle(document.body).backgroundColor") == wanted
        assert window.value("document.documentElement.scrollWidth") <= 390


def test_it_is_in_the_navigation(office: Office, window: Browser) -> None:
    window.open(office.airflow.url + "/")
    click(window, "Browse")
    click(window, "CloseAI")
    window.wait("location.pathname === '/plugin/closeai'")
    window.wait("!!document.querySelector('iframe')")
    source = window.value("document.querySelector('iframe').src")
    assert urlsplit(source).path == PAGE


def test_a_failed_drift_check_is_seen(office: Office) -> None:
    office.run("e2e_page_plan", wanted="failed", strict=True)
    office.run("e2e_page_sync")
    text = office.ask(PAGE, "viewer").text
    plan, changes = text[text.index('<section class="plan">') :].split('<section class="changes">')
    assert "since then: failed" in plan
    assert "Last change, of connection page: 0 created, 3 repriced, 0 deleted" in changes


def click(window: Browser, text: str) -> None:
    """Click, as a person does, on what has this text."""
    place = (
        "(() => { const found = [...document.querySelectorAll('a, button, [role=menuitem]')]"
        f".find((each) => [each.innerText.trim(), each.getAttribute('aria-label')].includes('{text}'));"
        "if (!found) return null; const box = found.getBoundingClientRect();"
        "return box.width ? [box.x + box.width / 2, box.y + box.height / 2] : null; })()"
    )
    seen: list[Any] = [None]

    def still() -> Any:
        """Where it is, once it is where it was at the last look: a menu opens with a movement."""
        seen.append(window.value(place))
        return seen[-1] if seen[-1] == seen[-2] else None

    x, y = wait_until(still, f"{text} to click on", 60)
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        window.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
