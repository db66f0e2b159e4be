"""Each kind of fault over real sockets: what the client sees, and whether the work was done."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_closeai.simulator import Request, Simulator

CREATE = b'{"alias":"a","balance":1,"model_pricing":[]}'


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def send_create(sim: Simulator) -> socket.socket:
    connection = socket.create_connection(address(sim.base_urls[0]), timeout=10)
    head = (
        "POST /api/v1/account/sub-account/token HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {sim.key}\r\nContent-Length: {len(CREATE)}\r\n\r\n"
    )
    connection.sendall(head.encode() + CREATE)
    return connection


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def handlers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "process_request" in thread.name}


def only(sim: Simulator) -> Request:
    [request] = sim.requests
    return request


@pytest.fixture
def threads_end() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until(lambda: not set(threading.enumerate()) - before, "threads are left")


@pytest.mark.parametrize(("kind", "made"), [("cut_before", 0), ("cut_after", 1)])
def test_cuts_are_resets(sim: Simulator, kind: str, made: int) -> None:
    sim.fault("create", kind)
    with send_create(sim) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert len(sim.accounts()) == made
    request = only(sim)
    assert (request.status, request.executed, request.fault) == (None, bool(made), kind)


@pytest.mark.parametrize(("kind", "made"), [("error_before", 0), ("error_after", 1)])
@pytest.mark.parametrize("status", [500, 503])
def test_errors(ask: Any, sim: Simulator, kind: str, made: int, status: int) -> None:
    sim.fault("create", kind, **({} if status == 500 else {"status": status}))
    reply = ask.create()
    assert reply.status == status
    assert "message" in reply.json()["error"]
    assert len(sim.accounts()) == made
    assert (only(sim).status, only(sim).executed) == (status, bool(made))


@pytest.mark.parametrize("work", [False, True])
def test_hang_ends_when_the_client_goes(sim: Simulator, work: bool) -> None:
    others = handlers()  # of servers of other tests, which live on
    sim.fault("create", "hang", work=work)
    with send_create(sim) as connection:
        until(lambda: sim.requests and sim.requests[0].fault, "the request did not come")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    until(lambda: not handlers() - others, "the handler still waits")
    assert len(sim.accounts()) == work
    assert (only(sim).status, only(sim).executed) == (None, work)


def test_hang_ends_after_its_seconds(sim: Simulator) -> None:
    sim.fault("create", "hang", seconds=0.05)
    with send_create(sim) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert sim.accounts() == []


@pytest.mark.parametrize(
    ("kind", "options"), [("hang", {}), ("drip", {"seconds": 60}), ("slow", {"seconds": 60})]
)
def test_stopping_ends_every_wait(threads_end: None, kind: str, options: dict[str, Any]) -> None:
    with Simulator() as sim:
        sim.fault("create", kind, **options)
        connection = send_create(sim)
        until(lambda: sim.requests and sim.requests[0].fault, "the request did not come")
        started = time.monotonic()
    assert time.monotonic() - started < 0.9
    connection.close()


@pytest.mark.parametrize("after", [None, 7, "Wed, 25 Nov 2026 01:00:00 GMT"])
def test_rate_limit(ask: Any, sim: Simulator, after: Any) -> None:
    sim.fault("create", "rate_limit", retry_after=after)
    reply = ask.create()
    assert reply.status == 429
    assert reply.headers.get("retry-after") == (None if after is None else str(after))
    assert sim.accounts() == []


def test_parked(ask: Any, sim: Simulator) -> None:
    sim.fault("*", "parked", base=0, times=None)
    for reply in (ask.create(), ask("healthy"), ask("list")):
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("text/html")
        assert "<html>" in reply.text
    assert sim.accounts() == []
    assert ask("healthy", base=1).text == "healthy"
    assert ask("links").status == 200


def test_garbage(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "garbage")
    reply = ask.create()
    assert (reply.status, reply.text[0]) == (200, "{")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        reply.json()
    assert len(sim.accounts()) == 1


def test_slow_is_right_but_late(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "slow", seconds=0.1)
    started = time.monotonic()
    assert ask.create().json()["success"] is True
    assert time.monotonic() - started >= 0.1


def test_slow_that_nobody_waited_for_was_done(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "slow", seconds=60)
    body = {"alias": "a", "balance": 1, "model_pricing": []}
    with pytest.raises(TimeoutError):
        ask("create", body, timeout=0.1)
    assert len(sim.accounts()) == 1
    assert (only(sim).status, only(sim).executed) == (None, True)


def test_drip_waits_before_each_byte(sim: Simulator) -> None:
    sim.fault("create", "drip", seconds=0.001)
    with send_create(sim) as connection:
        data, began = b"", time.monotonic()
        while not data.endswith(b'"success":true}'):
            part = connection.recv(4096)
            assert part
            data += part
        body = data.partition(b"\r\n\r\n")[2]
        # How many come at once in here says nothing: a busy machine collects them.
        assert time.monotonic() - began >= 0.0005 * len(body)
    assert only(sim).status == 200


def test_status(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "status", status=418, body={"error": {"message": "teapot"}})
    assert (ask.create().status, ask.create().status) == (418, 200)
    sim.fault("list", "status", status=299)
    assert ask("list").status == 299


def test_redirect(ask: Any, sim: Simulator) -> None:
    sim.fault("create", "redirect", to="http://127.0.0.1:1/elsewhere")
    reply = ask.create()
    assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:1/elsewhere")
    assert sim.accounts() == []


def test_unhealthy(ask: Any, sim: Simulator) -> None:
    sim.fault("healthy", "unhealthy", base=1)
    assert [ask("healthy", base=base).text for base in (0, 1, 1)] == ["healthy", "unhealthy", "healthy"]


def test_times_skip_and_base(ask: Any, sim: Simulator) -> None:
    fault = sim.fault("list", "error_before", base=1, times=2, skip=1)
    assert [ask("list", base=1).status for _ in range(4)] == [200, 500, 500, 200]
    assert ask("list").status == 200
    assert fault.hits == 2
    sim.fault("list", "error_before", times=None)
    assert [ask("list", base=base).status for base in (0, 1, 0)] == [500, 500, 500]
    sim.clear_faults()
    assert ask("list").status == 200


def test_faults_of_links(ask: Any, sim: Simulator) -> None:
    sim.fault("links", "error_before", status=502)
    assert [ask("healthy").status, ask("links").status, ask("links").status] == [200, 502, 200]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("nothing", "hang"), {}, "call must be"),
        (("list", "explode"), {}, "kind must be"),
        (("list", "unhealthy"), {}, "of the call healthy only"),
        (("list", "hang"), {"second": 1}, "no option second"),
        (("list", "hang", 2), {}, "no base 2"),
        (("links", "hang", 0), {}, "leave base out"),
    ],
    ids=str,
)
def test_faults_that_cannot_be(
    sim: Simulator, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sim.fault(*arguments, **options)


def test_stop_base_refuses_and_start_base_serves_on_the_same_port(ask: Any, sim: Simulator) -> None:
    before = sim.base_urls
    kept = http.client.HTTPConnection(*address(before[0]), timeout=10)
    kept.request("GET", "/api/v1/healthy")
    assert kept.getresponse().read() == b"healthy"
    for _ in range(3):
        sim.stop_base(0)
        with pytest.raises(ConnectionRefusedError):
            ask("healthy")
        assert ask("healthy", base=1).status == 200
        sim.start_base(0)
        assert ask("healthy").text == "healthy"
    assert sim.base_urls == before
    assert kept.sock.recv(1) == b"", "the kept-alive connection was not cut"
    kept.close()


def test_a_base_can_be_stopped_in_the_middle_of_its_request(ask: Any, sim: Simulator) -> None:
    others = handlers()
    sim.on_request = lambda request: sim.stop_base(0)
    started = time.monotonic()
    with pytest.raises(ConnectionError):
        ask.create()
    assert time.monotonic() - started < 5
    until(lambda: not handlers() - others, "the handler did not end")
    assert (only(sim).status, only(sim).executed) == (None, True), "it was at work already"


def test_a_stopped_port_is_kept(sim: Simulator) -> None:
    sim.stop_base(0)
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(address(sim.base_urls[0]))


def test_stop_discovery(ask: Any, sim: Simulator) -> None:
    sim.stop_discovery()
    with pytest.raises(ConnectionRefusedError):
        ask("links")
    assert ask("healthy").status == 200
    sim.start_discovery()
    assert ask("links").status == 200
