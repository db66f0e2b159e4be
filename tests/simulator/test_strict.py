"""What the simulator refuses, and that it says which field, repeats no key and changes nothing."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.simulator.api import CALLS

ROOT = Path(__file__).parents[2]

GPT4 = {"model": "gpt-4", "pricing_factor": 1}
CREATE = {"alias": "a", "balance": 1, "model_pricing": [GPT4], "count": 1}
GONE = object()


def changed(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    return {name: item for name, item in {**body, field: value}.items() if item is not GONE}


BAD_FIELDS = [
    ("alias", GONE),
    ("alias", ""),
    ("alias", " "),
    ("alias", 5),
    ("alias", None),
    ("balance", GONE),
    ("balance", "1"),
    ("balance", True),
    ("balance", -1),
    ("balance", 0.123456789),
    ("balance", 1e30),
    ("count", "1"),
    ("count", 0),
    ("count", -1),
    ("count", 1.0),
    ("count", True),
    ("count", 1001),
    ("colour", "red"),
    ("model_pricing", GONE),
    ("model_pricing", {"gpt-4": 1}),
    ("model_pricing", ["gpt-4"]),
    ("model_pricing", [GPT4, GPT4]),
    ("model_pricing", [{"pricing_factor": 1}]),
    ("model_pricing", [{"model": ""}]),
    ("model_pricing", [{**GPT4, "price": 1}]),
    ("model_pricing", [{**GPT4, "pricing_factor": "1"}]),
    ("model_pricing", [{**GPT4, "pricing_factor": True}]),
    ("model_pricing", [{**GPT4, "pricing_factor": None}]),
    ("model_pricing", [{**GPT4, "pricing_factor": -0.1}]),
    ("model_pricing", [{**GPT4, "pricing_factor": 2, "auto_following": True}]),
    ("model_pricing", [{"model": "gpt-4"}]),
    ("model_pricing", [{"model": "gpt-4", "prompt_price": 0, "completion_price": 0}]),
    ("model_pricing", [{"model": "gpt-4", "prompt_price": 1, "auto_following": False}]),
    ("model_pricing", [{"model": "gpt-4", "prompt_price": "0", "auto_following": True}]),
    ("model_pricing", [{"model": "gpt-4", "auto_following": 1}]),
]


def names(cases: list[Any]) -> list[str]:
    return [f"{case[0]}-{number}" for number, case in enumerate(cases)]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=names(BAD_FIELDS))
def test_create_refuses(ask: Any, sim: Simulator, field: str, value: Any) -> None:
    reply = ask("create", changed(CREATE, field, value))
    assert reply.status == 400
    error = reply.json()["error"]
    assert field in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_parameter")
    assert sim.accounts() == []
    assert not sim.requests[0].executed


@pytest.mark.parametrize("field", ["alias", "balance", "model_pricing", "count"])
def test_the_unchanged_create_is_fine(ask: Any, sim: Simulator, field: str) -> None:
    assert ask("create", changed(CREATE, field, CREATE[field])).status == 200
    assert len(sim.accounts()) == 1


BAD_SKS: list[tuple[str, Any, int]] = [
    ("missing", GONE, 400),
    ("empty", [], 400),
    ("text", "sk-123456", 400),
    ("numbers", [1], 400),
    ("blank", [""], 400),
    ("many", ["sk-1234567"] * 1001, 400),
]


@pytest.mark.parametrize(("name", "sks", "status"), BAD_SKS, ids=[case[0] for case in BAD_SKS])
@pytest.mark.parametrize("call", ["update", "delete"])
def test_sks_are_checked(ask: Any, call: str, name: str, sks: Any, status: int) -> None:
    body = changed({} if call == "delete" else {"model_pricing": []}, "sks", sks)
    reply = ask(call, body)
    assert reply.status == status
    assert "sks" in reply.json()["error"]["message"]


def test_update_is_all_or_nothing(ask: Any, sim: Simulator) -> None:
    known = sim.add_account("a")
    unknown = "sk-" + "0" * 48
    reply = ask("update", {"sks": [known["token"], unknown], "alias": "b", "model_pricing": []})
    assert reply.status == 404
    assert "sks[1]" in reply.json()["error"]["message"]
    assert unknown not in reply.text
    assert sim.accounts() == [known]


@pytest.mark.parametrize("field", [("model_pricing", GONE), ("alias", ""), ("alias", None), ("balance", 1)])
def test_update_refuses(ask: Any, sim: Simulator, field: tuple[str, Any]) -> None:
    known = sim.add_account("a")
    body = {"sks": [known["token"]], "alias": "b", "model_pricing": [GPT4]}
    reply = ask("update", changed(body, *field))
    assert reply.status == 400
    assert field[0] in reply.json()["error"]["message"]
    assert sim.accounts() == [known]


def test_update_replaces_the_whole_list_of_every_sk(ask: Any, sim: Simulator) -> None:
    tokens = [sim.add_account(alias, [GPT4, {"model": "o3", "pricing_factor": 2}])["token"] for alias in "ab"]
    body = {"sks": tokens, "model_pricing": [{"model": "gpt-4o", "pricing_factor": 1.5}]}
    assert ask("update", body).text == '{"success":true}'
    assert [(found["alias"], found["model_pricing"]) for found in sim.accounts()] == [
        ("a", [{"model": "gpt-4o", "pricing_factor": 1.5}]),
        ("b", [{"model": "gpt-4o", "pricing_factor": 1.5}]),
    ]
    ask("update", {**body, "alias": "c"})
    assert [found["alias"] for found in sim.accounts()] == ["c", "c"]


@pytest.mark.parametrize("call", ["update", "delete"])
def test_only_sub_accounts_are_touched(ask: Any, sim: Simulator, call: str) -> None:
    fields: dict[str, Any] = {} if call == "delete" else {"model_pricing": []}
    slave, master = sim.add_account("a"), sim.add_account("m", token_type="master")
    for token in (master["token"], sim.key):
        reply = ask(call, {"sks": [slave["token"], token], **fields})
        assert reply.status == 400
        assert token not in reply.text
    assert sim.accounts() == [slave, master]


def test_delete_missing(ask: Any, sim: Simulator) -> None:
    first, second = sim.add_account("a")["token"], sim.add_account("b")["token"]
    assert ask("delete", {"sks": [first]}).json() == {"success": True}
    assert ask("delete", {"sks": [first]}).status == 200
    sim.settings.delete_missing = "error"
    assert ask("delete", {"sks": [second, first]}).status == 404
    assert len(sim.accounts()) == 1


@pytest.mark.parametrize(
    ("headers", "body", "word"),
    [
        ({}, "[]", "object"),
        ({}, "nonsense", "JSON"),
        ({}, b"\xff", "JSON"),
        ({}, '{"balance": NaN}', "JSON"),
        ({}, '{"balance": 1e99999999999999999999}', "JSON"),
        ({}, "[" * 100_000, "JSON"),
        ({}, '{"alias": "a", "alias": "b"}', "alias"),
        ({}, '{"alias": "\\ud800", "balance": 1, "model_pricing": []}', "alias"),
        ({"Content-Type": "text/plain"}, "{}", "Content-Type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "{}", "Content-Type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bodies(ask: Any, headers: dict[str, str], body: str, word: str) -> None:
    reply = ask("create", body, headers=headers)
    assert reply.status == 400
    assert word in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": -1},
        {"page": "x"},
        {"page": "1.0"},
        {"page": ""},
        {"page_size": 0},
        {"page_size": -2},
        {"page_size": "all"},
        {"pageSize": 10},
        {"limit": 1},
    ],
    ids=str,
)
def test_list_queries(ask: Any, query: dict[str, Any]) -> None:
    reply = ask("list", query=query)
    assert reply.status == 400
    assert next(iter(query)) in reply.json()["error"]["message"]


@pytest.mark.parametrize("call", ["links", "healthy", "create", "update", "delete", "billing"])
def test_other_calls_have_no_query(ask: Any, call: str) -> None:
    assert ask(call, {"sks": ["sk-1234"]}, query={"verbose": 1}).status == 400


@pytest.mark.parametrize("call", ["links", "list", "create", "update", "delete", "billing"])
def test_who_may(ask: Any, sim: Simulator, call: str) -> None:
    sub = sim.add_account("a")["token"]
    for key, status, who in ((None, 401, "none"), ("sk-wrong-key", 401, "other"), (sub, 403, "sub")):
        reply = ask(call, dict(CREATE), key=key)
        assert reply.status == status
        assert reply.json()["error"]["type"] == "invalid_request_error"
        assert key is None or key not in reply.text
        assert (sim.requests[-1].authorization, sim.requests[-1].executed) == (who, False)
    assert ask(call, key="sk-wrong-key").json()["error"]["code"] == "invalid_api_key"
    assert ask(call, headers={"Authorization": sim.key}, key=None).status == 401
    assert len(sim.accounts()) == 1


def test_healthy_needs_no_key(ask: Any, sim: Simulator) -> None:
    reply = ask("healthy", key=None)
    assert (reply.status, reply.text) == (200, "healthy")
    assert reply.headers["content-type"].startswith("text/plain")
    assert sim.requests[0].authorization == "none"


def test_paths_and_methods(ask: Any, sim: Simulator) -> None:
    assert ask("", path="/api/v1/nothing").status == 404
    assert ask("", path="/api/v1/links").status == 404, "links is on the discovery host only"
    assert ask("links", path="/api/v1/healthy").status == 404
    wrong = ask("create", method="PUT")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST, DELETE")
    assert ask("list", method="POST").status == 405
    assert [request.call for request in sim.requests] == ["unknown"] * 5
    assert "error" in wrong.json()


def test_limits(ask: Any, sim: Simulator) -> None:
    sim.settings.max_count = 2
    assert ask.create(count=2).status == 200
    assert ask.create(count=3).status == 400
    sim.settings.max_sks = 1
    tokens = [account["token"] for account in sim.accounts()]
    assert ask("delete", {"sks": tokens}).status == 400
    assert len(sim.accounts()) == 2


def test_unique_alias(ask: Any, sim: Simulator) -> None:
    sim.settings.unique_alias = True
    assert ask.create("a").status == 200
    for reply in (ask.create("a"), ask.create("b", count=2)):
        assert reply.status == 400
    assert ask.create("b").status == 200
    first, second = (account["token"] for account in sim.accounts())
    assert ask("update", {"sks": [first], "alias": "a", "model_pricing": []}).status == 200
    assert ask("update", {"sks": [first], "alias": "b", "model_pricing": []}).status == 400
    assert ask("update", {"sks": [first, second], "alias": "c", "model_pricing": []}).status == 400


@pytest.mark.parametrize(
    "text", ["0", "1", "1.2", "0.1234567890123456789", "1e-7", "1.50", "12345678901234567890"]
)
def test_factors_read_back_as_the_same_number(ask: Any, text: str) -> None:
    body = f'{{"alias":"a","balance":0.1,"model_pricing":[{{"model":"gpt-4","pricing_factor":{text}}}]}}'
    made = ask("create", body)
    for reply in (made, ask("list")):
        [item] = reply.json(parse_float=Decimal)["items"]
        assert item["model_pricing"][0]["pricing_factor"] == Decimal(text)
        assert item["balance"] == "0.1"


def test_old_prices(ask: Any, sim: Simulator) -> None:
    old = {"prompt_price": 0, "completion_price": 0}
    pricing = [{"model": "a", **old, "auto_following": True}, {"model": "b", **old, "pricing_factor": 2}]
    [item] = ask.create(model_pricing=pricing).json()["items"]
    assert item["model_pricing"] == [{"model": "a", "pricing_factor": 1}, {"model": "b", "pricing_factor": 2}]
    seeded = sim.add_account("old", [{"model": "c", **old, "auto_following": False}])
    assert seeded["model_pricing"] == [{"model": "c", **old, "auto_following": False}]
    assert ask("list").json()["items"][1]["model_pricing"] == seeded["model_pricing"]


def test_rate_limits(client_of: Callable[[Simulator], Any]) -> None:
    with Simulator(rate_limits={"links": (2, 60), "healthy": (1, 60)}) as sim:
        ask = client_of(sim)
        assert [ask("links").status for _ in range(3)] == [200, 200, 429]
        assert [ask("healthy", base=base).status for base in (0, 0, 1)] == [200, 429, 200]
        reply = ask("links")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert not sim.requests[-1].executed


def test_a_body_needs_its_length(sim: Simulator) -> None:
    connection = http.client.HTTPConnection(urlsplit(sim.base_urls[0]).netloc, timeout=10)
    connection.putrequest("POST", "/api/v1/account/sub-account/token")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_every_call_is_in_the_documents() -> None:
    listed = (ROOT / "docs/simulator.md").read_text().partition("The calls are ")[2].partition(";")[0]
    assert re.findall(r"`([a-z]+)`", listed) == list(CALLS[:-1])
