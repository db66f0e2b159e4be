"""The deadline bounds all that a call does: discovery, probes, each address of a name, what is sent last."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support import KEY, Asked, Reply, fixed_client, item, jumping_clock, platform
from urllib3.util import connection

from airflow_provider_closeai.client import errors
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from


def test_a_create_is_not_sent_once_the_deadline_has_passed() -> None:
    clock = jumping_clock()
    is_down = True

    def bad(asked: Asked) -> tuple[int, Any]:
        if asked.path == "/api/v1/healthy" and not is_down:
            clock.sleep(60)  # of the probe, which comes before the call
        return 500, {}

    def good(asked: Asked) -> tuple[int, Any]:
        return 200, {"items": [item(1)], "total": 1}

    with platform(bad) as (first, _), platform(good) as (second, asked):
        client = fixed_client(first, second, clock=clock, deadline=50, health_ttl=10)
        client.page(1, 500)
        is_down = False
        clock.sleep(10)
        with pytest.raises(errors.NotSent, match=r"deadline had passed.*discovery, the probe.*raise the"):
            client.create("a", {"m": Decimal(1)}, Decimal(1), 1)
        assert [each.method for each in asked] == ["GET"]
        assert client.create("a", {"m": Decimal(1)}, Decimal(1), 1)  # the next call has its own


def test_of_several_bases_that_were_bad_a_call_probes_one() -> None:
    clock = jumping_clock()

    def good(asked: Asked) -> tuple[int, Any]:
        return 200, {"items": [], "total": 0}

    with contextlib.ExitStack() as stack:
        bad = [stack.enter_context(platform(lambda asked: (500, {}))) for _ in range(3)]
        origin, _ = stack.enter_context(platform(good))
        client = fixed_client(*[base for base, _ in bad], origin, clock=clock, health_ttl=10)
        client.page(1, 500)
        for probed in (1, 2, 3):
            clock.sleep(10 if probed == 1 else 0)
            client.page(1, 500)
            assert sum(each.path == "/api/v1/healthy" for _, asked in bad for each in asked) == probed


def test_a_base_that_came_back_is_found_though_calls_are_rare_and_a_better_one_stays_bad() -> None:
    clock = jumping_clock()
    is_down = True

    def recovering(asked: Asked) -> tuple[int, Any]:
        return (
            (500, {}) if is_down else (200, b"healthy") if "healthy" in asked.path else (200, {"items": []})
        )

    with contextlib.ExitStack() as stack:
        answers: tuple[Reply, ...] = (
            lambda asked: (500, {}),
            recovering,
            lambda asked: (200, {"items": [], "total": 0}),
        )
        bases = [stack.enter_context(platform(answer)) for answer in answers]
        client = fixed_client(*[base for base, _ in bases], clock=clock, health_ttl=10)
        client.page(1, 500)
        is_down = False
        for _ in range(3):
            clock.sleep(86_400)
            client.page(1, 500)
        assert client.list_bases()[0].api == bases[1][0]


def test_where_discovery_took_half_of_a_calls_time_nothing_is_probed() -> None:
    clock = jumping_clock()
    is_slow = False

    def better(asked: Asked) -> tuple[int, Any]:
        if asked.path == "/api/v1/healthy":
            clock.sleep(25)
        return 500, {}

    def good(asked: Asked) -> tuple[int, Any]:
        if asked.path == "/api/v1/links":
            if is_slow:
                clock.sleep(25)
                return 500, {}
            return 200, [{"api": first, "priority": 2}, {"api": second, "priority": 1}]
        return 200, {"items": [], "total": 0}

    with platform(better) as (first, _), platform(good) as (second, asked):
        config = config_from(password=KEY, host=second, extra={"deadline": 40, "discovery_ttl": 10})
        client = CloseAIClient(config, clock=clock)
        client.page(1, 500)
        is_slow = True
        clock.sleep(3600)
        assert client.page(1, 500).total == 0
        assert [each.path for each in asked].count("/api/v1/links") == 2


def test_discovery_is_asked_again_only_where_there_is_time() -> None:
    clock = jumping_clock()

    def slow(asked: Asked) -> tuple[int, Any, dict[str, str]]:
        clock.sleep(19)
        return 429, {}, {"Retry-After": "5"}

    with platform(slow) as (origin, asked):
        client = CloseAIClient(config_from(password=KEY, host=origin, extra={"deadline": 40}), clock=clock)
        with pytest.raises(errors.DiscoveryError, match="429"):
            client.page(1, 500)
        assert len(asked) == 1


@contextlib.contextmanager
def swallowing(*addresses: str, port: int = 0) -> Iterator[int]:
    """Take a port of each address, at which connects are neither accepted nor refused."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            port = listener.getsockname()[1]
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex((address, port))
        yield port


def name(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let ``localhost`` have several addresses."""
    ask = socket.getaddrinfo

    def found(host: Any, port: Any, *args: Any) -> Any:
        if host == "localhost":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]
        return ask(host, port, *args)

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_looking_a_name_up_takes_nothing_from_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, connect, given = socket.getaddrinfo, connection.create_connection, []

    def slow(*args: Any) -> Any:
        time.sleep(0.3)  # a server of names that does not answer
        return ask(*args)

    def noting(address: Any, timeout: Any, **more: Any) -> socket.socket:
        given.append(timeout)
        return connect(address, timeout, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(connection, "create_connection", noting)
    with platform(lambda asked: (200, {"items": [], "total": 0})) as (origin, _):
        fixed_client(origin, connect_timeout=0.2, read_timeout=9, max_attempts=1).page(1, 500)
    assert given == [pytest.approx(0.2, abs=0.01)]


def test_a_name_is_looked_up_with_the_dot_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unknown(host: str, *args: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.NotSent, match="does not resolve"):
        fixed_client("https://closeai.invalid.", max_attempts=1).page(1, 500)
    assert asked == ["closeai.invalid."]


def test_the_addresses_of_a_name_share_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 12)]
    name(monkeypatch, *addresses)
    with swallowing(*addresses) as port:
        client = fixed_client(f"http://localhost:{port}", connect_timeout=3, max_attempts=1)
        started = time.monotonic()
        with pytest.raises(errors.NotSent, match="no connection within 3 s"):
            client.page(1, 500)
        assert time.monotonic() - started < 15  # and not ten times three


@pytest.mark.parametrize("first", ["swallows", "refuses"])
def test_an_address_that_is_dead_leaves_time_for_the_next(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name(monkeypatch, "127.0.0.2", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        origin, asked = stack.enter_context(platform(lambda asked: (200, {"items": [], "total": 0})))
        port = int(origin.rsplit(":", 1)[1])
        if first == "swallows":
            stack.enter_context(swallowing("127.0.0.2", port=port))
        client = fixed_client(f"http://localhost:{port}", connect_timeout=1, read_timeout=9, max_attempts=1)
        assert client.page(1, 500).total == 0
        assert asked[0].headers["host"] == f"localhost:{port}"


def test_a_time_without_end_is_one_that_sockets_and_threads_can_wait() -> None:
    endless: dict[str, Any] = dict.fromkeys(
        ("connect_timeout", "read_timeout", "deadline", "health_ttl", "max_late"), 1e12
    )
    with platform(lambda asked: (200, {"items": [], "total": 0})) as (origin, _):
        client = fixed_client(origin, **endless)
        assert client.page(1, 500).total == 0
        assert client.config.deadline <= threading.TIMEOUT_MAX
