"""Certificates: what is not trusted gets no byte of a request."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from socks_server import pipe, socks_server
from support import KEY, in_threads, platform, raw_server, read_request

from airflow_provider_closeai.client.answers import Attempt, Outcome
from airflow_provider_closeai.client.calls import LIST
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.client.transport import Transport

OK = b'{"items":[],"total":0}'


def attempt(base: str, **extra: Any) -> Attempt:
    transport = Transport(config_from(password=KEY, extra=extra))
    return transport.attempt(LIST, base, seconds=10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that no authority knows, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_an_unknown_certificate_is_not_sent(tls: ssl.SSLContext) -> None:
    with platform(lambda asked: (200, OK), tls) as (origin, asked):
        seen = attempt(origin)
        assert asked == []
    assert seen.outcome is Outcome.NOT_SENT
    assert "'verify'" in seen.detail


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("how", ["bundle", "false", "environment", "environment beside proxies"])
def test_a_certificate_of_ones_own_authority(
    tls: ssl.SSLContext, certificate: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra: dict[str, Any] = {"bundle": {"verify": str(certificate)}, "false": {"verify": "false"}}.get(
        how, {}
    )
    if how.startswith("environment"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    if how == "environment beside proxies":
        extra = {"proxies": {"http": "http://127.0.0.1:9"}}
    with platform(lambda asked: (200, OK), tls) as (origin, asked):
        assert attempt(origin, **extra).outcome is Outcome.EXECUTED
        assert len(asked) == 1


@pytest.mark.parametrize("variable", [None, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    """It is nothing that a base has done: no base is held to be ill."""
    if variable is not None:
        monkeypatch.setenv(variable, "/no/such/bundle.pem")
    extra = {"verify": "/no/such/bundle.pem"} if variable is None else {}
    with pytest.raises(ConfigError, match="is not there on this host") as caught:
        attempt("https://127.0.0.1:9", **extra)
    assert (variable or "'verify'") in str(caught.value)
    assert attempt("http://127.0.0.1:9", **extra).outcome is Outcome.NOT_SENT


def test_the_path_of_a_bundle_may_be_of_the_home(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(certificate.parent))
    seen = attempt("https://127.0.0.1:9", verify=f" ~/{certificate.name}")
    assert seen.outcome is Outcome.NOT_SENT


def test_socks_carries_tls(tls: ssl.SSLContext, certificate: Path) -> None:
    with platform(lambda asked: (200, OK), tls=tls) as (origin, asked), socks_server() as (address, tunnels):
        proxies = {"https": f"socks5h://{address}"}
        trusted = attempt(origin, proxies=proxies, verify=str(certificate))
        assert (trusted.outcome, len(asked), len(tunnels)) == (Outcome.EXECUTED, 1, 1)
        strange = attempt(origin, proxies=proxies)
        assert (strange.outcome, len(asked), len(tunnels)) == (Outcome.NOT_SENT, 1, 2)
        assert "'verify'" in strange.detail


def test_behind_a_proxy_that_speaks_tls_the_deadline_holds_too(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    over = threading.Event()

    def drip(connection: socket.socket, number: int) -> None:
        with tls.wrap_socket(connection, server_side=True) as client:
            read_request(client)
            while not over.wait(0.05):
                client.sendall(b"H")

    def carry(connection: socket.socket, number: int) -> None:
        with tls.wrap_socket(connection, server_side=True) as client:
            read_request(client)
            with socket.create_connection(("127.0.0.1", target)) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                there = threading.Thread(target=pipe, args=(client, server), daemon=True)
                there.start()
                pipe(server, client)

    with raw_server(drip) as (target, asked), raw_server(carry) as (port, _):
        extra = {"verify": str(certificate), "proxies": {"https": f"https://127.0.0.1:{port}"}}
        transport = Transport(config_from(password=KEY, extra=extra))
        origin = f"https://127.0.0.1:{target}"
        try:
            [seen] = in_threads(
                1,
                lambda _: transport.attempt(LIST, origin, seconds=2),
            )
        finally:
            over.set()
        assert len(asked) == 1
    assert seen.outcome is Outcome.UNKNOWN
    assert "within the deadline" in seen.detail


def test_a_client_that_says_nothing_keeps_the_tests_server_from_nothing(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    """On a busy machine the test below leaves one behind: the deadline is over before the handshake."""
    with platform(lambda asked: (200, OK), tls) as (origin, asked):
        with socket.create_connection(("127.0.0.1", urlsplit(origin).port or 0)):
            assert attempt(origin, verify=str(certificate)).outcome is Outcome.EXECUTED
        assert len(asked) == 1


def test_what_is_connected_only_after_the_deadline_carries_nothing(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    def carry(connection: socket.socket, number: int) -> None:
        read_request(connection)
        time.sleep(0.7)
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", urlsplit(origin).port or 0)) as server:
            hello = connection.recv(65536)
            time.sleep(0.7)
            server.sendall(hello)
            threading.Thread(target=pipe, args=(connection, server), daemon=True).start()
            pipe(server, connection)

    with platform(lambda asked: (200, OK), tls) as (origin, asked), raw_server(carry) as (port, _):
        extra = {"verify": str(certificate), "proxies": {"https": f"http://127.0.0.1:{port}"}}
        transport = Transport(config_from(password=KEY, extra=extra))
        seen = transport.attempt(LIST, origin, seconds=1)
        assert asked == []
    assert seen.outcome is Outcome.NOT_SENT
    assert "within the deadline" in seen.detail


def test_a_bundle_that_is_none_is_named(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """What to do is not to set what is set."""
    bundle = tmp_path / "cut.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    with platform(lambda asked: (200, OK), tls) as (origin, asked):
        failed = attempt(origin, verify=str(bundle))
        assert failed.outcome is Outcome.NOT_SENT
        assert str(bundle) in failed.detail
        assert asked == []
