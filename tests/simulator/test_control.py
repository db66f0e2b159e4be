"""The control interface: what it does, and how it answers what it cannot do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.simulator.api import ROUTES
from airflow_provider_closeai.simulator.control import ACTIONS, PREFIX, Action
from airflow_provider_closeai.simulator.fault_kinds import KINDS

Control = Callable[..., Any]


@pytest.fixture
def control(ask: Any) -> Control:
    def send(method: str, name: str, body: Any = None) -> Any:
        return ask("", body, method=method, path=f"/_simulator/{name}", key=None)

    return send


def test_control(ask: Any, sim: Simulator, control: Control) -> None:
    token = ask.create("a").json()["items"][0]["token"]
    ask("list", query={"sk": token})
    state = control("GET", "state")
    assert state.json()["counts"] == {"create": 1, "list": 1}
    assert state.json()["clock"] == "2026-11-24T09:00:00.000000+08:00"
    assert [account["alias"] for account in state.json()["accounts"]] == ["a"]
    requests = control("GET", "requests")
    assert [request["call"] for request in requests.json()] == ["create", "list"]
    assert requests.json()[1]["query"] == {"sk": "sk-…" + token[-4:]}
    assert "token" not in state.json()["accounts"][0]
    for reply in (state, requests):
        assert token not in reply.text
        assert sim.key not in reply.text
    assert control("POST", "faults", {"call": "list", "kind": "error_before", "times": None}).status == 200
    assert ask("list").status == 500
    assert control("DELETE", "faults").status == 200
    assert ask("list").status == 200
    assert control("POST", "clock", {"advance_seconds": 3600}).json()["clock"].startswith("2026-11-24T10:00")
    assert control("POST", "bases", {"index": 0, "up": False}).status == 200
    with pytest.raises(ConnectionRefusedError):
        ask("list")
    assert control("POST", "bases", {"index": 0, "up": True}).status == 200
    assert ask("list").status == 200
    assert control("POST", "settings", {"max_count": 5, "rate_limits": {"links": [1, 60]}}).status == 200
    assert (sim.settings.max_count, sim.settings.rate_limits) == (5, {"links": (1, 60)})


def test_new_faults_over_http(ask: Any, sim: Simulator, control: Control) -> None:
    assert (
        control("POST", "faults", {"call": "list", "kind": "foreign", "status": 404, "form": "empty"}).status
        == 200
    )
    assert (ask("list").status, ask("list").status) == (404, 200)
    wanted = {"call": "create", "kind": "decline", "message": "no", "made": 1, "base": 1}
    assert control("POST", "faults", wanted).status == 200
    assert ask("create", {"alias": "a", "balance": 1, "model_pricing": [], "count": 2}, base=1).json() == {
        "success": False,
        "message": "no",
    }
    assert len(sim.accounts()) == 1


def test_bases_over_http(ask: Any, sim: Simulator, control: Control) -> None:
    before = sim.base_urls
    assert control("POST", "bases", {"index": 0, "swallow": True}).status == 200
    with pytest.raises(TimeoutError):
        socket.create_connection((urlsplit(before[0]).hostname, urlsplit(before[0]).port), timeout=0.2)
    assert control("POST", "bases", {"index": 0, "up": True}).status == 200
    assert ask("healthy").text == "healthy"
    assert control("POST", "bases", {"move": True}).status == 200
    assert not set(sim.base_urls) & set(before)
    assert ask("healthy").text == "healthy"


def test_spoil_over_http(ask: Any, sim: Simulator, control: Control) -> None:
    number = sim.add_account("a")["id"]
    assert control("POST", "spoil", {"account_id": number, "field": "token", "raw": "null"}).status == 200
    assert ask("list").json()["items"][0]["token"] is None
    assert control("POST", "spoil", {"account_id": number, "field": "token", "raw": None}).status == 200
    assert ask("list").json()["items"] == sim.accounts()


@pytest.mark.parametrize("name", ["", "nothing"])
def test_the_controls_are_listed(control: Control, name: str) -> None:
    reply = control("GET", name)
    if name:
        assert reply.status == 404
        assert all(f"/_simulator/{each}" in reply.text for each in ("faults", "clock", "bases", "spoil"))
        return
    assert reply.status == 200
    rows = {(row["method"], row["path"]): row for row in reply.json()}
    assert len(rows) == len(reply.json()) >= 9
    assert all(row["does"] for row in rows.values())
    assert "advance_seconds" in rows["POST", "/_simulator/clock"]["body"]


def test_a_wrong_method_is_told_the_right_one(control: Control) -> None:
    reply = control("GET", "faults")
    assert (reply.status, reply.headers["allow"]) == (405, "POST, DELETE")


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("faults", {"kind": "hang"}, ["call is missing", '"kind": "cut_after"']),
        ("faults", {"call": "list"}, ["kind is missing", "POST /_simulator/faults takes"]),
        (
            "faults",
            {"call": "list", "kind": "explode"},
            ["kind must be one of hang, cut_", "'explode'"],
        ),
        ("faults", {"call": "list", "kind": ["hang"]}, ["kind must be a text"]),
        ("faults", {"call": "lists", "kind": "hang"}, ["call must be * or one of links, healthy"]),
        ("faults", {"call": "list", "kind": "hang", "second": 1}, ["no option second", "seconds, work"]),
        ("faults", {"call": "list", "kind": "hang", "self": 1}, ["self"]),
        ("faults", {"call": "list", "kind": "hang", "seconds": "1"}, ["seconds must be seconds, 0 or more"]),
        ("faults", {"call": "list", "kind": "hang", "base": "0"}, ["no base '0'", "0 to 1"]),
        ("faults", {"call": "list", "kind": "hang", "base": True}, ["no base True"]),
        ("faults", {"call": "list", "kind": "hang", "times": -1}, ["times must be a whole number"]),
        ("faults", {"call": "list", "kind": "foreign", "form": "pdf"}, ["form must be one of html, empty"]),
        ("clock", {"advance_seconds": -1}, ["advance_seconds must be seconds, 0 or more, not -1"]),
        ("clock", {"advance_seconds": 1e300}, ["9999"]),
        ("clock", {"advance_seconds": 9e11}, ["9999"]),
        ("clock", {"advance_seconds": 1, "days": 1}, ["no field days"]),
        ("clock", {}, ["advance_seconds is missing", '{"advance_seconds": 86400}']),
        ("bases", {}, ["index is missing", '{"move": true}']),
        ("bases", {"index": 9, "up": True}, ["no base 9", "0 to 1"]),
        ("bases", {"index": 0}, ["up is missing"]),
        ("bases", {"index": 0, "up": "no"}, ["up must be true or false"]),
        ("bases", {"index": 0, "up": False, "more": 1}, ["no field more"]),
        ("bases", {"index": 0, "swallow": False}, ["swallow must be true"]),
        ("bases", {"index": 0, "move": True}, ["no field index"]),
        ("spoil", {"account_id": 1, "field": "token"}, ["raw is missing"]),
        ("spoil", {"account_id": 1, "field": "token", "raw": "null"}, ["no account 1"]),
        ("spoil", {"account_id": "1", "field": "token", "raw": None}, ["account_id must be"]),
        ("settings", {"max_count": 5, "nothing": 1}, ["no setting 'nothing'", "list_lag"]),
        ("settings", {"max_count": 0}, ["setting max_count must be a whole number of at least 1, not 0"]),
        ("settings", {"total_counts": "most"}, ["filtered, all, page"]),
        ("settings", {"rate_limits": {"list": [1, 2]}}, ["links and healthy"]),
        ("settings", {"rate_limits": [1]}, ["must be like"]),
        ("settings", {"main_usage": 0.1}, ["main_usage must be"]),
        ("settings", "[1]", ["the body must be a JSON object"]),
        ("settings", "nonsense", ["the body is not JSON"]),
        ("settings", b"\xff", ["the body is not JSON"]),
        ("settings", "[" * 100_000, ["the body is not JSON"]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_control_says_what_is_wrong(ask: Any, sim: Simulator, name: str, body: Any, words: list[str]) -> None:
    before = (sim.base_urls, sim.clock.now())
    reply = ask("", body, method="POST", path=f"/_simulator/{name}")
    assert reply.status == 400
    message = reply.json()["error"]["message"]
    assert not [word for word in words if word not in message], message
    assert sim.settings.max_count == 1000
    assert sim.requests == []
    assert (sim.base_urls, sim.clock.now()) == before
    assert [ask("list", base=base).status for base in (0, 1)] == [200, 200]


def test_the_page_names_everything(sim: Simulator) -> None:
    page = (Path(__file__).parents[2] / "docs/simulator.md").read_text(encoding="utf-8")
    named = {*KINDS, *(field.name for field in fields(sim.settings)), *(route.call for route in ROUTES)}
    named |= {f"{action.method} {action.path}" for action in ACTIONS}
    options = {field.name for kind in KINDS.values() for field in fields(kind)}
    assert not [name for name in named | options if f"`{name}`" not in page]


def test_the_page_shows_bodies_that_work(sim: Simulator, control: Control) -> None:
    page = (Path(__file__).parents[2] / "docs/simulator.md").read_text(encoding="utf-8")
    sim.add_account("a")
    rows = re.findall(r"^\|(?: `(\w+) /_simulator/(\w*)`)? \|(?: `(\{.*?\})`)? \|", page, re.MULTILINE)
    assert len(rows) == len(ACTIONS) + 2
    method = name = ""
    for method_shown, name_shown, body in rows:
        if method_shown:
            method, name = method_shown, name_shown
        assert control(method, name, body or None).status == 200, (name, body)


@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_the_bodies_that_the_list_shows_work(sim: Simulator, control: Control, action: Action) -> None:
    sim.add_account("a")
    for body in re.findall(r"\{.*?\}", action.body) or [None]:
        assert control(action.method, action.path.removeprefix(PREFIX), body).status == 200, body
