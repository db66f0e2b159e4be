"""Networks that fail in their own ways: reused connections, late work, swallowed and moved bases."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from airflow_provider_closeai.simulator import Simulator

CREATE = '{"alias":"a","balance":1,"model_pricing":[]}'


def connection_to(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)


def send(connection: http.client.HTTPConnection, sim: Simulator, call: str = "create") -> bytes:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {sim.key}"}
    if call == "create":
        connection.request("POST", "/api/v1/account/sub-account/token", CREATE, headers)
    else:
        connection.request("GET", "/api/v1/healthy", headers=headers)
    return connection.getresponse().read()


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def test_cut_reused_waits_for_a_reused_connection(sim: Simulator) -> None:
    fault = sim.fault("*", "cut_reused", base=0)
    first, second = connection_to(sim.base_urls[0]), connection_to(sim.base_urls[0])
    for connection in (first, second):
        send(connection, sim)
    assert (fault.hits, len(sim.accounts())) == (0, 2)
    with pytest.raises(ConnectionResetError):
        send(first, sim)
    assert (fault.hits, len(sim.accounts())) == (1, 2)
    assert (sim.requests[-1].status, sim.requests[-1].executed) == (None, False)
    send(second, sim)  # it was used up
    first.close()
    send(first, sim)  # opens a new connection
    assert len(sim.accounts()) == 4
    for connection in (first, second):
        connection.close()


def test_cut_reused_skips_and_counts_reused_ones_only(sim: Simulator) -> None:
    fault = sim.fault("create", "cut_reused", times=1, skip=1)
    with contextlib.closing(connection_to(sim.base_urls[0])) as connection:
        send(connection, sim)
        send(connection, sim)
        assert (fault.hits, fault.skip) == (0, 0)
        send(connection, sim, "healthy")
        with pytest.raises(ConnectionResetError):
            send(connection, sim)


def test_late_work_is_done_after_its_client_has_gone(sim: Simulator) -> None:
    sim.fault("create", "late", seconds=0.3)
    started = time.monotonic()
    with (
        contextlib.closing(connection_to(sim.base_urls[0])) as connection,
        pytest.raises(ConnectionResetError),
    ):
        send(connection, sim)
    until(sim.accounts, "it was never done")
    assert time.monotonic() - started >= 0.3
    until(lambda: sim.requests[0].executed, "it was not noted")
    assert sim.requests[0].status is None


def test_late_work_of_a_base_that_has_gone_is_done(sim: Simulator) -> None:
    sim.fault("create", "late", seconds=0.05)
    with contextlib.closing(connection_to(sim.base_urls[0])) as connection:
        with pytest.raises(ConnectionResetError):
            send(connection, sim)
        sim.stop_base(0)
    until(sim.accounts, "it was never done")


def test_stopping_drops_late_work_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with Simulator() as sim:
        sim.fault("create", "late", seconds=600, times=None)
        for _ in range(3):
            with (
                contextlib.closing(connection_to(sim.base_urls[0])) as connection,
                pytest.raises(ConnectionResetError),
            ):
                send(connection, sim)
        assert [request.executed for request in sim.requests] == [False] * 3
        started = time.monotonic()
    assert time.monotonic() - started < 60
    until(lambda: not set(threading.enumerate()) - before, "threads are left")
    assert sim.accounts() == []


@pytest.fixture
def swallowed(sim: Simulator) -> Simulator:
    sim.swallow_base(0)
    return sim


def connecting(port: int) -> int:
    """Count the connections of this process to a port that nobody accepts or refuses."""
    found = psutil.Process().net_connections("tcp")
    return sum(each.status == psutil.CONN_SYN_SENT and each.raddr.port == port for each in found)


def silent(url: str) -> bool:
    """Whether nobody accepts, and nobody refuses either."""
    try:
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=0.2).close()
    except TimeoutError:
        return True
    except ConnectionRefusedError:
        pass
    return False


def test_a_swallowed_base_neither_accepts_nor_refuses(ask: Any, swallowed: Simulator) -> None:
    sim = swallowed
    before = sim.base_urls
    assert [silent(before[0]) for _ in range(3)] == [True] * 3
    sim.swallow_base(0)  # it is already
    assert silent(before[0])
    assert ask("healthy", base=1).text == "healthy"
    sim.start_base(0)
    assert ask("healthy").text == "healthy"
    assert (sim.base_urls, [link["api"] for link in ask("links").json()]) == (before, before)
    sim.swallow_base(0)
    sim.stop_base(0)
    with pytest.raises(ConnectionRefusedError):
        ask("healthy")
    sim.swallow_base(0)
    assert silent(before[0])


def test_who_waits_for_a_swallowed_base_gets_in_when_it_is_back(swallowed: Simulator) -> None:
    answers: list[bytes] = []
    connection = connection_to(swallowed.base_urls[0])
    waiting = threading.Thread(target=lambda: answers.append(send(connection, swallowed, "healthy")))
    others = connecting(connection.port)  # with which its queue is kept full
    waiting.start()
    until(lambda: connecting(connection.port) > others, "it waits for the base")
    swallowed.start_base(0)
    waiting.join(10)
    connection.close()
    assert answers == [b"healthy"]


def test_open_connections_to_a_swallowed_base_hear_nothing(sim: Simulator) -> None:
    with contextlib.closing(connection_to(sim.base_urls[0])) as connection:
        send(connection, sim, "healthy")
        sim.swallow_base(0)
        connection.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            send(connection, sim)
    assert sim.accounts() == []
    assert sim.count("create") == 0


def test_an_answer_under_way_is_swallowed(sim: Simulator) -> None:
    sim.on_request = lambda request: sim.swallow_base(0)
    with contextlib.closing(connection_to(sim.base_urls[0])) as connection:
        connection.timeout = 0.3
        with pytest.raises(TimeoutError):
            send(connection, sim)
    assert len(sim.accounts()) == 1, "it came before the network went"


def test_stopping_a_simulator_whose_bases_swallow_leaves_nothing() -> None:
    before = set(threading.enumerate())
    with Simulator() as sim, contextlib.closing(connection_to(sim.base_urls[0])) as connection:
        url = sim.base_urls[0]
        send(connection, sim, "healthy")
        sim.swallow_base(0)
        sim.swallow_base(1)
    until(lambda: not set(threading.enumerate()) - before, "threads are left")
    with pytest.raises(ConnectionRefusedError):
        connection_to(url).connect()


def test_moved_bases(ask: Any, sim: Simulator) -> None:
    old = sim.base_urls
    kept = connection_to(old[1])
    send(kept, sim)
    sim.stop_base(0)
    for _ in range(2):
        before = sim.base_urls
        sim.move_bases()
        assert not set(sim.base_urls) & {*before, *old}
        assert [link["api"] for link in ask("links").json()] == sim.base_urls
        assert [ask("healthy", base=base).text for base in (0, 1)] == ["healthy"] * 2
        for url in (*before, *old):
            with pytest.raises(ConnectionRefusedError):
                connection_to(url).connect()
            with socket.socket() as thief, pytest.raises(OSError, match="in use"):
                thief.bind((urlsplit(url).hostname, urlsplit(url).port))
    assert kept.sock.recv(1) == b"", "the kept-alive connection was not cut"
    kept.close()
    assert len(ask("list").json()["items"]) == 1
    assert (sim.requests[-1].host, sim.count("list", base=0)) == ("base-0", 1)


def test_a_swallowed_base_can_be_moved(ask: Any, swallowed: Simulator) -> None:
    old = swallowed.base_urls[0]
    swallowed.move_bases()
    assert ask("healthy").text == "healthy"
    with pytest.raises(ConnectionRefusedError):
        connection_to(old).connect()
