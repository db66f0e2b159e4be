"""Answers that servers in the way break: nothing raw escapes, and nothing well is held to be ill."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from support import HANG, Asked, client_of, fixed_client, in_threads, item, platform, raw_server, read_request

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.simulator import Simulator

PAGE = json.dumps({"items": [item(1)], "total": 1, "pageSize": 500}).encode()


def whole(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    length = f"Content-Length: {len(body)}".encode()
    return b"\r\n".join([f"HTTP/1.1 {status} X".encode(), length, *headers, b"", b""]) + body


def always(answer: bytes) -> Callable[[socket.socket, int], None]:
    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(answer)

    return serve


def create(client: CloseAIClient) -> Any:
    return client.create("a", {"m": Decimal(1)}, Decimal(1), 1)


# --- Nothing raw ---


@pytest.mark.parametrize("where", [b"http://[", b"\xff\xfe", b"http://a..b", b"//", b"http://x:99999/"])
def test_a_redirect_to_nowhere_is_a_redirect(where: bytes) -> None:
    with raw_server(always(whole(302, b"", b"Location: " + where))) as (port, seen):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        with pytest.raises(errors.OutcomeUnknown, match="redirect"):
            list(client.iter_sub_accounts())
        with pytest.raises(errors.OutcomeUnknown, match="redirect"):
            create(client)
        assert len(seen) == 2


@pytest.mark.parametrize("base", [f"https://{'a' * 64}.example", "https://a..example", "https://éé..example"])
def test_a_base_whose_name_cannot_be_looked_up_was_not_reached(sim: Simulator, base: str) -> None:
    with pytest.raises(errors.NotSent, match="does not resolve"):
        list(fixed_client(base, max_attempts=1).iter_sub_accounts())
    sim.add_account("a")
    other = fixed_client(base, sim.base_urls[0], key=sim.key)
    assert len(list(other.iter_sub_accounts())) == 1


@pytest.mark.parametrize("status", [400, 500])
def test_a_message_fit_for_a_log(status: int) -> None:
    message = b'{"error": {"message": "no \\ud83d money\\u0000\\u001b[31m \\u202e' + b"x" * 1_000_000 + b'"}}'
    with raw_server(always(whole(status, message))) as (port, _):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        with pytest.raises(errors.CloseAIError) as caught:
            list(client.iter_sub_accounts())
    text = str(caught.value)
    assert text.isprintable()
    assert "no money" in text
    assert len(text) < 1000


@pytest.mark.parametrize("before", range(240, 300, 5))
def test_a_quoted_key_is_not_shown_in_part(before: int) -> None:
    key = "K" * 40  # nothing that looks like a key, but for this connection
    message = json.dumps({"message": f"{'-' * before} {key} {key}"}).encode()
    with raw_server(always(whole(400, message))) as (port, _):
        with pytest.raises(errors.Rejected) as caught:
            list(fixed_client(f"http://127.0.0.1:{port}", key=key).iter_sub_accounts())
        assert "K" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("balance", "1e99999999999999999999"),
        ("balance", "1e400"),
        ("monthly_cost", '"1e400"'),
        ("monthly_cost", '"0e400"'),
        ("monthly_cost", '"1e-400"'),
        ("id", "9" * 5000),
        ("id", '"' + "9" * 5000 + '"'),
        ("balance", "NaN"),
    ],
)
def test_a_number_that_no_account_has_costs_that_account(
    field: str, raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    fields = item(2)
    del fields[field]
    broken = json.dumps(fields)[:-1] + f', "{field}": {raw}}}'
    body = f'{{"items": [{json.dumps(item(1))}, {broken}, {json.dumps(item(3))}], "total": 3}}'.encode()
    with raw_server(always(whole(200, body))) as (port, _):
        client = fixed_client(f"http://127.0.0.1:{port}")
        assert [account.id for account in client.iter_sub_accounts()] == [1, 3]
    name = "no id" if field == "id" else "id 2"
    assert f"A sub-account is left out: it cannot be read ({name}: " in caplog.text


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("id", "2", 2),
        ("id", 2.0, 2),
        ("user_id", "7", 7),
        ("user_id", {}, None),
        ("enabled", 1, True),
        ("enabled", "false", False),
        ("enabled", {}, None),
        ("created_at", 1_700_000_000, "1700000000"),
        ("created_at", 1_700_000_000.5, "1700000000.5"),
        ("created_at", {}, None),
        ("updated_at", [], None),
    ],
)
def test_a_field_of_another_type_costs_no_account(field: str, value: Any, read: object) -> None:
    answer = {"items": [item(1), item(2, **{field: value})], "total": 2}
    with platform(lambda asked: (200, answer)) as (origin, asked):
        client = fixed_client(origin)
        for accounts in (client.page(1, 500).items, create(client)):
            first, second = accounts or ()
            assert getattr(second, field) == read
            assert (first.id, second.id) == (1, 2)
            assert field != "created_at" or second.created is None
        assert len(asked) == 2


@pytest.mark.parametrize("field", ["total", "page", "pageSize"])
@pytest.mark.parametrize("raw", ['"1"', "1.0", "null", "NaN", "{}", "true", '"\\ud83d"'])
def test_a_count_in_an_odd_form_costs_no_listing(field: str, raw: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while request := read_request(connection):
            items = json.dumps([item(1)] if b"page=1&" in request else [])
            connection.sendall(whole(200, f'{{"items": {items}, "{field}": {raw}}}'.encode()))

    with raw_server(serve) as (port, _):
        client = fixed_client(f"http://127.0.0.1:{port}")
        assert [account.id for account in client.iter_sub_accounts()] == [1]


@pytest.mark.parametrize(
    "link",
    [
        '"desc": "\\ud83d", "priority": 10',
        '"status": "\\ud83d", "priority": 10',
        '"priority": NaN',
        '"priority": 1e99999999999999999999',
    ],
)
def test_a_broken_base_costs_discovery_only_that_base(sim: Simulator, link: str) -> None:
    good = json.dumps({"api": sim.base_urls[1], "priority": 1})
    body = f'[{{"api": "{sim.base_urls[0]}", {link}}}, {good}]'.encode()
    with raw_server(always(whole(200, body))) as (port, _):
        sim.add_account("a")
        client = client_of(sim)
        config = msgspec.structs.replace(client.config, origin=f"http://127.0.0.1:{port}")
        bases = CloseAIClient(config).list_bases()
        assert sim.base_urls[1] in [base.api for base in bases]
        assert len(list(CloseAIClient(config).iter_sub_accounts())) == 1


def test_a_base_that_is_listed_twice_has_the_better_rank(sim: Simulator) -> None:
    first, second = sim.base_urls
    links = [{"api": first, "priority": 1}, {"api": second, "priority": 5}, {"api": first, "priority": 9}]
    with platform(lambda asked: (200, links)) as (origin, _):
        config = msgspec.structs.replace(client_of(sim).config, origin=origin)
        assert [base.api for base in CloseAIClient(config).list_bases()] == [first, second]


# --- What says no, and what says yes ---


@pytest.mark.parametrize("status", [200, 201, 203])
def test_a_success_with_an_error_object_says_no(status: int) -> None:
    body = {"success": True, "items": [], "total": 0, "total_used": 1, "error": {"message": "no money"}}
    with platform(lambda asked: (status, body)) as (origin, asked):
        client = fixed_client(origin)
        for call in (
            lambda: list(client.iter_sub_accounts()),
            lambda: create(client),
            lambda: client.update([], "a", {}),
            lambda: client.delete([]),
            client.main_usage,
        ):
            with pytest.raises(errors.Declined, match="no money"):
                call()
        assert len(asked) == 5


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (1, None),
        ("true", None),
        (0, errors.Declined),
        (0.0, errors.Declined),
        ("False", errors.Declined),
        ("no", errors.Declined),
        (None, errors.OutcomeUnknown),
        ({}, errors.OutcomeUnknown),
    ],
)
def test_success_of_an_odd_type(said: Any, outcome: type[errors.CloseAIError] | None) -> None:
    with platform(lambda asked: (200, {"success": said, "message": "told"})) as (origin, _):
        client = fixed_client(origin, max_attempts=1)
        if outcome is None:
            client.update([], "a", {})
        else:
            with pytest.raises(outcome, match="told"):
                client.update([], "a", {})


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "msg": "余额不足"},
        {"success": False, "error": "余额不足"},
        {"success": "false", "detail": "余额不足"},
        {"error": "余额不足"},
        {"error": {"code": "no_money", "msg": "余额不足"}},
        {"code": 1001, "message": "余额不足"},
        {"code": "1001", "msg": "余额不足"},
        {"status": "error", "message": "余额不足"},
        {"ok": False, "message": "余额不足"},
        {"errors": [{"message": "余额不足"}]},
    ],
)
def test_why_it_says_no_is_told_wherever_it_stands(body: dict[str, Any]) -> None:
    with platform(lambda asked: (200, body)) as (origin, asked):
        with pytest.raises(errors.Declined, match="余额不足"):
            create(fixed_client(origin))
        assert len(asked) == 1


@pytest.mark.parametrize("where", [["body", "model_pricing", 0], None])
def test_which_field_is_not_taken_is_the_platforms_word(where: list[Any] | None) -> None:
    """As FastAPI says it."""
    body = {"detail": [{"type": "missing", "loc": where, "msg": "Field required", "input": "sk-abcdefgh"}]}
    with platform(lambda asked: (422, body)) as (origin, asked):
        with pytest.raises(errors.Rejected) as caught:
            create(fixed_client(origin))
        assert f"{'body.model_pricing.0' if where else 'it'}: Field required" in str(caught.value)
        assert "sk-abc" not in str(caught.value)
        assert len(asked) == 1


@pytest.mark.parametrize("message", ["no such sub-account", None])
def test_a_404_that_names_what_is_missing_is_the_platforms_word(message: str | None) -> None:
    body = {"error": {"message": message}}
    with platform(lambda asked: (404, body)) as (origin, asked):
        client = fixed_client(origin, max_attempts=2)
        expected = errors.Rejected if message else errors.OutcomeUnknown
        calls: list[Callable[[], object]] = [lambda: client.update([], "a", {}), lambda: client.delete([])]
        for call in calls:
            with pytest.raises(expected, match=message or "somebody else"):
                call()
        assert len(asked) == (2 if message else 4)


@pytest.mark.parametrize("status", [201, 202, 203, 204, 205, 206])
def test_healthy_means_200(status: int) -> None:
    with platform(lambda asked: (status, b"healthy" if status != 204 else b"")) as (origin, _):
        [health] = fixed_client(origin).check_health()
        assert not health.healthy
        assert str(status) in health.detail


@pytest.mark.parametrize(
    "text", [b"\n\xef\xbb\xbfhealthy\r\n", b"\xef\xbb\xbf healthy", b"healthy\xef\xbb\xbf"]
)
def test_white_space_and_byte_order_marks_around_healthy(text: bytes) -> None:
    with platform(lambda asked: (200, text)) as (origin, _):
        assert fixed_client(origin).check_health()[0].healthy


# --- Connections ---


@pytest.mark.parametrize("status", [102, 103, 199])
def test_an_interim_answer_is_not_the_answer(status: int) -> None:
    pages = [PAGE, json.dumps({"items": [item(2)], "total": 1, "pageSize": 500}).encode()]

    def serve(connection: socket.socket, number: int) -> None:
        for page in pages:
            read_request(connection)
            early = f"HTTP/1.1 {status} Early\r\nLink: </x>\r\n\r\n".encode()
            connection.sendall(early + early + whole(200, page))

    with raw_server(serve) as (port, seen):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        assert [account.id for account in client.iter_sub_accounts()] == [1]
        assert [account.id for account in client.iter_sub_accounts()] == [2]
        assert len(seen) == 1


@pytest.mark.parametrize("call", ["healthy", "links"])
def test_a_probe_rides_on_no_kept_connection(sim: Simulator, call: str) -> None:
    client = client_of(sim, health_ttl=0.001)
    client.refresh_bases()
    client.check_health()
    list(client.iter_sub_accounts())
    sim.fault(call, "cut_reused", times=None)
    assert all(health.healthy for health in client.check_health())
    assert client.refresh_bases()
    assert client.cache.read().failures == 0


def test_a_probe_that_is_refused_at_first_does_not_count_against_its_base(sim: Simulator) -> None:
    sim.fault("healthy", "rate_limit", base=0, times=None)
    client = client_of(sim)
    assert [health.healthy for health in client.check_health()] == [False, True]
    list(client.iter_sub_accounts())
    assert sim.count("list", base=0) == 1
    assert client.check_health()[0].healthy


def test_a_kept_connection_that_died_costs_no_attempt_at_the_next_base(sim: Simulator) -> None:
    sim.add_account("a")
    client = client_of(sim, max_attempts=2)
    list(client.iter_sub_accounts())
    sim.fault("list", "cut_reused", base=0)
    sim.fault("list", "error_before", base=0)
    assert len(list(client.iter_sub_accounts())) == 1
    assert sim.count("list", base=1) == 1


def test_a_kept_connection_that_died_is_held_against_nobody_for_a_moment(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(sim)
    list(client.iter_sub_accounts())
    sim.fault("list", "cut_reused", base=0)
    list(client.iter_sub_accounts())
    assert sim.count("list", base=0) == 3
    assert "comes last" not in caplog.text


def test_what_had_hardly_any_time_left_is_held_against_nobody() -> None:
    over = threading.Event()

    def late(asked: Asked) -> tuple[int, Any]:
        over.wait(0.4)
        return 500, {}

    def never(asked: Asked) -> tuple[int, Any]:
        over.wait(HANG)
        return 500, {}

    with platform(late) as (first, _), platform(never) as (second, _):
        client = fixed_client(first, second, deadline=0.7)
        with pytest.raises(errors.OutcomeUnknown):
            list(client.iter_sub_accounts())
        over.set()
        assert second not in client.cache.read().verdicts


def test_a_call_tries_once_more_freshly_once(sim: Simulator) -> None:
    client = client_of(sim, max_attempts=4, health_ttl=0.001)
    list(client.iter_sub_accounts())
    sim.fault("list", "error_before", base=0)
    list(client.iter_sub_accounts())  # a kept connection to each base
    before = sim.count("list")
    sim.fault("list", "cut_reused", base=0)
    sim.fault("list", "error_before", base=0)
    sim.fault("list", "cut_reused", base=1)
    list(client.iter_sub_accounts())
    hosts = [request.host for request in sim.requests if request.call == "list"][before:]
    assert hosts == ["base-0", "base-0", "base-1"], "after one that died, no other is trusted"


def test_threads_that_share_a_client_do_not_close_each_others_connections(sim: Simulator) -> None:
    client = client_of(sim, page_size=-1)
    list(client.iter_sub_accounts())

    def work(number: int) -> None:
        for _ in range(20):
            if number % 2:
                client.create(f"a{number}", {"m": Decimal(1)}, Decimal(1), 1)
            else:
                client.page(1, 10)

    in_threads(8, work)
    assert len(sim.accounts()) == 80
    assert {request.host for request in sim.requests if request.call in ("list", "create")} == {"base-0"}
    assert all(seen.healthy for seen in client.cache.read().verdicts.values())


def test_a_create_among_threads_has_a_connection_of_its_own(sim: Simulator) -> None:
    sim.fault("create", "cut_reused", times=None)
    client = client_of(sim)
    over = threading.Event()

    def work(number: int) -> None:
        if number:
            while not over.is_set():
                client.page(1, 10)
        else:
            for _ in range(30):
                create(client)
            over.set()

    in_threads(4, work)
    assert sim.count("create") == len(sim.accounts()) == 30
