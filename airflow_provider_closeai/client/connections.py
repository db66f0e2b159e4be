"""Connections that note what was sent, limit what is read, and connect within their time."""

from __future__ import annotations

import email.errors
import functools
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import requests  # before its submodules, here and elsewhere: else a thread could see it half imported
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HeaderParsingError, NewConnectionError
from urllib3.poolmanager import PoolManager
from urllib3.util.connection import allowed_gai_family

from airflow_provider_closeai.client.proxies import is_socks

#: The most bytes of an answer that are read, unpacked.
LONGEST = 64 * 2**20
_LEAST_TO_CONNECT = 1.0  # seconds for an address before the next one is tried
_HEAD = 16 * 2**10  # bytes of headers; parsing more takes minutes
_BESIDE = 2**20  # extra bytes for the lengths of chunks

#: Defects of headers; all other kinds concern the body of a mail, and there is none.
_UNREAD = (
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.MissingHeaderBodySeparatorDefect,
)


class Wire(threading.local):
    """What the request under way in this thread has done to its connection."""

    sent = False
    connected = False
    is_refused = False
    sock: socket.socket | None = None
    longest = LONGEST
    may_leave: Callable[[], bool] | None = None


class _TooLate(OSError):
    """It is too late to send the request."""


#: This thread's.
wire = Wire()


class TooLong(OSError):
    """An answer is too long; the text says which part."""


class _Counted(io.RawIOBase):
    """Limits the bytes read: on some broken chunks http.client reads all that comes, at once."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.allow("its headers are", _HEAD)

    def allow(self, what: str, most: int) -> None:
        """Allow this many more bytes."""
        self._left, self._problem = most, f"{what} longer than {most // 2**10} KiB"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise TooLong(self._problem)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """
    Reads an answer up to its allowed length.

    Interim answers such as 103 are skipped: left on a kept connection, they would shift all later answers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counted = _Counted(self.fp.detach())
        self.fp: Any = io.BufferedReader(self._counted)

    def begin(self) -> None:
        try:
            self._read_head()
        except (OSError, http.client.HTTPException):
            raise
        except Exception:  # the email package parses a Content-Type as a mail's
            raise HeaderParsingError([], None) from None
        rest = self.headers.get_payload()
        has_rest = isinstance(rest, str) and rest != ""
        if has_rest or any(isinstance(defect, _UNREAD) for defect in self.headers.defects):
            raise HeaderParsingError([], None)  # else urllib3 logs what it cannot read, keys included
        self._counted.allow("its answer is", wire.longest + _BESIDE)

    def _read_head(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]
            super().begin()
        if self.status == http.client.SWITCHING_PROTOCOLS:
            self.will_close = True


class _NotesSending:
    """Connection mix-in: notes from which moment a request may have been executed."""

    response_class: Any = _Response
    sock: socket.socket | None

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        finally:
            # The bytes of a proxy's CONNECT do not belong to the request.
            wire.sent, wire.connected = False, True

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        wire.sock = self.sock
        if not wire.sent and wire.may_leave is not None and not wire.may_leave():
            wire.is_refused = True
            raise _TooLate
        wire.sent = True
        super().send(data)  # type: ignore[misc]


class _SharesTime:
    """Connection mix-in: divides the connect timeout among a name's addresses; urllib3 gives it to each."""

    host: str
    port: int
    timeout: float
    _dns_host: str  # ``host`` with its final dot, which rules out search domains

    def _new_conn(self) -> socket.socket:
        host, whole = self._dns_host, self.timeout
        try:
            found = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "a part of the name is empty or too long") from None
        end = time.monotonic() + whole  # the lookup has a time of its own
        try:
            for left, (*_, address) in zip(range(len(found), 0, -1), found, strict=True):
                rest = max(end - time.monotonic(), 0.001)
                self.host, self.timeout = str(address[0]), max(rest / left, min(rest, _LEAST_TO_CONNECT))
                try:
                    sock: socket.socket = super()._new_conn()  # type: ignore[misc]
                except (ConnectTimeoutError, NewConnectionError):
                    if left == 1:
                        raise
                else:
                    sock.settimeout(whole)
                    return sock
        finally:
            self.host, self.timeout = host, whole
        raise AssertionError("a name has an address")


class _KeepsNone:
    """Pool mix-in: closes each connection once its answer is read, so that none is reused."""

    def _put_conn(self, conn: HTTPConnection | None) -> None:
        if conn is not None:
            conn.close()


@functools.cache
def _pools(*, fresh: bool, socks: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Return the pool class for each scheme; a fresh one keeps no connection."""
    plain: type[HTTPConnection] = HTTPConnection
    secure: type[HTTPConnection] = HTTPSConnection
    if socks:
        from urllib3.contrib.socks import SOCKSConnection, SOCKSHTTPSConnection  # needs PySocks

        plain, secure = SOCKSConnection, SOCKSHTTPSConnection

    def pool(kind: type[HTTPConnectionPool], connection: type[HTTPConnection]) -> type[HTTPConnectionPool]:
        mixed = (_NotesSending, connection) if socks else (_NotesSending, _SharesTime, connection)
        notes = type(connection.__name__, mixed, {})
        bases = (_KeepsNone, kind) if fresh else (kind,)
        return type(kind.__name__, bases, {"ConnectionCls": notes})

    return {"http": pool(HTTPConnectionPool, plain), "https": pool(HTTPSConnectionPool, secure)}


class Adapter(requests.adapters.HTTPAdapter):
    """
    requests' adapter with these connections.

    :param fresh: keep no connection.
    """

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
