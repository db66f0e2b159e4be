"""Answers that are made to hurt: nothing of them is logged, and time and memory have bounds."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import time
import tracemalloc
from decimal import Decimal

import pytest
from support import fixed_client, item, platform, raw_server, read_request

from airflow_provider_closeai.client.answers import Outcome, judge
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.decoding import decode_page
from airflow_provider_closeai.client.errors import OutcomeUnknown
from airflow_provider_closeai.client.retry_after import parse_date, parse_retry_after

SECRET = "sk-" + 2 * "verysecret" + "1234"  # made up, and not written as a key is


def call(client: CloseAIClient, name: str) -> None:
    if name == "create":
        client.create("a", {"m": Decimal(1)}, Decimal(1), 1)
    else:
        client.page(1, 500)


@pytest.mark.parametrize(
    "lines",
    [
        json.dumps({"items": [item(1, token=SECRET)], "success": True}, indent=2),  # the empty line got lost
        f"X-Trace\r\nX-Token: {SECRET}",
        f"bad line Bearer {SECRET}",
    ],
    ids=["body", "no colon", "echo"],
)
@pytest.mark.parametrize("name", ["list", "create"])
def test_of_headers_that_cannot_be_read_nothing_is_logged(
    name: str, lines: str, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}{lines}\r\n\r\n".encode())

    caplog.set_level(logging.DEBUG)
    with raw_server(serve) as (port, _):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        with pytest.raises(OutcomeUnknown, match="its headers cannot be read") as caught:
            call(client, name)
    assert "verysecret" not in caplog.text + repr(caught.value)
    assert "headers cannot be read" in caplog.text


@pytest.mark.parametrize("boundary", ["*=a; boundary*0=b", "*=idna'x'%FF%80", "*=a\0b'x'c"])
@pytest.mark.parametrize("name", ["list", "create"])
def test_headers_that_break_their_reader_end_an_attempt_and_no_more(name: str, boundary: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        kind = f"Content-Type: multipart/x; boundary{boundary}"
        connection.sendall(f"HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    well = platform(lambda asked: (200, {"items": [], "total": 0}))
    with raw_server(serve) as (port, seen), well as (good, _):
        broken = f"http://127.0.0.1:{port}"
        with pytest.raises(OutcomeUnknown, match="its headers cannot be read"):
            call(fixed_client(broken, max_attempts=1), name)
        call(fixed_client(broken, good), "list")
    assert len(seen) == 2


@pytest.mark.parametrize(
    "header", ["Content-Type: multipart/mixed", "Content-Type: message/rfc822", "X-Folded: a\r\n b"]
)
def test_headers_of_other_kinds_are_read(header: str) -> None:
    content = json.dumps({"items": [item(1)], "total": 1})

    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            head = f"HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.sendall((head + content).encode())

    with raw_server(serve) as (port, seen):
        client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
        assert [client.page(1, 500).total for _ in range(3)] == [1, 1, 1]
    assert len(seen) == 1  # one connection


@pytest.mark.parametrize(
    "header",
    [
        "Retry-After: 1" + " " * 60_000 + "x",
        'Content-Type: multipart/x; a="' + ";" * 60_000,
        "Set-Cookie: " * 2000,
    ],
    ids=["wait", "type", "cookie"],
)
@pytest.mark.parametrize("name", ["list", "create"])
def test_headers_without_an_end_are_not_read(name: str, header: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    headers_are_long = pytest.raises(OutcomeUnknown, match="its headers are longer than 16 KiB")
    with raw_server(serve) as (port, _), headers_are_long:
        call(fixed_client(f"http://127.0.0.1:{port}", max_attempts=1), name)


def test_waits_and_dates_without_an_end_take_no_time() -> None:
    """With the number of spaces squared, the first would take days."""
    for value in ("1" + " " * 10**6 + "x", "Thu, " * 10**6, "9" * 10**6, "1, " + "2, " * 10**6):
        assert parse_retry_after(value, 0.0) in (None, 1.0)
        assert parse_date(value) is None
    assert parse_retry_after("7 seconds , 8", 0.0) == 7.0


@pytest.mark.parametrize("chunk", [b"-1\r\n", b"fffffffffff\r\n"])
def test_what_a_broken_length_announces_is_not_read_to_its_end(chunk: bytes) -> None:
    sent = 0

    def serve(connection: socket.socket, number: int) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        while True:
            sent += connection.send(bytes(2**16))

    with raw_server(serve) as (port, _):
        assert not fixed_client(f"http://127.0.0.1:{port}").check_health()[0].healthy
    assert 0 < sent < 64 * 2**20  # what the system's buffers hold comes on top of what is read


@pytest.mark.parametrize("packings", [2, 3])
@pytest.mark.parametrize("name", ["list", "create"])
def test_an_answer_that_is_packed_twice_is_not_unpacked(name: str, packings: int) -> None:
    content = json.dumps({"items": [item(1)], "total": 1}).encode()
    for _ in range(packings):
        content = gzip.compress(content)
    headers = {"Content-Encoding": ", ".join(["gzip"] * packings)}
    with platform(lambda asked: (200, content, headers)) as (origin, asked):
        with pytest.raises(OutcomeUnknown, match=r"not what the API answers \(packed twice\)"):
            call(fixed_client(origin, max_attempts=1), name)
        assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 500])
def test_a_refusal_of_mebibytes_is_read_for_no_message(status: int) -> None:
    content = json.dumps({"message": "told", "more": "x" * 2**21}).encode()
    with (
        platform(lambda asked: (status, content, {})) as (origin, _),
        pytest.raises(OutcomeUnknown, match=f"status {status}") as caught,
    ):
        call(fixed_client(origin, max_attempts=1), "list")
    assert "told" not in str(caught.value)


def test_entries_that_are_no_accounts_are_not_kept_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    content = json.dumps({"items": [0] * 100_000, "total": 100_000}).encode()
    with platform(lambda asked: (200, content, {})) as (origin, _):
        client = fixed_client(origin, max_attempts=1)
        with pytest.raises(OutcomeUnknown, match="its entries are not accounts"):
            list(client.iter_sub_accounts())
    assert len(caplog.records) < 10


@pytest.mark.parametrize("entry", [b"{}", b"[]", b"[[[]]]", b'{"id": 1}', b"0"])
def test_an_answer_of_nothing_but_brackets_takes_no_hundredfold_memory(entry: bytes) -> None:
    content = b'{"items": [' + b", ".join([entry] * (2**21 // len(entry))) + b"]}"
    tracemalloc.start()
    try:
        attempt = judge("https://one", 200, content, None, decode_page)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert attempt.detail == "status 200, but not what the API answers (its entries are not accounts)"
    assert peak < 8 * len(content)


def test_a_success_of_mebibytes_that_is_none_is_read_for_no_message() -> None:
    content = json.dumps({"success": False, "message": "told", "more": "x" * 2**21}).encode()
    attempt = judge("https://one", 200, content, None, decode_page)
    assert attempt.outcome is Outcome.UNKNOWN
    assert "told" not in attempt.detail


def test_a_long_listing_with_one_broken_entry_costs_that_entry() -> None:
    entries = [item(number, "a,b" * 20) for number in range(20_000)]
    page = decode_page(json.dumps({"items": [*entries, {"id": 0}], "total": 20_001}, indent=1).encode())
    assert len(page.items or ()) == 20_000
    assert [each.id for each in page.unreadable] == [0]


@pytest.mark.parametrize("first", [True, False])
def test_entries_with_an_id_are_told_one_by_one_however_many_there_are(first: bool) -> None:
    broken = [{"id": number, "alias": 7} for number in range(1500)]
    entries = [None, *broken] if first else [*broken, None]
    content = json.dumps({"items": [*entries, item(1501)], "total": 1502}).encode()
    with platform(lambda asked: (200, content, {})) as (origin, _):
        assert [account.id for account in fixed_client(origin).iter_sub_accounts()] == [1501]


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**30])
def test_an_id_of_any_size_is_an_id(number: int) -> None:
    entries = [item(1), item(number), item(2), item(number + 1), item(number)]
    content = json.dumps({"items": entries, "total": 4}).encode()
    with platform(lambda asked: (200, content, {})) as (origin, _):
        found = [account.id for account in fixed_client(origin).iter_sub_accounts()]
    assert found == [1, number, 2, number + 1]


@pytest.mark.parametrize("written", ["Thu Nov 26 22:07:20 2026", "Thu, 26 Nov 2026 22:07:20 -0000"])
def test_a_date_without_a_zone_is_in_utc(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        body = json.dumps({"items": [], "total": 0})
        head = f"HTTP/1.1 200 OK\r\nDate: {written}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())

    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        with raw_server(serve) as (port, _):
            client = fixed_client(f"http://127.0.0.1:{port}", max_attempts=1)
            list(client.iter_sub_accounts())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert client.platform_time == 1795730840.0
