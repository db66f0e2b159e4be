"""What the outcome of one attempt proves, over real sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support import HANG, KEY, config_of, fixed_client, platform, raw_server, read_request

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.calls import CREATE, LIST
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.simulator import Simulator

OK = b'{"items":[],"total":0}'
NO = b'{"error":{"message":"no"}}'
BOM = b"\xef\xbb\xbf"
BODY = {"alias": "a", "model_pricing": [], "balance": 1, "count": 1}


def attempt(base: str, seconds: float = 10, fresh: bool = False, **extra: Any) -> Attempt:
    transport = Transport(config_from(password=KEY, extra=extra))
    return transport.attempt(LIST, base, seconds=seconds, fresh=fresh)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_name_that_does_not_resolve_is_not_sent() -> None:
    seen = attempt("https://no-such-host.invalid")
    assert seen.outcome is Outcome.NOT_SENT
    assert seen.detail == "the name does not resolve"


def test_refused_is_not_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        seen = attempt(f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert seen.outcome is Outcome.NOT_SENT
    assert seen.detail == "connection refused"
    assert seen.status is None


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port at which connects are neither accepted nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for connection in waiting:
            connection.close()


def test_a_connect_timeout_is_not_sent(full_backlog: int) -> None:
    seen = attempt(f"http://127.0.0.1:{full_backlog}", connect_timeout=0.2)
    assert seen.outcome is Outcome.NOT_SENT
    assert seen.detail == "no connection within 0.2 s"


def test_the_deadline_bounds_the_connect_too(full_backlog: int) -> None:
    started = time.monotonic()
    assert (
        attempt(f"http://127.0.0.1:{full_backlog}", seconds=0.2, connect_timeout=30).outcome
        is Outcome.NOT_SENT
    )
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 200 OK\r\n\r\nhealthy"], ids=["reset", "closed", "no TLS"]
)
def test_a_broken_handshake_is_not_sent(answer: bytes | None) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        if answer is None:
            reset(connection)
        else:
            connection.sendall(answer)

    with raw_server(serve) as (port, _):
        seen = attempt(f"https://127.0.0.1:{port}")
    assert seen.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("after", ["reset", "closed"])
def test_cut_once_the_request_may_have_been_read_is_unknown(after: str) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        if after == "reset":
            reset(connection)

    with raw_server(serve) as (port, seen):
        result = attempt(f"http://127.0.0.1:{port}")
        assert seen == [0]
    assert result.outcome is Outcome.UNKNOWN
    assert result.detail == "the connection was cut before a whole answer came"


def test_cut_before_a_byte_was_read_is_unknown_all_the_same() -> None:
    with raw_server(lambda connection, number: reset(connection)) as (port, _):
        seen = attempt(f"http://127.0.0.1:{port}")
    # Which of the two depends on when the reset comes; either way nothing is taken for executed.
    assert seen.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)


STATUSES = [
    *((status, b"", Outcome.UNKNOWN) for status in (300, 301, 302, 303, 304, 307, 308)),
    *((status, b"", Outcome.UNKNOWN) for status in (400, 401, 403, 404, 405, 409, 413, 422, 451)),
    *((status, NO, Outcome.REJECTED) for status in (400, 401, 403, 409, 413, 422, 451)),
    *((status, NO, Outcome.UNKNOWN) for status in (404, 405)),
    *((status, form, Outcome.REJECTED) for status in (408, 429) for form in (b"", NO, b"<html>wait</html>")),
    *((400, form, Outcome.REJECTED) for form in (b'{"message":"no"}', b'{"detail":"no"}', BOM + NO)),
    *(
        (403, form, Outcome.UNKNOWN)
        for form in (b"<html>", b"no", b"{}", b"[]", b'{"message":" "}', b'{"code":1}')
    ),
    (400, b'{"error":{"message":"half \\ud83d"}}', Outcome.REJECTED),
    (200, b'{"success":false,"message":"busy"}', Outcome.DECLINED),
    (200, b'{"items":[],"total":0,"success":false}', Outcome.DECLINED),
    (200, b'{"error":{"message":"busy"}}', Outcome.DECLINED),
    (200, b'{"items":[],"error":{"code":7}}', Outcome.DECLINED),
    (200, b'{"code":0,"message":"ok"}', Outcome.UNKNOWN),
    (200, b'{"code":200,"status":"ok"}', Outcome.UNKNOWN),
    *((200, b'{"code":%d,"message":"busy"}' % code, Outcome.UNKNOWN) for code in (408, 429, 500, 502)),
    (200, b'{"status":"error"}', Outcome.UNKNOWN),
    (200, b'{"code":"--5","message":"no"}', Outcome.UNKNOWN),
    (200, b'{"code":' + b"5" * 5_000 + b"}", Outcome.UNKNOWN),
    (200, b'{"items":[],"total":0,"code":7,"status":"error"}', Outcome.EXECUTED),
    (200, b'{"items":[{"id":1,"token":"sk-a","alias":"a\nb"}]}', Outcome.EXECUTED),
    (200, BOM + OK, Outcome.EXECUTED),
    (200, BOM + b" " + OK, Outcome.EXECUTED),
    (200, b'{"items":[],"error":null}', Outcome.EXECUTED),
    *((status, b"", Outcome.UNKNOWN) for status in (500, 501, 502, 503, 504, 520, 599)),
    (200, OK, Outcome.EXECUTED),
    (201, OK, Outcome.EXECUTED),
    (200, b"<html>parked</html>", Outcome.UNKNOWN),
    (200, b"", Outcome.UNKNOWN),
    (204, b"", Outcome.UNKNOWN),
    (200, b"{}", Outcome.UNKNOWN),
    (200, b"null", Outcome.UNKNOWN),
    (200, b"[]", Outcome.UNKNOWN),
    (200, OK[:-3], Outcome.UNKNOWN),
    (200, b"\xff\xfe", Outcome.UNKNOWN),
    (200, b'{"items":[{"id":1,"token":"\xff"}]}', Outcome.EXECUTED),
    (200, b'{"items":[],"x":' + b"[" * 100_000, Outcome.UNKNOWN),
    (400, b'{"error":{"message":"\xff"}}', Outcome.REJECTED),
    (400, b'{"error":{"message":5}}', Outcome.UNKNOWN),
    (400, b'{"error":' + b"[" * 100_000, Outcome.UNKNOWN),
    (502, b"<html>bad gateway</html>", Outcome.UNKNOWN),
]


@pytest.mark.parametrize(
    ("status", "content", "outcome"),
    STATUSES,
    ids=[f"{status} {content[:20]!r}" for status, content, _ in STATUSES],
)
def test_what_an_answer_proves(status: int, content: bytes, outcome: Outcome) -> None:
    with platform(lambda asked: (status, content)) as (origin, asked):
        seen = attempt(origin)
        assert len(asked) == 1
    assert seen.outcome is outcome
    assert seen.status == status
    assert str(status) in seen.detail or outcome is Outcome.EXECUTED
    assert "[[" not in seen.detail


def test_a_web_page_is_called_one() -> None:
    with platform(lambda asked: (200, b" <!doctype html>")) as (origin, _):
        assert attempt(origin).detail == "status 200, but a web page"


@pytest.mark.parametrize("value", ["\xb2", "soon", "-5", "", "1e3", "inf", "9" * 400])
def test_an_odd_retry_after_breaks_nothing(value: str) -> None:
    with platform(lambda asked: (429, b"", {"Retry-After": value})) as (origin, _):
        seen = attempt(origin)
    assert seen.outcome is Outcome.REJECTED
    assert seen.retry_after is None


@pytest.mark.parametrize(
    ("kind", "options", "outcome"),
    [
        ("cut_before", {}, Outcome.UNKNOWN),
        ("cut_after", {}, Outcome.UNKNOWN),
        ("hang", {}, Outcome.UNKNOWN),
        ("slow", {"seconds": 20}, Outcome.UNKNOWN),
        ("garbage", {}, Outcome.UNKNOWN),
        ("parked", {}, Outcome.UNKNOWN),
        ("redirect", {}, Outcome.UNKNOWN),
        ("error_before", {}, Outcome.UNKNOWN),
        ("error_after", {}, Outcome.UNKNOWN),
        ("rate_limit", {"retry_after": 7}, Outcome.REJECTED),
        ("drip", {"seconds": 0.0}, Outcome.EXECUTED),
    ],
)
@pytest.mark.parametrize("call", ["list", "create"])
def test_what_each_fault_proves(
    sim: Simulator, call: str, kind: str, options: dict[str, Any], outcome: Outcome
) -> None:
    sim.fault(call, kind, **options)
    transport = Transport(config_of(sim, read_timeout=0.3 if kind in ("hang", "slow") else 30))
    kinds = {"list": (LIST, None), "create": (CREATE, BODY)}
    asked, body = kinds[call]
    seen = transport.attempt(asked, sim.base_urls[0], seconds=10, body=body)
    assert seen.outcome is outcome
    assert seen.retry_after == options.get("retry_after")
    assert sim.count(call) == 1


def dripping(head: bytes, piece: bytes, stop: threading.Event) -> Callable[[socket.socket, int], None]:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(head)
        while not stop.wait(0.02):
            connection.sendall(piece)

    return serve


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["headers", "one header", "body", "body until closed", "chunks", "continue"],
)
def test_a_dripping_answer_ends_at_the_deadline(head: bytes, piece: bytes) -> None:
    stop = threading.Event()
    with raw_server(dripping(head, piece, stop)) as (port, _):
        started = time.monotonic()
        seen = attempt(f"http://127.0.0.1:{port}", seconds=0.3, read_timeout=60)
        stop.set()
    assert seen.outcome is Outcome.UNKNOWN
    assert time.monotonic() - started < HANG / 2


def test_no_answer_within_the_read_timeout_says_so(sim: Simulator) -> None:
    sim.fault("list", "hang")
    seen = attempt(sim.base_urls[0], read_timeout=0.2)
    assert (seen.outcome, seen.detail) == (Outcome.UNKNOWN, "no answer within 0.2 s")


def test_no_watchdog_is_left_behind(sim: Simulator) -> None:
    for _ in range(5):
        attempt(sim.base_urls[0], seconds=3600)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
            assert not thread.is_alive()


class KeepAlive:
    """A server that answers the first request of each connection, and only reads the next."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.idle = threading.Event()

    def __call__(self, connection: socket.socket, number: int) -> None:
        if not read_request(connection):
            return
        self.read.append(number)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK)
        if read_request(connection):
            self.read.append(number)


def test_a_kept_connection_that_dies_under_a_request_leaves_it_unknown() -> None:
    server = KeepAlive()
    with raw_server(server) as (port, connections):
        transport = Transport(config_from(password=KEY))

        def go(fresh: bool) -> Attempt:
            origin = f"http://127.0.0.1:{port}"
            return transport.attempt(LIST, origin, seconds=10, fresh=fresh)

        assert go(fresh=False).outcome is Outcome.EXECUTED
        cut = go(fresh=False)
        assert (cut.outcome, cut.is_stale) == (Outcome.UNKNOWN, True)
        assert server.read == [0, 0]
        assert go(fresh=False).outcome is Outcome.EXECUTED
        assert go(fresh=True).outcome is Outcome.EXECUTED
        assert connections == [0, 1, 2]


def test_a_kept_connection_that_dies_is_no_fault_of_its_base() -> None:
    server = KeepAlive()
    with raw_server(server) as (port, connections):
        client = fixed_client(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/second", max_attempts=1)
        assert list(client.iter_sub_accounts()) == []
        assert list(client.iter_sub_accounts()) == []
        assert server.read == [0, 0, 1]
        assert connections == [0, 1]
        assert [seen.healthy for seen in client.cache.read().verdicts.values()] == [True]


def test_only_a_kept_connection_can_be_stale() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        if number == 0 and read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK)
        read_request(connection)  # and cut

    with raw_server(serve) as (port, connections):
        transport = Transport(config_from(password=KEY))
        seen = [transport.attempt(LIST, f"http://127.0.0.1:{port}", seconds=10) for _ in range(3)]
        assert [each.is_stale for each in seen] == [False, True, False]
        assert connections == [0, 1]


def test_a_connection_that_was_closed_while_idle_costs_nothing() -> None:
    closed = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        if read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK)
            connection.shutdown(socket.SHUT_RDWR)
            closed.set()

    with raw_server(serve) as (port, connections):
        transport = Transport(config_from(password=KEY))
        for _ in range(3):
            closed.clear()
            seen = transport.attempt(LIST, f"http://127.0.0.1:{port}", seconds=10)
            assert seen.outcome is Outcome.EXECUTED
            assert closed.wait(HANG)
        assert connections == [0, 1, 2]


def test_a_create_never_goes_out_on_a_connection_that_was_idle() -> None:
    """There a lost answer and a request that was never read would look the same."""
    answer = b'{"items":[],"total":0,"success":true}'

    def serve(connection: socket.socket, number: int) -> None:
        if read_request(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            read_request(connection)  # and never answer on this connection again

    with raw_server(serve) as (port, connections):
        client = fixed_client(f"http://127.0.0.1:{port}")
        assert list(client.iter_sub_accounts()) == []
        assert client.create("a", {"m": Decimal(1)}, Decimal(1), 1) == ()
        assert connections == [0, 1]
