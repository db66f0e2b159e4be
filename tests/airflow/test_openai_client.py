"""``get_openai_client``: the right key, on the base that is healthy now, and the key shown nowhere."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_closeai.client.errors import CloseAIError, ConfigError, InvalidParameter, MaskedKeys
from airflow_provider_closeai.hooks.closeai import CloseAIHook
from airflow_provider_closeai.provisioning.errors import MissingAccounts
from airflow_provider_closeai.simulator import Simulator

if TYPE_CHECKING:
    import openai  # a second for each process of the tests

PRICES = [{"model": "gpt-4", "pricing_factor": 1}]


def ask(client: openai.OpenAI) -> str | None:
    message: Any = {"role": "user", "content": "hello"}
    return client.chat.completions.create(model="gpt-4", messages=[message]).choices[0].message.content


def spent(sim: Simulator) -> list[int]:
    return [account["id"] for account in sim.accounts() if account["monthly_cost"] != "0"]


@pytest.fixture
def sim(closeai_connection: Simulator) -> Simulator:
    return closeai_connection


def add(sim: Simulator, alias: str = "team", prices: Any = PRICES, **fields: Any) -> dict[str, Any]:
    account = sim.add_account(alias, prices, **fields)
    sim.set_rate(account["id"], 0)
    return account


def test_the_newest_account_that_can_be_used(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    add(sim, created_at="2026-01-01T00:00:00+08:00")
    newer = add(sim, created_at="2026-02-01T00:00:00+08:00")
    add(sim, prices=[], created_at="2026-03-01T00:00:00+08:00")  # suspended
    add(sim, enabled=False, created_at="2026-04-01T00:00:00+08:00")
    add(sim, "team2"), add(sim, "Team")
    client = CloseAIHook().get_openai_client(alias="team", max_retries=0)
    assert ask(client) == "hello"
    assert spent(sim) == [newer["id"]]
    assert caplog.text, "nothing was logged at DEBUG, so nothing was proven"
    for secret in [sim.key, *(account["token"] for account in sim.accounts())]:
        assert secret not in caplog.text
        assert secret not in repr(client)


@pytest.mark.parametrize("kind", ["id", "record", "account"])
def test_one_account(sim: Simulator, kind: str) -> None:
    wanted, _ = add(sim), add(sim)
    hook = CloseAIHook()
    found = hook.get_sub_account(wanted["id"])
    assert found is not None
    given = {"id": found.id, "record": found.record(), "account": found}[kind]
    ask(hook.get_openai_client(account=given))
    assert spent(sim) == [wanted["id"]]


def test_the_base_that_is_healthy_now(sim: Simulator) -> None:
    add(sim)
    sim.stop_base(0)
    client = CloseAIHook().get_openai_client(alias="team")
    assert str(client.base_url) == sim.base_urls[1] + "/v1/"
    assert ask(client) == "hello"


def test_a_proxy_of_the_connection_is_used(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    add(sim)
    connection = sim.connection()
    connection["extra"] = {"proxies": {"http": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLOSEAI_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert ask(CloseAIHook().get_openai_client(alias="team")) == "hello"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, InvalidParameter, "neither is given.*exactly one"),
        ({"alias": "team", "account": 1}, InvalidParameter, "both are given"),
        ({"alias": ""}, InvalidParameter, "alias"),
        ({"account": "team"}, InvalidParameter, "account names no account"),
        ({"account": {"alias": "team"}}, InvalidParameter, "account names no account"),
        ({"alias": "tea"}, MissingAccounts, "exactly the alias 'tea'"),
        ({"account": 4711}, MissingAccounts, "4711"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(
    sim: Simulator, given: dict[str, Any], error: type[CloseAIError], words: str
) -> None:
    add(sim)
    with pytest.raises(error, match=words):
        CloseAIHook().get_openai_client(**given)
    if error is InvalidParameter:
        assert sim.requests == []


def test_a_hidden_key_is_none(sim: Simulator) -> None:
    add(sim)
    sim.settings.mask_tokens = True
    with pytest.raises(MaskedKeys):
        CloseAIHook().get_openai_client(alias="team")


def test_the_main_account_is_no_sub_account(sim: Simulator) -> None:
    sim.add_account("main", token_type="master")
    with pytest.raises(MissingAccounts, match="no sub-account under the alias 'main'"):
        CloseAIHook().get_openai_client(alias="main")


def test_without_openai_the_extra_is_named(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"airflow-provider-closeai\[openai\]"):
        CloseAIHook().get_openai_client(alias="team")
    assert sim.requests == []
