"""Exact amounts both ways, and tolerance for what a platform may leave out or add."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from support import client_of, item

from airflow_provider_closeai.client.calls import CREATE, DELETE, LIST, UPDATE
from airflow_provider_closeai.client.models import (
    ModelPricing,
    SubAccount,
    amount_text,
    factor_json,
    pricing_body,
)
from airflow_provider_closeai.client.transport import _ENCODER
from airflow_provider_closeai.simulator import Simulator


def decoded(**fields: Any) -> SubAccount:
    return only(json.dumps({"items": [item(1, **fields)], "total": 1}))


def only(text: str) -> SubAccount:
    page = LIST.decode(text.encode())
    account: SubAccount
    [account] = page.items
    assert page.unreadable == ()
    return account


def unreadable(text: str, field: str) -> None:
    """An account that cannot be read is named with the field, and costs only itself."""
    good = json.dumps(item(7))
    for listing, kept in ((text, []), (text.replace('"items":[', f'"items":[{good},'), [7])):
        page = LIST.decode(listing.encode())
        assert [account.id for account in page.items] == kept
        [odd] = page.unreadable
        assert field in odd.problem
        assert odd.id in (1, None)


AMOUNTS = ["0.44000013", "1.20", "100", "0", "-3.5", "0.00000001", "99999999999.99999999", "0.1"]


@pytest.mark.parametrize("text", AMOUNTS)
def test_amounts_are_exact_as_text_and_as_numbers(text: str) -> None:
    for quote in ('"', ""):
        account = only(f'{{"items":[{{"id":1,"token":"sk-a","balance":{quote}{text}{quote}}}]}}')
        assert account.balance == Decimal(text)
        assert account.record()["balance"] == text


def test_a_small_amount_is_written_out() -> None:
    assert only('{"items":[{"id":1,"token":"sk-a","balance":1e-8}]}').record()["balance"] == "0.00000001"
    assert amount_text(Decimal("1E+3")) == "1000"
    assert amount_text(None) is None


@pytest.mark.parametrize("value", ['"NaN"', "NaN", '"Infinity"', '"-inf"', '"x"', '""', "true", "[]"])
@pytest.mark.parametrize("field", ["balance", "monthly_cost"])
def test_what_is_no_amount_is_refused(field: str, value: str) -> None:
    unreadable(f'{{"items":[{{"id":1,"token":"sk-a","{field}":{value}}}]}}', field)


@pytest.mark.parametrize("value", ['"NaN"', '"inf"', "true", "{}"])
def test_what_is_no_factor_is_refused(value: str) -> None:
    prices = f'[{{"model":"m","pricing_factor":{value}}}]'
    unreadable(f'{{"items":[{{"id":1,"token":"sk-a","model_pricing":{prices}}}]}}', "model_pricing")


FACTORS = ["1", "1.5", "0", "1.20", "0.1", "1e-7", "123456.789", "3.0", "100"]


@pytest.mark.parametrize("text", FACTORS)
def test_what_is_sent_reads_back_the_same(sim: Simulator, text: str) -> None:
    client = client_of(sim)
    made = client.create("a", {"m": Decimal(text)}, Decimal("1.5"), 1)
    [account] = client.iter_sub_accounts()
    assert account.pricing == made[0].pricing == {"m": Decimal(text)}
    assert account.balance == Decimal("1.5")
    [post] = [request for request in sim.requests if request.call == "create"]
    sent = post.body["model_pricing"][0]["pricing_factor"]
    assert isinstance(sent, int | float)
    assert Decimal(repr(sent)) == Decimal(text)
    assert isinstance(sent, int) is (Decimal(text) == int(Decimal(text)))


def test_bodies_hold_numbers_digit_by_digit() -> None:
    body = _ENCODER.encode(
        {"balance": Decimal("1.5"), "model_pricing": pricing_body({"m": Decimal("0.44000013")})}
    )
    assert body == b'{"balance":1.5,"model_pricing":[{"model":"m","pricing_factor":0.44000013}]}'


@pytest.mark.parametrize(
    ("factor", "written"),
    [("1", 1), ("1.0", 1), ("1.5", 1.5), ("0.1", 0.1), ("0.12345678901234567890", "0.12345678901234567890")],
)
def test_factor_json(factor: str, written: Any) -> None:
    got = factor_json(Decimal(factor))
    assert got == written
    assert type(got) is type(written)


def test_missing_and_unknown_fields() -> None:
    account = only('{"items":[{"id":1,"token":"sk-a","new":[{"x":1}]}],"new":null}')
    assert (account.alias, account.enabled, account.pricing, account.balance) == ("", True, {}, None)
    assert not account.is_sub_account
    assert account.record()["monthly_cost"] is None


def test_null_lists() -> None:
    assert decoded(model_pricing=None).pricing == {}
    assert LIST.decode(b'{"items":null,"total":0}').items is None
    assert CREATE.decode(b'{"items":null,"success":true}').items is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "null",
        '{"items":{}}',
        '{"items":[{"id":1,"token":"sk-a"}',
    ],
)
def test_what_is_no_listing(text: str) -> None:
    with pytest.raises((msgspec.DecodeError, ValueError)):
        LIST.decode(text.encode())


@pytest.mark.parametrize(
    ("fields", "seen_id", "seen_alias", "named"),
    [
        ("", None, None, "id"),
        ('"id":1', 1, None, "token"),
        ('"id":1,"token":"","alias":"a"', 1, "a", "token"),
        ('"id":1,"token":null,"alias":""', 1, "", "token"),
        ('"id":1,"token":5,"alias":"\\ud83d"', 1, None, ""),
        ('"id":1,"token":"sk-a","alias":"\\ud83d x"', 1, None, ""),
        ('"id":1,"token":"sk-a","alias":[7]', 1, None, "alias"),
        ('"id":"1","token":5,"alias":"团队\u3000"', 1, "团队\u3000", "token"),
        ('"id":true,"token":"sk-a"', None, None, "id"),
        ('"id":1.5,"token":"sk-a"', None, None, "id"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(
    fields: str, seen_id: int | None, seen_alias: str | None, named: str
) -> None:
    good = json.dumps(item(7))
    page = LIST.decode(f'{{"items":[{good},{{{fields}}},{good}],"total":3,"pageSize":5}}'.encode())
    assert [account.id for account in page.items] == [7, 7]
    assert (page.total, page.page_size) == (3, 5)
    [odd] = page.unreadable
    assert (odd.id, odd.alias) == (seen_id, seen_alias)
    assert named in odd.problem
    assert "sk-a" not in odd.problem


@pytest.mark.parametrize("entry", ["5", "null", "[]", '"x"'])
def test_an_entry_that_is_no_object_is_named(entry: str) -> None:
    page = LIST.decode(f'{{"items":[{entry},{json.dumps(item(7))}]}}'.encode())
    assert [account.id for account in page.items] == [7]
    assert [odd.id for odd in page.unreadable] == [None]


@pytest.mark.parametrize("call", [UPDATE, DELETE, CREATE])
@pytest.mark.parametrize("text", ['{"success":false,"items":[]}', "{}", "true", '{"success":"yes"}'])
def test_what_is_no_success(call: Any, text: str) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError), match=r"says no|success|items|object"):
        call.decode(text.encode())


def test_old_prices() -> None:
    account = decoded(
        model_pricing=[
            {"model": "follows", "prompt_price": 0, "completion_price": 0, "auto_following": True},
            {"model": "dead", "prompt_price": "1.5", "completion_price": 2},
            {"model": "off", "auto_following": False},
            {"model": "both", "pricing_factor": "2", "auto_following": True},
        ]
    )
    assert account.pricing == {"follows": 1, "dead": None, "off": None, "both": 2}
    assert account.record()["model_pricing"][1] == {"model": "dead", "pricing_factor": None}
    assert ModelPricing("m").factor is None


def test_a_record_is_plain_json_without_the_token() -> None:
    account = decoded(
        alias="团队", balance="0.44000013", model_pricing=[{"model": "m", "pricing_factor": 1.5}]
    )
    record = account.record()
    assert json.loads(json.dumps(record)) == record
    assert account.token.reveal() not in json.dumps(record)
    assert set(record) == {
        "id",
        "alias",
        "balance",
        "monthly_cost",
        "model_pricing",
        "enabled",
        "created_at",
        "updated_at",
        "token_hint",
    }
    assert record["token_hint"] == "sk-…0001"
    assert record["model_pricing"] == [{"model": "m", "pricing_factor": 1.5}]


@pytest.mark.parametrize("numbers", [False, True])
def test_amounts_of_the_simulator_either_way(numbers: bool) -> None:
    with Simulator(amounts_as_numbers=numbers) as sim:
        sim.add_account("a", balance="0.44000013", monthly_cost="1.2")
        [account] = client_of(sim).iter_sub_accounts()
        assert (account.balance, account.monthly_cost) == (Decimal("0.44000013"), Decimal("1.2"))
