"""Writes a roster of the existing accounts, as the first step to adopt them. No I/O here."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.client.models import SubAccount, UnreadableItem, amount_text, factor_json
from airflow_provider_closeai.provisioning import inputs
from airflow_provider_closeai.provisioning.texts import format_ids, ids_of
from airflow_provider_closeai.roster.checks import main_account_of

_HEADER = """\
# A roster of the sub-accounts that were there when this was written: it changes nothing as it is.
# Without `owns` it speaks for the aliases that it names. More: docs/roster.md.
# Each balance is what was left: make it what a new account of the alias shall get.
"""


def export(accounts: Sequence[SubAccount], unreadable: Sequence[UnreadableItem] = ()) -> str:
    """Write a roster of accounts as YAML, without keys; comments say what it cannot express."""
    import yaml  # type: ignore[import-untyped]

    groups: dict[str, list[SubAccount]] = {}
    left_out: list[SubAccount] = []
    for account in sorted(accounts, key=lambda account: account.id):
        if account.is_other or not _is_usable(account.alias):
            left_out.append(account)
        else:
            groups.setdefault(account.alias or "", []).append(account)
    comments: list[str] = []
    entries = [_entry(alias, group, comments) for alias, group in sorted(groups.items())]
    tree: dict[str, Any] = {"version": 1, "accounts": [entry for entry in entries if entry]}
    main_account = main_account_of(accounts, None)
    if main_account is not None:
        tree["main_account"] = main_account
    if left_out:
        comments.append(f"left out, since a roster cannot name them: {ids_of(left_out)}")
    if unreadable:
        ids = [item.id for item in unreadable if item.id is not None]
        comments.append(
            f"left out, since they cannot be read: {len(unreadable)} entries, ids {format_ids(ids)}"
        )
    body: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    return _HEADER + "".join(f"# Note: {comment}.\n" for comment in comments) + "\n" + body


def _is_usable(alias: str | None) -> bool:
    try:
        inputs.new_alias(alias)
    except InvalidParameter:
        return False
    return True


def _entry(alias: str, group: Sequence[SubAccount], comments: list[str]) -> dict[str, Any] | None:
    """Return an alias's entry; add a comment and return ``None`` if a roster cannot express it."""
    shown = ascii(alias)
    lists = [_prices(account.pricing) for account in group]
    usual, _ = Counter(tuple(each.items()) for each in lists).most_common(1)[0]
    balance = max((one.balance for one in group if one.balance is not None), default=Decimal(0))
    try:
        inputs.pricing(dict(usual))
        written = _balance(balance)
    except InvalidParameter as error:
        problem = str(error).removesuffix(". Nothing was sent.")
        comments.append(f"{shown} is left out, since a roster cannot say it ({ids_of(group)}): {problem}")
        return None
    differing = [one for one, prices in zip(group, lists, strict=True) if tuple(prices.items()) != usual]
    if differing:
        comments.append(f"{shown}: {ids_of(differing)} have other prices, which applying this changes")
    dead = sorted({model for one in group for model, factor in one.pricing.items() if factor is None})
    if dead:
        comments.append(f"{shown}: {', '.join(map(ascii, dead))} have dead prices: write a factor")
    if written != balance:
        comments.append(f"{shown}: balance is {amount_text(balance)}, which a roster cannot have")
    text = f"{written:f}"
    amount = int(text) if text.isdecimal() else text  # text stays exact
    return {"alias": alias, "count": len(group), "balance": amount, "model_pricing": dict(usual)}


def _balance(found: Decimal) -> Decimal:
    """Return the nearest balance that a roster can have."""
    with contextlib.suppress(InvalidParameter):
        return inputs.amount("balance", found)
    return inputs.amount("balance", Decimal(repr(float(max(found, Decimal(0))))))


def _prices(pricing: Mapping[str, Decimal | None]) -> dict[str, Any]:
    return {model: factor_json(pricing[model]) for model in sorted(pricing) if pricing[model] is not None}
