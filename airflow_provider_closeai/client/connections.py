"""Connections that note what was sent, read no more than an answer may have, and connect in their time."""

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

import requests  # before parts of it, here and elsewhere: a thread that imports it now would see half of it
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HeaderParsingError, NewConnectionError
from urllib3.poolmanager import PoolManager
from urllib3.util.connection import allowed_gai_family

from airflow_provider_closeai.client.proxies import is_socks

#: Bytes of an answer, unpacked, that are read at most.
LONGEST = 64 * 2**20
_LEAST_TO_CONNECT = 1.0  # seconds that an address has before the next one is tried
_HEAD = 16 * 2**10  # bytes of headers; their readers take minutes for more
_BESIDE = 2**20  # bytes of the lengths of chunks

#: Defects of headers; the other kinds are of a mail's body, which is not there.
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
    """The request may not be sent any more."""


#: Of this thread.
wire = Wire()


class TooLong(OSError):
    """More came than an answer may have; its text says of what."""


class _Counted(io.RawIOBase):
    """Reads no more than a bound: of some broken chunks http.client reads whatever comes, at once."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.allow("its headers are", _HEAD)

    def allow(self, what: str, most: int) -> None:
        """Let so many bytes more be read."""
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
    Reads an answer, and no more than it may have.

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
        except Exception:  # the email package reads a Content-Type as a mail's
            raise HeaderParsingError([], None) from None
        rest = self.headers.get_payload()
        has_rest = isinstance(rest, str) and rest != ""
        if has_rest or any(isinstance(defect, _UNREAD) for defect in self.headers.defects):
            raise HeaderParsingError([], None)  # else urllib3 logs what it cannot read, keys and all
        self._counted.allow("its answer is", wire.longest + _BESIDE)

    def _read_head(self) -> None:
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
    """Connection mix-in: a name's addresses share the time to connect; urllib3 gives all of it to each."""

    host: str
    port: int
    timeout: float
    _dns_host: str  # ``host`` with the dot at its end, which keeps search domains away

    def _new_conn(self) -> socket.socket:
        host, whole = self._dns_host, self.timeout
        try:
            found = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "a part of the name is empty or too long") from None
        end = time.monotonic() + whole  # to look the name up took its own time
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
        mixed = (_NotesSending, connection) if socks else (_NotesSending, _SharesTime, connection)
        notes = type(connection.__name__, mixed, {})
        bases = (_KeepsNone, kind) if fresh else (kind,)
        return type(kind.__name__, bases, {"ConnectionCls": notes})

    return {"http": pool(HTTPConnectionPool, plain), "https": pool(HTTPSConnectionPool, secure)}


class Adapter(requests.adapters.HTTPAdapter):
    """
    requests' adapter with these connections.

    :param fresh: it keeps none.
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
