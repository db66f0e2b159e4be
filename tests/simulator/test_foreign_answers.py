"""Answers that are not the platform's, or not in its usual form: what comes, and whether work was done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Simulator

FORMS = {"html": "text/html", "empty": None, "text": "text/plain", "json": "application/json"}


def says_something(text: str) -> bool:
    """Whether an answer is in the platform's form: JSON with a message for a person."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and bool({"error", "message", "detail"} & found.keys())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 429, 451, 499])
def test_foreign(ask: Any, sim: Simulator, form: str, status: int) -> None:
    sim.fault("create", "foreign", status=status, form=form)
    reply = ask.create()
    assert reply.status == status
    assert (reply.headers.get("content-type") or "none").startswith(FORMS[form] or "none")
    assert not says_something(reply.text)
    assert bool(reply.text) == (form != "empty")
    assert sim.accounts() == []
    assert (sim.requests[0].status, sim.requests[0].executed) == (status, False)
    assert ask.create().status == 200


@pytest.mark.parametrize("call", ["links", "healthy", "list", "update", "delete", "billing"])
def test_foreign_is_a_403_page_by_default_and_asks_for_no_key(ask: Any, sim: Simulator, call: str) -> None:
    sim.fault(call, "foreign")
    reply = ask(call, key=None)
    assert (reply.status, "<html>" in reply.text) == (403, True)


@pytest.mark.parametrize("form", ["platform", "html", "empty"])
def test_rate_limit_forms(ask: Any, sim: Simulator, form: str) -> None:
    sim.fault("create", "rate_limit", form=form, retry_after=7)
    reply = ask.create()
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")
    assert says_something(reply.text) == (form == "platform")
    assert ("<html>" in reply.text, reply.text == "") == (form == "html", form == "empty")
    assert sim.accounts() == []
    sim.fault("create", "rate_limit", form=form)
    assert "retry-after" not in ask.create().headers


@pytest.mark.parametrize(
    ("form", "body"),
    [("success", {"success": False, "message": "没钱了"}), ("error", {"error": {"message": "没钱了"}})],
)
@pytest.mark.parametrize("call", ["list", "create", "update", "delete", "links"])
def test_decline(ask: Any, sim: Simulator, call: str, form: str, body: Any) -> None:
    [account] = [sim.add_account("a")]
    sim.fault(call, "decline", message="没钱了", form=form)
    reply = ask(
        call,
        {
            "create": {"alias": "b", "balance": 1, "model_pricing": []},
            "update": {"sks": [account["token"]], "model_pricing": []},
            "delete": {"sks": [account["token"]]},
        }.get(call),
    )
    assert (reply.status, reply.json()) == (200, body)
    assert sim.accounts() == [account]
    assert not sim.requests[0].executed


@pytest.mark.parametrize(("made", "found"), [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_a_declined_create_may_be_partial(ask: Any, sim: Simulator, made: int, found: int) -> None:
    sim.fault("create", "decline", made=made)
    assert ask.create(count=3).json()["success"] is False
    assert len(sim.accounts()) == found
    assert sim.requests[0].executed == bool(found)


def test_a_partial_decline_refuses_as_ever(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "decline", made=1, times=2)
    assert ask.create(count=0).status == 400
    assert ask("create", {}, key="sk-wrong").status == 401
    assert sim.accounts() == []


@pytest.mark.parametrize("call", ["links", "healthy", "list", "create", "billing"])
def test_bom(ask: Any, sim: Simulator, call: str) -> None:
    body = {"alias": "a", "balance": 1, "model_pricing": []} if call == "create" else None
    sim.add_account("b")
    sim.fault(call, "bom")
    reply, usual = ask(call, body), ask(call, body)
    assert reply.text[0] == "\ufeff"
    assert (reply.status, reply.headers["content-type"]) == (200, usual.headers["content-type"])
    if call == "create":
        assert len(sim.accounts()) == 3
        assert json.loads(reply.text[1:])["items"][0]["token"] == sim.accounts()[1]["token"]
    else:
        assert reply.text[1:] == usual.text


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("foreign", {"status": 399}, "status must be a whole number from 400 to 499, not 399"),
        ("foreign", {"status": 500}, "from 400 to 499"),
        ("foreign", {"status": "403"}, "from 400 to 499"),
        ("foreign", {"form": "xml"}, "form must be one of html, empty, text, json, not 'xml'"),
        ("rate_limit", {"form": "text"}, "form must be one of platform, html, empty"),
        ("rate_limit", {"retry_after": "7\r\nX: y"}, "retry_after must be"),
        ("decline", {"form": "html"}, "form must be one of success, error"),
        ("decline", {"made": -1}, "made must be a whole number of at least 0"),
        ("decline", {"message": None}, "message must be a text"),
        ("late", {"seconds": -1}, "seconds must be"),
        ("late", {"seconds": float("nan")}, "seconds must be"),
        ("hang", {"work": 1}, "work must be true or false"),
        ("bom", {"form": "x"}, "bom has no option form; it has none"),
        ("redirect", {"to": "http://h\r\nX: y"}, "to must be"),
    ],
    ids=str,
)
def test_options_are_checked_at_once(sim: Simulator, kind: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sim.fault("create", kind, **options)


@pytest.mark.parametrize("field", ["times", "skip"])
def test_times_and_skip_are_checked(sim: Simulator, field: str) -> None:
    for value in (-1, "1", True, 1.5):
        options: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match=f"{field} must be a whole number"):
            sim.fault("create", "bom", **options)


def test_made_is_of_create_only(sim: Simulator) -> None:
    with pytest.raises(ValueError, match="call create only"):
        sim.fault("update", "decline", made=1)
