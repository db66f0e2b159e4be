"""One attempt over HTTP, and what its outcome proves.

A create has no idempotency key, so everything turns on one question: may the request have been executed?
``Outcome`` is the answer, and it is proof, not a guess: the connection itself notes whether a byte of the
request was handed to an established connection. A TLS handshake that is reset, as happens to a blocked
domain, is therefore *not sent*, while the same reset a moment later is *unknown*. What a whole answer proves
is judged in :mod:`.answers`.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import default_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.poolmanager import PoolManager

from airflow_provider_closeai import __version__
from airflow_provider_closeai.client.answers import Attempt, Outcome, judge
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.models import encode
from airflow_provider_closeai.client.proxies import SOCKS_ERRORS, is_socks, proxies_for
from airflow_provider_closeai.client.retry_after import parse_retry_after
from airflow_provider_closeai.client.watchdog import Limit, ends

#: Bytes of an answer, unpacked, that are read at most.
LONGEST = 64 * 2**20
_PIECE = 10 * 2**10  # as read from the wire: a packed one is a thousand times as long
_CUT = "the connection was cut before a whole answer came"


class _Wire(threading.local):
    """What the request under way in this thread has done to its connection."""

    sent = False
    connected = False
    is_refused = False
    sock: socket.socket | None = None
    may_leave: Callable[[], bool] | None = None


class _TooLate(OSError):
    """The request may not be sent any more."""


_wire = _Wire()


class _Response(http.client.HTTPResponse):
    """Skips interim answers such as 103: left on a kept connection, they would shift all later answers."""

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]
            super().begin()
        if self.status == http.client.SWITCHING_PROTOCOLS:
            self.will_close = True


class _NotesSending:
    """Connection mix-in: notes the moment from which a request may have been executed."""

    response_class: Any = _Response
    sock: socket.socket | None

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        finally:
            # Bytes of a proxy's CONNECT are not bytes of the request.
            _wire.sent, _wire.connected = False, True

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        _wire.sock = self.sock
        if not _wire.sent and _wire.may_leave is not None and not _wire.may_leave():
            _wire.is_refused = True
            raise _TooLate
        _wire.sent = True
        super().send(data)  # type: ignore[misc]


class _KeepsNone:
    """Pool mix-in: closes each connection once its answer is read, so that no request rides on an old one."""

    def _put_conn(self, conn: HTTPConnection | None) -> None:
        if conn is not None:
            conn.close()


@functools.cache
def _pools(*, fresh: bool, socks: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Return the pool for each scheme; a fresh one keeps no connection."""
    plain: type[HTTPConnection] = HTTPConnection
    secure: type[HTTPConnection] = HTTPSConnection
    if socks:
        from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection  # needs PySocks

        plain, secure = SOCKSConnection, SOCKSHTTPSConnection

    def pool(kind: type[HTTPConnectionPool], connection: type[HTTPConnection]) -> type[HTTPConnectionPool]:
        notes = type(connection.__name__, (_NotesSending, connection), {})
        bases = (_KeepsNone, kind) if fresh else (kind,)
        return type(kind.__name__, bases, {"ConnectionCls": notes})

    return {"http": pool(HTTPConnectionPool, plain), "https": pool(HTTPSConnectionPool, secure)}


class _Adapter(HTTPAdapter):
    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(fresh=self._fresh, socks=False)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _pools(fresh=self._fresh, socks=is_socks(proxy))
        return manager


class Transport:
    """
    Sends one request at a time. Follows no redirect, retries nothing.

    :param config: timeouts, TLS, proxies and the key.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._proxies: dict[str, dict[str, str]] = {}
        self._urls: dict[str, str] = {}  # bases as requests writes them
        self._adapters: dict[tuple[int, bool], _Adapter] = {}
        self._headers = {
            **default_headers(),
            "Content-Type": "application/json",
            "User-Agent": user_agent(),
        }
        self._verify = config.verify
        if config.verify is True:
            self._verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def _adapter(self, *, fresh: bool) -> _Adapter:
        """Return connections of this process's own: forks that share them would read each other's answers."""
        key = os.getpid(), fresh
        if key not in self._adapters:  # made when needed: most looks of a sensor send nothing
            self._adapters[key] = _Adapter(fresh=fresh)
        return self._adapters[key]

    def _request(
        self, method: str, base: str, path: str, query: Mapping[str, str] | None, body: object, *, auth: bool
    ) -> requests.PreparedRequest:
        """
        Write a request. A session's merges, redirects, cookies and netrc would cost more than urllib3 does.
        """
        request = requests.PreparedRequest()
        if base not in self._urls:
            request.prepare_url(base, None)
            self._urls[base] = (request.url or "").rstrip("/")
        request.method = method
        request.url = self._urls[base] + path + (f"?{urlencode(query)}" if query else "")
        request.headers = CaseInsensitiveDict(self._headers)
        if auth:
            request.headers["Authorization"] = f"Bearer {self._config.key.reveal()}"
        if body is not None:
            request.body = encode(body)
            request.headers["Content-Length"] = str(len(request.body))
        return request

    def attempt(
        self,
        method: str,
        base: str,
        path: str,
        *,
        decode: Callable[[bytes], Any],
        seconds: float,
        query: Mapping[str, str] | None = None,
        body: object = None,
        auth: bool = True,
        fresh: bool = False,
        longest: int = LONGEST,
        may_miss: bool = False,
        may_leave: Callable[[], bool] | None = None,
    ) -> Attempt:
        """
        Send one request and say what its outcome proves. Raises nothing for what the network does.

        :param seconds: bound of the whole attempt, slow answers included.
        :param query: query parameters. Never a key: addresses end up in logs.
        :param auth: whether the main key goes with it.
        :param fresh: use a new connection, of this attempt alone; on an idle one that died, a lost answer
            and a request that was never read look the same.
        :param longest: bytes of the answer; a longer one is not the platform's.
        :param may_leave: asked once there is a connection, directly before the first byte: False, and nothing
            is sent.
        """
        if base not in self._proxies:
            self._proxies[base] = proxies_for(base, self._config.proxies)
        limit = Limit(time.monotonic() + seconds, _wire.__dict__)
        _wire.sent, _wire.connected, _wire.sock, _wire.is_refused = False, False, None, False
        _wire.may_leave = lambda: not limit.is_over and (may_leave is None or may_leave())
        status: int | None = None
        timeouts = (min(self._config.connect_timeout, seconds), min(self._config.read_timeout, seconds))
        try:
            with (
                ends(limit),
                self._adapter(fresh=fresh).send(
                    self._request(method, base, path, query, body, auth=auth),
                    proxies=self._proxies[base],
                    timeout=timeouts,
                    verify=self._verify,
                    stream=True,
                ) as response,
            ):
                status = response.status_code
                content, headers = _content(response, longest), response.headers
        except (requests.RequestException, HTTPError, ValueError) as error:
            failure = _network_failure(error, limit.is_over, timeouts)
        except OSError:  # what requests raises for a CA bundle that is not there
            failure = "no connection; is the CA bundle that 'verify' names there?"
        else:
            wait = parse_retry_after(headers.get("Retry-After"), time.time())
            key = self._config.key.reveal()
            if content is None:
                content, decode = b"", functools.partial(_refuse_longer, longest)
            attempt = judge(base, status, content, wait, decode, key=key, may_miss=may_miss)
            return msgspec.structs.replace(attempt, date=_date(headers.get("Date")))
        outcome = Outcome.UNKNOWN if _wire.sent else Outcome.NOT_SENT
        return Attempt(
            base=base,
            outcome=outcome,
            detail=failure,
            status=status,
            is_stale=status is None and failure == _CUT and not _wire.connected,
            is_late=_wire.is_refused and not limit.is_over,
        )


def _content(response: requests.Response, longest: int) -> bytes | None:
    """Read an answer; ``None``: it is too long."""
    pieces, length = [], 0
    for piece in response.iter_content(_PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            return None
    return b"".join(pieces)


def _refuse_longer(longest: int, content: bytes) -> NoReturn:
    raise ValueError(f"longer than {longest // 2**10} KiB")


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _network_failure(error: Exception, late: bool, timeouts: tuple[float, float]) -> str:
    """Say in a few words what broke. The library's own text would show addresses and queries."""
    if late:
        return "no whole answer within the deadline"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeouts[0]:.3g} s"
    if _wire.is_refused:
        return "it could not be sent in time, and was not sent"
    names = {type(cause).__name__ for cause in _causes(error)}
    if names & SOCKS_ERRORS:
        return "the SOCKS proxy failed"
    if "ReadTimeoutError" in names:
        return f"no answer within {timeouts[1]:.3g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed; if the certificate is your own authority's, set 'verify' to its CA bundle"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy failed"
    if names & {"NameResolutionError", "gaierror", "LocationParseError", "InvalidURL"}:
        return "the name does not resolve"
    if "ConnectionRefusedError" in names:
        return "connection refused"
    if not _wire.sent:
        return "no connection"
    return _CUT


def _causes(error: BaseException | None) -> list[BaseException]:
    """Everything that an error wraps: urllib3 nests in arguments, ``reason``, and causes."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    return found


@functools.cache
def user_agent() -> str:
    """Name this package, Airflow (where it is installed) and Python, with their versions."""
    parts = [f"airflow-provider-closeai/{__version__}"]
    with contextlib.suppress(PackageNotFoundError):
        # A distribution's metadata takes ten milliseconds to read: not where Airflow is loaded.
        airflow = getattr(sys.modules.get("airflow"), "__version__", None) or version("apache-airflow")
        parts.append(f"apache-airflow/{airflow}")
    return " ".join([*parts, f"python/{platform.python_version()}"])
