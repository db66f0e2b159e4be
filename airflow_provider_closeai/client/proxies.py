"""Chooses a base's proxy. A proxy's address is never shown: it may contain a password."""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
from urllib3.util import parse_url

from airflow_provider_closeai.client.errors import ConfigError

#: Names of PySocks's exceptions.
SOCKS_ERRORS = frozenset(
    {"ProxyConnectionError", "GeneralProxyError", "SOCKS4Error", "SOCKS5AuthError", "SOCKS5Error"}
)
_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def is_socks(proxy: str) -> bool:
    """Return whether an address is a SOCKS proxy's."""
    return proxy.lower().startswith("socks")


def proxies_for(base: str, configured: Mapping[str, str] | None) -> dict[str, str]:
    """
    Return the proxies for a request, as requests takes them.

    Configured proxies replace the environment's, unless they are nothing but ``no_proxy``.
    """
    own = dict(configured or {})
    no_proxy = own.pop("no_proxy", "")
    if _is_exempt(base, no_proxy):
        return {}
    from_environment = configured is None or bool(no_proxy and not own)
    proxies = requests.utils.get_environ_proxies(base) if from_environment else own
    proxy = requests.utils.select_proxy(base, proxies)
    if proxy:
        _check(proxy, "the environment" if from_environment else "the connection's 'proxies'")
    return proxies


def _is_exempt(base: str, no_proxy: str) -> bool:
    """Return whether ``no_proxy`` covers a base: by host, parent domain, address, network, or ``*``."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    with_port = f"{host}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"
    address = None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry in ("*", host, with_port):
            return True
        if address is None:
            name = entry.removeprefix("*").lstrip(".")
            if name and f".{host}".endswith(f".{name}"):
                return True
        else:
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
    return False


def _check(proxy: str, where: str) -> None:
    scheme = host = None
    with contextlib.suppress(ValueError):
        url = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        is_cut = (url.path or "/") != "/" or url.query or url.fragment  # a password with / ? or # in it
        scheme, host = url.scheme, None if is_cut else url.host
    if scheme not in _SCHEMES or not host:
        raise ConfigError(
            f"The address of the proxy in {where} cannot be used: it must be like http://proxy.example:3128 "
            "or socks5h://proxy.example:1080, special characters of a password as %xx. Nothing was sent."
        )
    if is_socks(proxy) and importlib.util.find_spec("socks") is None:
        raise ConfigError(
            f"The proxy in {where} speaks SOCKS, and PySocks is not installed. Nothing was sent. Install it "
            "where the tasks run: pip install 'airflow-provider-closeai[socks]'."
        )
