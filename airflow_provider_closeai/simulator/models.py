"""Just enough of a model for a sub-account's key to spend money: it echoes its input."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.simulator.accounts import Account
from airflow_provider_closeai.simulator.answers import Refusal
from airflow_provider_closeai.simulator.checks import invalid, read_text
from airflow_provider_closeai.simulator.state import State
from airflow_provider_closeai.simulator.values import to_units

_ROLES = ("system", "developer", "user", "assistant", "tool")
_TUNING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "user")
CHAT_FIELDS = ("model", "messages", "max_tokens", "max_completion_tokens", "n", "stream", *_TUNING)
"""Fields of a chat completion; tuning fields are accepted but have no effect."""


def complete(state: State, account: Account | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Answer a chat completion, and charge the account for it.

    :param account: Whose key was used; None is the main account.
    :param fields: The request's fields.
    """
    model, texts, most = _read(fields)
    factor = _factor(state, account, model)
    answer = texts[-1]
    if most is not None:
        answer = answer.encode()[: 4 * most].decode(errors="ignore")
    asked, answered = sum(map(_tokens, texts)), _tokens(answer)
    cost = math.ceil(factor * (asked + answered) * to_units(state.settings.token_price))
    if account is None:
        state.settings.main_usage += Decimal(cost).scaleb(-8)
    else:
        state.spend(account, cost)
    is_cut = answer != texts[-1]
    return {
        "id": f"chatcmpl-{state.changes}",
        "object": "chat.completion",
        "created": int(state.clock.now().timestamp()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer, "refusal": None},
                "logprobs": None,
                "finish_reason": "length" if is_cut else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        },
    }


def listed(state: State, account: Account | None) -> dict[str, Any]:
    """List the models that a key may use; the main account may use all that any account has.

    :param account: Whose key was used; None is the main account.
    """
    accounts = state.live.values() if account is None else [account]
    names = sorted({name for each in accounts for name in _prices(state, each)})
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
    return {"object": "list", "data": data}


def _read(fields: dict[str, Any]) -> tuple[str, list[str], int | None]:
    """Read the model, the texts, and the most tokens of the answer."""
    if fields.get("stream"):
        raise invalid("stream must be false: answers come in one piece here")
    if fields.get("n", 1) != 1:
        raise invalid("n must be 1")
    messages = fields["messages"]
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message")
    texts = [_text(message, f"messages[{index}]") for index, message in enumerate(messages)]
    most = fields.get("max_completion_tokens", fields.get("max_tokens"))
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise invalid("max_tokens must be a whole number of at least 1")
    return read_text(fields["model"], "model"), texts, most


def _factor(state: State, account: Account | None, model: str) -> Decimal:
    """Return the model's price factor, or refuse the call."""
    if account is None:
        return Decimal(1)
    if not account.enabled:
        raise Refusal(403, "permission_denied", "the sub-account is disabled")
    prices = _prices(state, account)
    if model not in prices:
        raise Refusal(403, "permission_denied", "the sub-account has no permission for this model")
    state.settle(account)
    if account.balance <= 0 and state.settings.empty_balance == "refuse":
        raise Refusal(429, "insufficient_quota", "the sub-account's balance is used up")
    return prices[model]


def _prices(state: State, account: Account) -> dict[str, Decimal]:
    """Return the factor of each model; an old, never converted price gives no permission."""
    prices = {}
    for entry in state.item(account)["model_pricing"]:
        factor = entry.get("pricing_factor", 1 if entry.get("auto_following") else None)
        if factor is not None:
            prices[entry["model"]] = Decimal(str(factor))
    return prices


def _text(message: Any, name: str) -> str:
    if not isinstance(message, dict):
        raise invalid(f"{name} must be an object")
    if message.get("role") not in _ROLES:
        raise invalid(f"{name}.role must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, list):  # a list of parts
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise invalid(f"{name}.content must be text, or a list of parts of type text")
        content = "\n".join(str(part.get("text", "")) for part in content)
    return read_text(content, f"{name}.content")


def _tokens(text: str) -> int:
    """Count one token per four bytes, whatever the model."""
    return math.ceil(len(text.encode()) / 4)
