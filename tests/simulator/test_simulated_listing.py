"""Lag, filters, pages, and what the simulator tells of itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Request, Simulator

LONG = 3600


def seed(sim: Simulator, *aliases: str) -> None:
    for alias in aliases:
        sim.add_account(alias)


def test_pages(ask: Any, sim: Simulator) -> None:
    seed(sim, *(f"a{number:02d}" for number in range(25)))
    pages = [ask("list", query={"page": page, "page_size": 10}).json() for page in (1, 2, 3, 4)]
    assert [len(page["items"]) for page in pages] == [10, 10, 5, 0]
    assert {(page["total"], page["pageSize"]) for page in pages} == {(25, 10)}
    assert [page["page"] for page in pages] == [1, 2, 3, 4]
    assert [item for page in pages for item in page["items"]] == sim.accounts()
    assert len(ask("list").json()["items"]) == 10
    everything = ask("list", query={"page_size": -1}).json()
    assert (len(everything["items"]), everything["pageSize"]) == (25, -1)
    assert ask("list", query={"page_size": -1, "page": 2}).json()["items"] == []


@pytest.mark.parametrize("size", [-1, 10])
def test_max_page_size(ask: Any, sim: Simulator, size: int) -> None:
    seed(sim, *"abcde")
    sim.settings.max_page_size = 2
    reply = ask("list", query={"page": 2, "page_size": size}).json()
    assert [item["alias"] for item in reply["items"]] == ["c", "d"]
    assert (reply["pageSize"], reply["total"]) == (2, 5)


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("exact", ["team"]),
        ("substring", ["team", "team-b", "my team"]),
        ("ignored", ["team", "team-b", "my team", "x"]),
    ],
)
def test_alias_filter(ask: Any, sim: Simulator, mode: Any, found: list[str]) -> None:
    seed(sim, "team", "team-b", "my team", "x")
    sim.settings.alias_filter = mode
    assert ask.listed(alias="team") == found
    assert len(ask.listed(alias="")) == 4


def test_sk_filter(ask: Any, sim: Simulator) -> None:
    seed(sim, "a", "b")
    token = sim.accounts("b")[0]["token"]
    assert ask.listed(sk=token) == ["b"]
    assert ask.listed(sk=token, alias="a") == []
    assert ask.listed(sk="sk-unknown") == []


def test_totals_and_order(ask: Any, sim: Simulator) -> None:
    seed(sim, "a", "b", "c")
    assert ask("list", query={"alias": "a"}).json()["total"] == 1
    sim.settings.total_counts = "all"
    assert ask("list", query={"alias": "a"}).json()["total"] == 3
    sim.settings.order = "newest"
    assert ask.listed() == ["c", "b", "a"]
    sim.settings.omit_total = True
    assert set(ask("list").json()) == {"items", "page", "pageSize"}


@pytest.mark.parametrize(("page", "total"), [(1, 2), (2, 2), (3, 1), (4, 0)])
def test_a_total_of_the_page(ask: Any, sim: Simulator, page: int, total: int) -> None:
    seed(sim, *"abcde")
    sim.settings.total_counts = "page"
    reply = ask("list", query={"page": page, "page_size": 2}).json()
    assert (reply["total"], len(reply["items"])) == (total, total)


def test_masked_keys(ask: Any, sim: Simulator) -> None:
    sim.settings.mask_tokens = True
    [made] = ask.create("a").json()["items"]
    [true] = sim.accounts()
    assert made["token"] == true["token"]
    [listed] = ask("list").json()["items"]
    assert listed["token"] == f"{true['token'][:6]}****{true['token'][-4:]}"
    assert {**listed, "token": true["token"]} == true
    assert list(listed) == list(true)
    assert len(ask.listed(sk=true["token"])) == 1
    assert ask.listed(sk=listed["token"]) == []
    assert ask("delete", {"sks": [listed["token"]]}).json() == {"success": True}
    assert sim.accounts() == [true]
    sim.settings.mask_tokens = False
    assert ask("list").json()["items"] == [true]


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("token", "null"),
        ("token", '""'),
        ("balance", '""'),
        ("monthly_cost", "1e5"),
        ("alias", r'"\ud83d"'),
        ("alias", '"\ud83d"'),
        ("model_pricing", "null"),
        ("model_pricing", '[{"model":"a","pricing_factor":0.30000000000000004}]'),
        ("enabled", '"yes"'),
        ("id", '"1"'),
    ],
)
def test_spoiled_fields(ask: Any, sim: Simulator, field: str, raw: str) -> None:
    factor = {"model": "b", "pricing_factor": 0.1}
    seed(sim, "a", "c")
    bad = sim.add_account("b", [factor], balance="0.10000001")
    before, true = ask("list").text, sim.accounts()
    sim.spoil(bad["id"], field, raw)
    reply = ask("list").text
    expected = raw.replace("\ud83d", r"\ud83d")
    assert f'"{field}":{expected}' in reply
    first, second, third = json.loads(reply)["items"]
    assert [first, second] == true[:2]
    assert third == {**bad, field: json.loads(raw)}
    assert list(third) == list(bad)
    assert sim.accounts() == true
    assert len(ask.listed(alias="b", sk=bad["token"])) == 1
    sim.spoil(bad["id"], field, None)
    sim.spoil(bad["id"], field, None)
    assert ask("list").text == before


def test_several_fields_of_several_accounts(ask: Any, sim: Simulator) -> None:
    seed(sim, "a", "b")
    first, second = (account["id"] for account in sim.accounts())
    sim.settings.mask_tokens = True
    sim.spoil(first, "token", "null")
    sim.spoil(first, "balance", "[]")
    sim.spoil(second, "alias", "7")
    one, two = ask("list").json()["items"]
    assert (one["token"], one["balance"], two["alias"]) == (None, [], 7)
    assert "****" in two["token"]


@pytest.mark.parametrize(
    ("field", "raw", "message"),
    [
        ("colour", "null", "field must be one of id, user_id, token"),
        ("token", "nonsense", "raw must be JSON text"),
        ("token", "", "raw must be JSON text"),
        ("token", 5, "raw must be JSON text"),
    ],
)
def test_spoil_refuses(ask: Any, sim: Simulator, field: str, raw: Any, message: str) -> None:
    seed(sim, "a")
    number = sim.accounts()[0]["id"]
    with pytest.raises(ValueError, match=message):
        sim.spoil(number, field, raw)
    with pytest.raises(KeyError, match="no account 99"):
        sim.spoil(99, "token", "null")
    assert ask("list").json()["items"] == sim.accounts()


def test_amounts_as_numbers(ask: Any, sim: Simulator) -> None:
    sim.add_account("a", balance="0.10000001", monthly_cost="3")
    sim.settings.amounts_as_numbers = True
    [item] = ask("list").json(parse_float=str, parse_int=str)["items"]
    assert (item["balance"], item["monthly_cost"]) == ("0.10000001", "3")
    assert '"balance":0.10000001,' in ask("list").text


def test_lag_hides_creates_updates_and_deletes(ask: Any, sim: Simulator) -> None:
    seed(sim, "doomed", "seeded")
    sim.settings.list_lag = LONG
    doomed, kept = sim.accounts()
    [item] = ask.create("new").json()["items"]
    ask("update", {"sks": [kept["token"]], "alias": "renamed", "model_pricing": []})
    ask("delete", {"sks": [doomed["token"]]})
    assert ask.listed() == ["doomed", "seeded"]
    assert ask.listed(alias="seeded") == ["seeded"]
    assert ask.listed(alias="renamed") == []
    assert ask.listed(sk=item["token"]) == []
    assert [account["alias"] for account in sim.accounts()] == ["renamed", "new"]
    sim.settings.list_lag = 0
    assert ask.listed() == ["renamed", "new"]


def test_lag_ends_by_itself(ask: Any, sim: Simulator) -> None:
    sim.settings.list_lag = 0.2
    started = time.monotonic()
    token = ask.create("a").json()["items"][0]["token"]
    if time.monotonic() - started < 0.15:
        assert ask.listed() == []
    while not ask.listed():
        assert time.monotonic() - started < 10
    assert time.monotonic() - started >= 0.2
    ask("delete", {"sks": [token]})
    deleted = time.monotonic()
    while ask.listed():
        assert time.monotonic() - deleted < 10
    assert time.monotonic() - deleted >= 0.15


def test_bases_share_one_state(ask: Any) -> None:
    ask.create("a", count=3)
    assert len(ask("list", base=1).json()["items"]) == 3


def test_links(ask: Any, client_of: Callable[[Simulator], Any]) -> None:
    with Simulator(bases=4) as sim:
        ask = client_of(sim)
        sim.set_status(1, "down")
        links = ask("links").json()
        assert [link["api"] for link in links] == sim.base_urls
        assert [link["priority"] for link in links] == [10, 5, 1, 0]
        assert [link["status"] for link in links] == ["ok", "down", "ok", "ok"]
        sim.set_links([{"api": "http://127.0.0.1:1", "desc": "", "priority": 3, "status": "ok"}])
        assert ask("links").json()[0]["priority"] == 3
        sim.set_links(None)
        assert len(ask("links").json()) == 4


def test_requests_are_noted_without_the_key(ask: Any, sim: Simulator) -> None:
    ask.create("a", unknown=1)
    ask.create("a")
    ask("list", base=1, query={"alias": "a", "page": 1}, headers={"X-Trace": "7"})
    first, second, third = sim.requests
    assert (first.status, first.executed, second.status, second.executed) == (400, False, 200, True)
    assert second.body == {
        "alias": "a",
        "balance": 1,
        "model_pricing": [{"model": "gpt-4", "pricing_factor": 1}],
    }
    assert (third.host, third.call, third.method) == ("base-1", "list", "GET")
    assert third.path == "/api/v1/account/sub-account/list"
    assert third.query == {"alias": "a", "page": "1"}
    assert (third.authorization, third.headers_seen["x-trace"], third.body) == ("main", "7", None)
    assert sim.key not in repr(sim.requests)
    assert (sim.count("create"), sim.count("list"), sim.count("list", base=0)) == (2, 1, 0)


def test_on_request_may_change_the_state(ask: Any, sim: Simulator) -> None:
    seed(sim, "a", "b")

    def hook(request: Request) -> None:
        assert request.status is None
        sim.delete_account(sim.accounts()[0]["id"])
        sim.add_account("c")

    sim.on_request = hook
    assert ask.listed() == ["b", "c"]
    sim.on_request = None
    assert ask.listed() == ["b", "c"]


def test_a_failing_hook_is_seen(ask: Any, sim: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    def hook(request: Request) -> None:
        raise OSError("of the hook")

    sim.on_request = hook
    assert ask("list").status == 500
    assert "of the hook" in capsys.readouterr().err


def test_seed_makes_it_repeatable() -> None:
    def told(seed: int | None) -> tuple[str, Any]:
        sim = Simulator(seed=seed)
        sim.add_account("a")
        sim.clock.advance(days=1)
        return sim.key, sim.accounts()

    assert told(1) == told(1)
    assert told(1) != told(2)
    assert told(None) != told(None)
    assert len(told(None)[0]) == len("sk-main-") + 40


def test_settings_are_checked(sim: Simulator) -> None:
    with pytest.raises(TypeError, match="lag"):
        Simulator(lag=1)
    with pytest.raises(AttributeError, match="list_lag"):
        sim.settings.lag = 1
    for name, value in (("alias_filter", "fuzzy"), ("list_lag", -1), ("max_count", "1"), ("main_usage", 0.1)):
        with pytest.raises(ValueError, match=name):
            setattr(sim.settings, name, value)


def test_many_clients_at_once(ask: Any, sim: Simulator) -> None:
    start = threading.Barrier(16)

    def work(number: int) -> None:
        start.wait()
        for _ in range(5):
            assert ask.create(f"t{number}", unknown=1).status == 400
            assert ask.create(f"t{number}", count=3).status == 200
            token = sim.accounts(f"t{number}")[0]["token"]
            assert ask("delete", {"sks": [token]}, base=1).status == 200

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(sim.accounts()) == 16 * 5 * 2
    assert len({account["token"] for account in sim.accounts()}) == 160
    assert len({account["id"] for account in sim.accounts()}) == 160
    assert json.dumps(sim.accounts())
