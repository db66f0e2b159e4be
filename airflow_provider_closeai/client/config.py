"""Every setting of a connection, validated before anything is sent.

The names in errors are the labels that the connection form shows.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import math
import os.path
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.client.models import SecretToken
from airflow_provider_closeai.get_provider_info import CONNECTION_FIELDS

DEFAULT_ORIGIN = "https://api.shadowai.xyz"  # the platform's page: the dedicated discovery domain

# Libraries disagree on where a host with a backslash ends, which would bypass allowed_hosts.
_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.]+")
_DEFAULT_PORTS = {"https": 443, "http": 80}
#: Longer times are cut to this; discovery's answer is used no longer either.
LONGEST_SECONDS = 7 * 24 * 3600.0
_CORRECT_EXTRA = (
    'correct it to an object such as {"allowed_hosts": "*.example.com"}, or empty it (docs/connection.md).'
)
_JSON_KINDS: dict[type, str] = {
    list: "a list",
    str: "a text (JSON that was encoded twice?)",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to reach the platform. Build it with :func:`config_from`, which validates.

    :param key: the main account's sk.
    :param origin: the discovery origin.
    :param api_bases: a fixed list of bases, best first; empty: ask discovery.
    :param allowed_hosts: globs that a discovered base's host must match; empty: any host.
    :param cache: ``file`` (shared by one host's processes) or ``variable`` (by the deployment).
    :param lock: where a create excludes others: ``host``, ``deployment``, or ``auto``: the deployment if
        this Airflow supports it.
    :param discovery_ttl: seconds for which discovery's answer is used before it is asked again.
    :param health_ttl: seconds for which a health verdict is used.
    :param connect_timeout: seconds to connect, per attempt.
    :param read_timeout: seconds to wait for bytes, per attempt.
    :param max_attempts: attempts per call, over all bases.
    :param deadline: seconds per call, over all attempts and waits.
    :param max_late: seconds after sending a request in which the platform may still execute it.
    :param page_size: accounts per page of a listing; -1: everything in one answer.
    :param verify: as requests takes it: True, False, or the path of a CA bundle.
    :param proxies: as requests takes it; ``None``: the environment's.
    """

    key: SecretToken
    origin: str = DEFAULT_ORIGIN
    api_bases: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    cache: str = "file"
    lock: str = "auto"
    discovery_ttl: float = 3600
    health_ttl: float = 300
    connect_timeout: float = 5
    read_timeout: float = 60
    max_attempts: int = 5
    deadline: float = 120
    max_late: float = 60
    page_size: int = 500
    verify: bool | str = True
    proxies: dict[str, str] | None = None

    @property
    def account(self) -> str:
        """The main account's name, a keyed hash that reveals nothing; other settings do not change it."""
        return hmac.digest(self.key.reveal().encode(), b"closeai account 1", "sha256").hex()[:24]

    def __repr__(self) -> str:  # proxies may hold a password
        return f"ClientConfig(origin={self.origin!r}, key={self.key!r})"


def config_from(
    *,
    password: str | None,
    host: str | None = None,
    schema: str | None = None,
    port: int | None = None,
    extra: str | Mapping[str, Any] | None = None,
) -> ClientConfig:
    """
    Validate the parts of a connection.

    :param password: the main account's sk.
    :param host: the discovery host, or a whole origin such as ``https://h:8443``.
    :param schema: ``https`` (default), or ``http`` for a loopback host.
    :param port: its port; 0 means not given.
    :param extra: the settings, as Airflow stores them (a JSON object as text) or as a mapping; empty values
        mean not given.
    :raises ConfigError: a setting is wrong; names the form's label, the problem and the cure.
    """
    key, password = SecretToken((password or "").strip()), None  # tracebacks show locals
    if not key.reveal():
        raise ConfigError("Connection field 'API key' (password) is empty: put the main account's sk there.")
    if any(not 33 <= ord(char) <= 126 for char in key.reveal()):
        raise ConfigError(
            "Connection field 'API key' (password) holds a character that no key has (a space, a line "
            "break or a letter outside ASCII): copy the main account's sk again."
        )
    given = {name: value for name, value in _settings(extra).items() if value is not None and value != ""}
    for name in given:
        if name not in CONNECTION_FIELDS:
            import difflib  # here, as only errors need it

            near = difflib.get_close_matches(name, CONNECTION_FIELDS, n=1, cutoff=0)
            raise ConfigError(f"Connection extra {name!r} is unknown; did you mean {near[0]!r}?")
    settings = {name: _CHECKS[name](name, value) for name, value in given.items()}
    return ClientConfig(key=key, origin=_connection_origin(host, schema, port), **settings)


def _settings(extra: object) -> Mapping[str, Any]:
    """Read an extra. Airflow would read all but a JSON object as empty, losing allowed_hosts."""
    if extra is None:
        return {}
    if isinstance(extra, str):
        if not extra.strip():
            return {}
        try:
            extra = json.loads(extra)
        except (ValueError, RecursionError):
            raise ConfigError(
                "The connection's extra is not valid JSON, so none of its settings can be read and nothing "
                f"was sent: {_CORRECT_EXTRA}"
            ) from None
    if not isinstance(extra, Mapping):
        raise ConfigError(
            f"The connection's extra is {_JSON_KINDS.get(type(extra), 'something else')} where a JSON object "
            f"is needed, so none of its settings can be read and nothing was sent: {_CORRECT_EXTRA}"
        )
    return extra


def without_v1(origin: str) -> str:
    """Remove ``/v1`` and what follows from a base: users of OpenAI clients add it."""
    return re.sub(r"(/api)?/v1(/.*)?$", "", origin, flags=re.IGNORECASE)


def clean_origin(text: str) -> str:
    """Normalise the origin of a base, including its path, if any."""
    parts = urlsplit(text.strip())
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("is not of the form https://host")
    if not _HOST.fullmatch(parts.hostname):
        raise ValueError("has a character in its host that no host has")
    if not parts.path.isprintable():
        raise ValueError("has a character in its path that no path has")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must not hold a user, a query or a fragment")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is not a number below 65536") from None
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("would send the main key over plain http: use https")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f":{port}" if port and port != _DEFAULT_PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{host}{shown}{parts.path.rstrip('/')}"


def _connection_origin(host: str | None, schema: str | None, port: int | None) -> str:
    host = (host or "").strip()
    if not host:
        return DEFAULT_ORIGIN
    if "://" not in host:
        host = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
        host = f"{(schema or 'https').strip()}://{host}"
    origin = _origin(host, "Discovery host")
    parts = urlsplit(origin)
    if port and urlsplit(host).port is None:
        origin = _origin(parts._replace(netloc=f"{parts.netloc}:{port}").geturl(), "Discovery host")
    return origin


def _origin(text: str, label: str) -> str:
    try:
        origin = clean_origin(text)
    except ValueError as problem:
        raise ConfigError(f"Connection field {label!r}: the address {problem}.") from None
    right = without_v1(origin)
    if right != origin:
        raise ConfigError(
            f"Connection field {label!r}: the address ends in {origin.removeprefix(right)}. Leave /v1 out "
            f"({right}): it is added where an OpenAI client needs it."
        )
    return origin


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _label(name: str) -> str:
    return f"{CONNECTION_FIELDS[name]['label']} ({name})"


def _bad(name: str, problem: str) -> ConfigError:
    return ConfigError(f"Connection field {_label(name)!r} {problem}.")


def _number(name: str, value: object, allowed: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    raise _bad(name, f"must be {allowed}")


def _seconds(name: str, value: object) -> float:
    allowed = "a number of seconds > 0"
    seconds = _number(name, value, allowed)
    if not (math.isfinite(seconds) and seconds > 0):
        raise _bad(name, f"must be {allowed}")
    return min(seconds, LONGEST_SECONDS)  # longer waits overflow in sockets, and in threads


def _whole(name: str, value: object) -> int:
    allowed = "a whole number >= 1" + (", or -1" if name == "page_size" else "")
    number = _number(name, value, allowed)
    everything = name == "page_size" and number == -1
    if not everything and not (number >= 1 and number.is_integer()):
        raise _bad(name, f"must be {allowed}")
    return int(number)


def _choice(name: str, value: object) -> object:
    choices = CONNECTION_FIELDS[name]["schema"]["enum"]
    if value not in choices:
        *others, last = map(repr, choices)
        raise _bad(name, f"must be {', '.join(others)} or {last}")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    """Read a list, or the form's text: a JSON list, or separated by commas or lines."""
    if isinstance(value, str):
        value = _json(name, value) if value.lstrip().startswith("[") else value.replace(",", "\n").split("\n")
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _bad(name, "must be a list of texts")
    texts = tuple(item.strip() for item in value if item.strip())
    if not texts:
        raise _bad(name, "is an empty list: leave it out instead")
    return texts


def _bases(name: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_origin(each, _label(name)) for each in _texts(name, value)))


def _verify(name: str, value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower(), os.path.expanduser(value.strip()))
    raise _bad(name, "must be true, false or the path of a CA bundle")


def _proxies(name: str, value: object) -> dict[str, str]:
    if isinstance(value, str):
        value = _json(name, value)
    if not isinstance(value, dict) or not all(
        isinstance(scheme, str) and isinstance(url, str) for scheme, url in value.items()
    ):
        raise _bad(name, 'must be an object such as {"https": "http://proxy.example:3128"}')
    for scheme in value:
        if not re.fullmatch(r"http|https|all|no_proxy|(http|https|all)://.+", scheme):
            raise _bad(name, f"has the key {scheme!r}, which is not one of http, https, all, no_proxy")
    return value


def _json(name: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _bad(name, "is not valid JSON") from None


_SECONDS = ("discovery_ttl", "health_ttl", "connect_timeout", "read_timeout", "deadline", "max_late")
_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "api_bases": _bases,
    "allowed_hosts": _texts,
    "verify": _verify,
    "proxies": _proxies,
    **dict.fromkeys(("cache", "lock"), _choice),
    **dict.fromkeys(("max_attempts", "page_size"), _whole),
    **dict.fromkeys(_SECONDS, _seconds),
}
