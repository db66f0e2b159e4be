"""A sub-account's key spends its money on a model; a key that may not is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_closeai.simulator import Simulator

HELLO = [{"role": "user", "content": "12345678"}]  # two tokens, and two of the answer
CHAT = {"model": "gpt-4", "messages": HELLO}


def idle(sim: Simulator, prices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Add an account that costs nothing by itself."""
    pricing = [{"model": model, "pricing_factor": factor} for model, factor in prices.items()]
    account = sim.add_account("a", pricing, **fields)
    sim.set_rate(account["id"], 0)
    return account


def test_a_call_costs_tokens_times_factor(ask: Any, sim: Simulator) -> None:
    account = idle(sim, {"gpt-4": 1, "cheap": "0.5"}, balance="1", monthly_cost="2")
    reply = ask("chat", CHAT, key=account["token"], base=1).json()
    assert reply["choices"][0]["message"]["content"] == "12345678"
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    ask("chat", {**CHAT, "model": "cheap"}, key=account["token"])
    [after] = ask("list").json()["items"]
    assert (after["balance"], after["monthly_cost"]) == ("0.99994", "2.00006")
    assert sum(sim.truth.by_date.values()) == Decimal("0.00006")
    assert [request.executed for request in sim.requests if request.call == "chat"] == [True, True]


def test_a_price_that_was_changed_counts_at_once(ask: Any, sim: Simulator) -> None:
    account = idle(sim, {"gpt-4": 1})
    ask("update", {"sks": [account["token"]], "model_pricing": [{"model": "gpt-4", "pricing_factor": 3}]})
    ask("chat", CHAT, key=account["token"])
    assert sim.accounts()[0]["monthly_cost"] == "0.00012"


def test_an_answer_may_be_cut(ask: Any, sim: Simulator) -> None:
    account = idle(sim, {"gpt-4": 1})
    reply = ask("chat", {**CHAT, "max_tokens": 1}, key=account["token"]).json()
    [choice] = reply["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1234", "length")
    assert reply["usage"]["completion_tokens"] == 1


def test_who_may_not_spend(ask: Any, sim: Simulator) -> None:
    gone, suspended = idle(sim, {"gpt-4": 1}), idle(sim, {"gpt-4": 1})
    disabled, empty = idle(sim, {"gpt-4": 1}, enabled=False), idle(sim, {"gpt-4": 1}, balance="0")
    ask("delete", {"sks": [gone["token"]]})
    ask("update", {"sks": [suspended["token"]], "model_pricing": []})
    refused = [(None, 401), ("sk-of-nobody", 401), (gone["token"], 401), (suspended["token"], 403)]
    for key, status in [*refused, (disabled["token"], 403), (empty["token"], 429)]:
        reply = ask("chat", CHAT, key=key)
        assert reply.status == status
        assert reply.json()["error"]["message"]
        assert key is None or key not in reply.text
    assert {account["monthly_cost"] for account in sim.accounts()} == {"0"}
    sim.settings.empty_balance = "serve"
    assert ask("chat", CHAT, key=empty["token"]).status == 200


def test_the_models_of_a_key(ask: Any, sim: Simulator) -> None:
    one, two = idle(sim, {"gpt-4": 1, "cheap": 0}), idle(sim, {})
    names = [
        [model["id"] for model in ask("models", key=key).json()["data"]] for key in (one["token"], "main")
    ]
    assert names == [["cheap", "gpt-4"], ["cheap", "gpt-4"]]
    assert ask("models", key=two["token"]).json()["data"] == []


def test_the_main_account_spends_its_own_money(ask: Any, sim: Simulator) -> None:
    idle(sim, {"gpt-4": 1})
    assert ask("chat", CHAT).status == 200
    assert ask("billing").json(parse_float=Decimal)["total_used"] == Decimal("0.00004")
    assert sim.accounts()[0]["monthly_cost"] == "0"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"stream": True}, "stream"),
        ({"n": 2}, "n must"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"tools": []}, "tools"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_and_costs_nothing(
    ask: Any, sim: Simulator, wrong: dict[str, Any], field: str
) -> None:
    account = idle(sim, {"gpt-4": 1})
    reply = ask("chat", {**CHAT, **wrong}, key=account["token"])
    assert reply.status == 400
    assert field in reply.json()["error"]["message"]
    assert sim.accounts()[0]["monthly_cost"] == "0"


def test_the_official_client(sim: Simulator) -> None:
    import openai

    account = idle(sim, {"gpt-4": 1})
    client = openai.OpenAI(base_url=sim.base_urls[0] + "/v1", api_key=account["token"], max_retries=0)
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "two words"}]}]
    answer = client.chat.completions.create(model="gpt-4", messages=parts, temperature=0.2)
    assert answer.choices[0].message.content == "two words"
    assert [model.id for model in client.models.list()] == ["gpt-4"]
    sim.delete_account(account["id"])
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="gpt-4", messages=parts)
