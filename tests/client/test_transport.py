"""What goes out with a request, and where to: never a key to where it must not go."""

from __future__ import annotations

import base64
import gzip
import json
import platform as python_platform
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import (
    KEY,
    PROXY_VARIABLES,
    Asked,
    client_of,
    fixed_client,
    in_a_fork,
    item,
    platform,
    raw_server,
    read_request,
)

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.calls import LIST
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import DiscoveryError, OutcomeUnknown
from airflow_provider_closeai.client.transport import Transport, user_agent
from airflow_provider_closeai.simulator import Simulator

EMPTY = {"items": [], "total": 0}


def attempt(base: str, auth: bool = True, **extra: Any) -> Attempt:
    transport = Transport(config_from(password=KEY, extra=extra))
    return transport.attempt(msgspec.structs.replace(LIST, auth=auth), base, seconds=10)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_redirects_are_never_followed(status: int, method: str) -> None:
    with platform(lambda asked: (200, EMPTY)) as (target, stolen):
        with platform(lambda asked: (status, b"", {"Location": f"{target}/steal"})) as (origin, asked):
            transport = Transport(config_from(password=KEY))
            seen = transport.attempt(
                msgspec.structs.replace(LIST, method=method), origin, seconds=10, body={}
            )
            assert len(asked) == 1
        assert stolen == []
    assert seen.outcome is Outcome.UNKNOWN
    assert "redirect" in seen.detail


def test_a_redirecting_base_is_left_for_the_next(sim: Simulator) -> None:
    with platform(lambda asked: (200, EMPTY)) as (target, stolen):
        sim.fault("list", "redirect", base=0, to=f"{target}/steal")
        assert list(client_of(sim).iter_sub_accounts()) == []
        assert stolen == []
    assert sim.count("list", base=0) == sim.count("list", base=1) == 1


def test_netrc_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with platform(lambda asked: (200, EMPTY)) as (origin, asked):
        attempt(origin)
        attempt(origin, auth=False)
    assert [request.headers.get("authorization") for request in asked] == [f"Bearer {KEY}", None]


def test_user_agent(sim: Simulator) -> None:
    list(client_of(sim).iter_sub_accounts())
    assert {request.headers_seen["user-agent"] for request in sim.requests} == {user_agent()}
    assert f"python/{python_platform.python_version()}" in user_agent()


def test_whose_key_goes_where(sim: Simulator) -> None:
    client = client_of(sim)
    client.check_health()
    list(client.iter_sub_accounts())
    carried = {request.call: request.authorization for request in sim.requests}
    assert carried == {"links": "main", "healthy": "none", "list": "main"}


def test_addresses_hold_no_key(sim: Simulator) -> None:
    token = sim.add_account("a")["token"]
    client = client_of(sim)
    list(client.iter_sub_accounts(sk=token))
    client.check_health()
    for request in sim.requests:
        assert "sk-" not in f"{request.path}{request.query}"


def test_content_type_is_sent_with_every_call(sim: Simulator) -> None:
    client = client_of(sim)
    client.check_health()
    list(client.iter_sub_accounts())
    assert {request.headers_seen["content-type"] for request in sim.requests} == {"application/json"}


def proxied(asked: list[Asked]) -> list[str]:
    return [request.headers.get("host", "") for request in asked]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environments_proxy_is_used_where_none_is_configured(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert name.upper() in PROXY_VARIABLES
    with platform(lambda asked: (200, EMPTY)) as (proxy, asked):
        monkeypatch.setenv(name, proxy)
        assert attempt("http://127.0.0.1:9").outcome is Outcome.EXECUTED
        assert proxied(asked) == ["127.0.0.1:9"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert attempt("http://127.0.0.1:9").outcome is Outcome.NOT_SENT
        assert len(asked) == 1


def test_a_configured_proxy_comes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        platform(lambda asked: (200, EMPTY)) as (wanted, asked),
        platform(lambda asked: (200, EMPTY)) as (environment, wrong),
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, environment)
        assert attempt("http://127.0.0.1:9", proxies={"http": wanted}).outcome is Outcome.EXECUTED
        assert wrong == []
        assert len(asked) == 1


def test_no_proxies_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        platform(lambda asked: (200, EMPTY)) as (origin, asked),
        platform(lambda asked: (200, EMPTY)) as (environment, wrong),
    ):
        monkeypatch.setenv("HTTP_PROXY", environment)
        monkeypatch.setenv("http_proxy", environment)
        assert attempt(origin, proxies={}).outcome is Outcome.EXECUTED
        assert wrong == []
        assert len(asked) == 1


def test_a_proxy_that_does_not_connect_means_not_sent() -> None:
    """The bytes of a CONNECT are not bytes of the request, and the key is not among them."""
    with platform(lambda asked: (502, b"")) as (proxy, asked):
        seen = attempt("https://127.0.0.1:9", proxies={"https": proxy})
        assert [request.method for request in asked] == ["CONNECT"]
        assert "authorization" not in asked[0].headers
    assert seen.outcome is Outcome.NOT_SENT
    assert seen.detail == "the proxy failed"


def test_a_tunnel_that_dies_at_the_handshake_means_not_sent() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        connection.recv(65536)

    with raw_server(serve) as (port, _):
        seen = attempt("https://127.0.0.1:9", proxies={"https": f"http://127.0.0.1:{port}"})
    assert seen.outcome is Outcome.NOT_SENT


def test_a_proxys_password_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with platform(lambda asked: (502, b"")) as (proxy, _):
        address = proxy.replace("http://", "http://user:geheim@")
        client = fixed_client("http://127.0.0.1:9", proxies={"http": address}, max_attempts=1)
        with pytest.raises(OutcomeUnknown) as caught:
            list(client.iter_sub_accounts())
        assert "geheim" not in f"{caught.value}{client.config!r}{caplog.text}"
        assert base64.b64encode(b"user:geheim").decode() not in caplog.text


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_takes_no_connection_along() -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{"items":[],"total": 0}')

    with raw_server(serve) as (port, connections):
        transport = Transport(config_from(password=KEY))

        def ask() -> Attempt:
            return transport.attempt(LIST, f"http://127.0.0.1:{port}", seconds=10)

        assert ask().outcome is Outcome.EXECUTED
        assert in_a_fork(lambda: ask().outcome is Outcome.EXECUTED)
        assert ask().outcome is Outcome.EXECUTED
        assert len(connections) == 2


def packed(start: bytes, mebibytes: int, end: bytes) -> tuple[int, bytes, dict[str, str]]:
    """Give an answer that is well but for its length, which is hardly any on the wire."""
    return (
        200,
        gzip.compress(start + b" " * (mebibytes * 2**20) + end, 1),
        {"Content-Encoding": "gzip"},
    )


@pytest.mark.parametrize("call", ["list", "create"])
def test_of_an_answer_without_end_no_more_than_a_bound_is_read(call: str) -> None:
    account = json.dumps(item(1)).encode()
    answer = packed(b'{"total": 1, "items": [' + account, 65, b"]}")
    with platform(lambda asked: answer) as (origin, asked):
        client = fixed_client(origin, max_attempts=1)
        with pytest.raises(OutcomeUnknown, match=r"not what the API answers \(longer than 65536 KiB\)"):
            client.page(1, 500) if call == "list" else client.create("a", {"m": Decimal(1)}, Decimal(1), 1)
        assert len(asked) == 1
        if call == "list":
            assert client.page(1, -1).total == 1, "everything in one answer may be longer"


def test_a_probe_and_discovery_read_less(sim: Simulator) -> None:
    links = json.dumps([{"api": sim.base_urls[0], "priority": 1, "status": "ok"}]).encode()
    answers = {"/api/v1/healthy": packed(b"healthy", 1, b""), "/api/v1/links": packed(links[:-1], 2, b"]")}
    with platform(lambda asked: answers[asked.path]) as (origin, asked):
        assert not fixed_client(origin).check_health()[0].healthy
        with pytest.raises(DiscoveryError, match="longer than 1024 KiB"):
            CloseAIClient(config_from(password=KEY, host=origin)).list_bases()
        assert len(asked) == 2
