"""Proxies: SOCKS, exceptions from them, and what is told when one cannot be used."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from socks_server import Tunnel, socks_server
from support import KEY, PROXY_VARIABLES, fixed_client, platform

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.calls import LIST
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ConfigError, NotSent, OutcomeUnknown
from airflow_provider_closeai.client.proxies import proxies_for
from airflow_provider_closeai.client.transport import Transport
from airflow_provider_closeai.simulator import Simulator

EMPTY = {"items": [], "total": 0}


def attempt(base: str, **extra: Any) -> Attempt:
    transport = Transport(config_from(password=KEY, extra=extra))
    return transport.attempt(LIST, base, seconds=10)


# --- SOCKS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "host", "tunnel"),
    [
        ("socks5h", "localhost", (5, "localhost")),
        ("SOCKS5H", "localhost", (5, "localhost")),
        ("socks5", "127.0.0.1", (5, "127.0.0.1")),
        ("socks4", "127.0.0.1", (4, "127.0.0.1")),
        ("socks4a", "localhost", (4, "localhost")),
    ],
)
@pytest.mark.parametrize("where", ["http", "all", "ALL_PROXY", "http_proxy"])
def test_socks(monkeypatch: pytest.MonkeyPatch, scheme: str, host: str, tunnel: Any, where: str) -> None:
    with platform(lambda asked: (200, EMPTY)) as (origin, asked), socks_server() as (address, tunnels):
        port = int(origin.rsplit(":", 1)[1])
        extra = {}
        if where.lower().endswith("_proxy"):
            monkeypatch.setenv(where, f"{scheme}://{address}")
        else:
            extra = {"proxies": {where: f"{scheme}://{address}"}}
        assert attempt(f"http://{host}:{port}", **extra).outcome is Outcome.EXECUTED
        assert [(seen.version, seen.host, seen.port) for seen in tunnels] == [(*tunnel, port)]
        assert [request.headers["authorization"] for request in asked] == [f"Bearer {KEY}"]


def test_a_socks_proxys_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with platform(lambda asked: (200, EMPTY)) as (origin, _), socks_server("g%h im") as (address, tunnels):
        right = {"http": f"socks5h://me:g%25h%20im@{address}"}
        assert attempt(origin, proxies=right).outcome is Outcome.EXECUTED
        assert (tunnels[0].user, tunnels[0].password) == ("me", "g%h im")
        wrong = fixed_client(origin, proxies={"http": f"socks5h://me:geheim@{address}"}, max_attempts=1)
        with pytest.raises(NotSent, match="the SOCKS proxy failed") as caught:
            list(wrong.iter_sub_accounts())
        assert "geheim" not in f"{caught.value}{wrong.config!r}{caplog.text}"
        assert "g%25h" not in caplog.text


def refuse(tunnel: Tunnel) -> socket.socket:
    raise OSError("refused")


def test_what_never_got_through_socks_was_not_sent() -> None:
    """Neither a proxy that is not there, nor one that cannot reach the base, nor one that says nothing."""
    with socks_server(connect=refuse) as (address, tunnels):
        refused = attempt("http://127.0.0.1:9", proxies={"http": f"socks5h://{address}"})
        assert len(tunnels) == 1
    gone = attempt("http://127.0.0.1:9", proxies={"http": f"socks5h://{address}"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        unheard = attempt(
            "http://127.0.0.1:9", proxies={"http": f"socks5h://127.0.0.1:{port}"}, connect_timeout=0.2
        )
    assert (refused.outcome, refused.detail) == (Outcome.NOT_SENT, "the SOCKS proxy failed")
    assert (gone.outcome, gone.detail) == (Outcome.NOT_SENT, "the SOCKS proxy failed")
    assert unheard.outcome is Outcome.NOT_SENT


def test_a_create_that_was_lost_behind_socks_is_not_sent_again(sim: Simulator) -> None:
    """What the connection notes of bytes that were sent must hold through SOCKS: it is the proof."""
    sim.fault("create", "cut_after")
    with socks_server() as (address, tunnels):
        client = fixed_client(*sim.base_urls, key=sim.key, proxies={"http": f"socks5h://{address}"})
        with pytest.raises(OutcomeUnknown):
            client.create("a", {"gpt-4": Decimal(1)}, Decimal(1), 1)
    assert (sim.count("create"), len(sim.accounts("a"))) == (1, 1)
    assert tunnels


def test_a_create_that_socks_did_not_carry_goes_to_the_next_base(sim: Simulator) -> None:
    first = int(sim.base_urls[0].rsplit(":", 1)[1])

    def connect(tunnel: Tunnel) -> socket.socket:
        if tunnel.port == first:
            raise OSError("no way")
        return socket.create_connection(("127.0.0.1", tunnel.port))

    with socks_server(connect=connect) as (address, _):
        client = fixed_client(*sim.base_urls, key=sim.key, proxies={"http": f"socks5h://{address}"})
        client.create("a", {"gpt-4": Decimal(1)}, Decimal(1), 1)
    assert (sim.count("create", base=0), sim.count("create", base=1)) == (0, 1)


WITHOUT_PYSOCKS = """
import sys
sys.modules["socks"] = None
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ConfigError
extra = {"api_bases": [sys.argv[1]], **({"proxies": {"all": sys.argv[2]}} if len(sys.argv) > 2 else {})}
client = CloseAIClient(config_from(password="key", extra=extra))
for ask in (client.check_health, lambda: list(client.iter_sub_accounts())):
    try:
        ask()
    except ConfigError as error:
        print(error.permanent, error)
"""


@pytest.mark.parametrize("where", ["connection", "environment"])
def test_without_pysocks_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    proxy = "socks5h://user:geheim@127.0.0.1:9"
    with platform(lambda asked: (200, EMPTY)) as (origin, asked):
        more = [proxy] if where == "connection" else []
        if where == "environment":
            monkeypatch.setenv("ALL_PROXY", proxy)
        command = [sys.executable, "-c", WITHOUT_PYSOCKS, origin, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert asked == []
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line in lines:
        assert line.startswith("True ")
        assert "pip install 'airflow-provider-closeai[socks]'" in line
        assert where in line
    assert "geheim" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "proxy",
    [
        "socks6://user:geheim@h:1",
        "socks://user:geheim@h:1",
        "ftp://user:geheim@h",
        "http://user:geheim@",
        "http://user:geheim@h:99999",
        "http://user:ge#heim@h:x",
        "http://[::1",
        "://",
        "http:///x",
    ],
)
def test_a_proxy_that_cannot_be_one_is_named_and_not_shown(
    proxy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with platform(lambda asked: (200, EMPTY)) as (origin, asked):
        client = fixed_client(origin, proxies={"http": proxy})
        with pytest.raises(ConfigError, match="the connection's 'proxies'") as caught:
            list(client.iter_sub_accounts())
        assert asked == []
    assert caught.value.permanent
    assert "heim" not in f"{caught.value}{caplog.text}"


def test_a_proxy_for_others_is_not_looked_at() -> None:
    with platform(lambda asked: (200, EMPTY)) as (origin, _):
        assert attempt(origin, proxies={"https": "socks9://h"}).outcome is Outcome.EXECUTED
        assert attempt(origin, proxies={"http": ""}).outcome is Outcome.EXECUTED


# --- no_proxy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "no_proxy", "exempt"),
    [
        ("https://a.example", "a.example", True),
        ("https://x.a.example", "a.example", True),
        ("https://x.a.example", ".a.example", True),
        ("https://a.example", ".a.example", True),
        ("https://x.a.example", "*.a.example", True),
        ("https://a.example", "b.example, A.Example", True),
        ("https://a.example", "b.example a.example", True),
        ("https://xa.example", "a.example", False),
        ("https://a.example.evil", "a.example", False),
        ("https://a.example", "", False),
        ("https://a.example", " , ", False),
        ("https://a.example", ".", False),
        ("https://a.example", "*", True),
        ("https://a.example:8443", "a.example:8443", True),
        ("https://a.example:8443", "a.example:443", False),
        ("https://a.example", "a.example:443", True),
        ("http://127.0.0.1:9", "127.0.0.1", True),
        ("http://127.0.0.1:9", "127.0.0.0/8", True),
        ("http://127.0.0.1:9", "10.0.0.0/8", False),
        ("http://127.0.0.1:9", "0.0.1", False),
        ("http://[::1]:9", "::1", True),
        ("http://[::1]:9", "[::1]", True),
        ("https://[2001:db8::5]", "2001:db8::/32", True),
    ],
)
def test_no_proxy(base: str, no_proxy: str, exempt: bool) -> None:
    proxies = {"http": "http://p:1", "https": "http://p:1"}
    assert proxies_for(base, {**proxies, "no_proxy": no_proxy}) == ({} if exempt else proxies)


def test_no_proxy_in_the_connection_is_honoured() -> None:
    with (
        platform(lambda asked: (200, EMPTY)) as (origin, asked),
        platform(lambda asked: (200, EMPTY)) as (proxy, proxied),
    ):
        assert attempt(origin, proxies={"http": proxy}).outcome is Outcome.EXECUTED
        assert (len(asked), len(proxied)) == (0, 1)
        assert attempt(origin, proxies={"http": proxy, "no_proxy": "127.0.0.1"}).outcome is Outcome.EXECUTED
        assert (len(asked), len(proxied)) == (1, 1)


def test_no_proxy_alone_leaves_the_environments_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HTTP_PROXY" in PROXY_VARIABLES
    with (
        platform(lambda asked: (200, EMPTY)) as (origin, asked),
        platform(lambda asked: (200, EMPTY)) as (proxy, proxied),
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        assert attempt(origin, proxies={"no_proxy": "other.example"}).outcome is Outcome.EXECUTED
        assert (len(asked), len(proxied)) == (0, 1)
        assert attempt(origin, proxies={"no_proxy": "127.0.0.1"}).outcome is Outcome.EXECUTED
        assert (len(asked), len(proxied)) == (1, 1)


@pytest.mark.parametrize("where", ["proxies", "HTTP_PROXY"])
@pytest.mark.parametrize("password", ["p@ss#w", "1234/x", "12#x", "12?x"])
def test_a_password_with_signs_of_an_address_is_not_looked_up_as_a_host(
    monkeypatch: pytest.MonkeyPatch, password: str, where: str
) -> None:
    proxy = f"http://user:{password}@127.0.0.1:9"
    if where == "HTTP_PROXY":
        monkeypatch.setenv(where, proxy)
    with pytest.raises(ConfigError, match="special characters of a password as %xx"):
        proxies_for("http://api.example", {"http": proxy} if where == "proxies" else None)
