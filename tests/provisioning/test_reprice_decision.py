"""What a repricing sends, decided from accounts as they are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from airflow_provider_closeai.client.models import ModelPricing, SecretToken, SubAccount
from airflow_provider_closeai.provisioning.errors import UnconvertedPricing
from airflow_provider_closeai.provisioning.reprice import Outcome, plan_repricing
from airflow_provider_closeai.provisioning.requests import RepriceRequest

MODELS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)


def account(number: int, pricing: dict[str, Any], alias: str = "a") -> SubAccount:
    entries = tuple(
        ModelPricing(model, None if factor is None else Decimal(factor)) for model, factor in pricing.items()
    )
    return SubAccount(id=number, token=SecretToken(f"sk-{number}"), alias=alias, model_pricing=entries)


def request(pricing: dict[str, Any], mode: str = "merge", batch_size: int = 100) -> RepriceRequest:
    return RepriceRequest.parse(pricing, alias="a", mode=mode, batch_size=batch_size)


@pytest.mark.parametrize(
    ("there", "mode", "target"),
    [
        ({}, "merge", {"a": 1}),
        ({"a": 2}, "merge", {"a": 1}),
        ({"b": 2}, "merge", {"b": 2, "a": 1}),
        ({"b": 2}, "replace", {"a": 1}),
        ({"a": None}, "merge", {"a": 1}),
        ({"b": None}, "replace", {"a": 1}),
    ],
)
def test_the_price_list_that_an_account_shall_have(there: Any, mode: str, target: Any) -> None:
    plan = plan_repricing([account(1, there)], request({"a": 1}, mode))
    assert plan.targets == {1: target}
    assert [each.id for each in plan.changing] == [1]


def test_dead_prices_cannot_be_kept() -> None:
    with pytest.raises(UnconvertedPricing, match=r"Sub-account 1 .*for b"):
        plan_repricing([account(1, {"b": None})], request({"a": 1}))


@pytest.mark.property
@settings(max_examples=examples(50, 2000), deadline=None)
@given(
    there=st.lists(st.tuples(MODELS, st.sampled_from(("a", "b"))), max_size=8),
    asked=MODELS.filter(bool),
    mode=st.sampled_from(("merge", "replace")),
    size=st.integers(1, 3),
)
def test_no_account_is_renamed_and_no_model_is_lost(there: Any, asked: Any, mode: str, size: int) -> None:
    accounts = [account(number, pricing, alias) for number, (pricing, alias) in enumerate(there, 1)]
    plan = plan_repricing(accounts, request(asked, mode, size))
    sent = {each.id: batch for batch in plan.batches for each in batch.accounts}
    assert sum(len(batch.accounts) for batch in plan.batches) == len(sent)
    assert all(len(batch.accounts) <= size for batch in plan.batches)
    after = []
    for each in accounts:
        kept = {} if mode == "replace" else each.pricing
        target = {**kept, **asked}
        assert (each.id in sent) == (each.pricing != target), "what is right already is not sent"
        if each.id in sent:
            assert (sent[each.id].alias, sent[each.id].pricing) == (each.alias, target)
        after.append(account(each.id, target, each.alias or ""))
    assert plan.missing(after) == []
    assert plan.missing(accounts) == [each.id for each in plan.changing]
    assert plan.missing([]) == [each.id for each in plan.changing]
    assert [each.pricing for each in plan.as_planned(accounts)] == [each.pricing for each in after]


def test_of_what_is_open_only_what_is_listed_and_right_was_set() -> None:
    outcome = Outcome(0.0, doubted={1, 2, 3})
    outcome.settle_doubt(listed={2, 3}, changing={3})
    assert outcome.accepted == {2}, "1 may be gone without it, and 3 has other prices"
