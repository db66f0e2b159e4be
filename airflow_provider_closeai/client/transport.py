"""One attempt over HTTP, and what its outcome proves.

A create has no idempotency key, so everything turns on one question: may the request have been executed?
``Outcome`` is the answer, and it is proof, not a guess: the connection itself notes whether a byte of the
request was handed to an established connection. A TLS handshake that is reset, as happens to a blocked
domain, is therefore *not sent*, while the same reset a moment later is *unknown*. :mod:`.answers` judges
complete answers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec
import requests
from urllib3.exceptions import HTTPError

from airflow_provider_closeai import __version__
from airflow_provider_closeai.client.answers import LONGEST_MESSAGE, Attempt, Outcome, judge
from airflow_provider_closeai.client.config import ClientConfig
from airflow_provider_closeai.client.connections import LONGEST, Adapter, TooLong, wire
from airflow_provider_closeai.client.errors import ConfigError
from airflow_provider_closeai.client.models import SecretToken
from airflow_provider_closeai.client.proxies import SOCKS_ERRORS, proxies_for
from airflow_provider_closeai.client.retry_after import parse_date, parse_retry_after
from airflow_provider_closeai.client.watchdog import Limit, ends

# A body's keys are revealed only while it is encoded, so that tracebacks with locals do not show them.
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=SecretToken.reveal)
_PIECE = 10 * 2**10  # bytes on the wire: unpacked they may be a thousand times as many
_CUT = "the connection was cut before a whole answer came"
_ODD = "its answer is not HTTP"
_NOT_HTTP = {"BadStatusLine", "InvalidChunkLength", "InvalidHeader", "LineTooLong", "UnknownProtocol"}


class Call(msgspec.Struct, frozen=True):
    """
    One kind of call.

    :param name: its name in messages.
    :param method: HTTP method.
    :param path: below the base.
    :param decode: decodes a success; raises if the answer says no.
    :param repeatable: whether it may be sent again once it may have been executed.
    :param writes: whether it changes anything.
    :param longest: the most bytes of an answer; a longer one is not the platform's.
    :param may_miss: whether it names keys: the platform may answer 404 for one that does not exist.
    :param auth: whether the main key is sent with it.
    """

    name: str
    method: str
    path: str
    decode: Callable[[bytes], Any]
    repeatable: bool = True
    writes: bool = True
    longest: int = LONGEST
    may_miss: bool = False
    auth: bool = True


class Transport:
    """Sends one request at a time. Follows no redirect, retries nothing."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._proxies: dict[str, dict[str, str]] = {}
        self._urls: dict[str, str] = {}  # bases as requests normalises them
        self._adapters: dict[tuple[int, bool], Adapter] = {}
        self._headers = {
            **requests.utils.default_headers(),
            "Content-Type": "application/json",
            "User-Agent": user_agent(),
        }

    def _adapter(self, *, fresh: bool) -> Adapter:
        """Return this process's own connections: forks that shared them would read each other's answers."""
        key = os.getpid(), fresh
        if key not in self._adapters:  # made when needed: most pokes of a sensor send nothing
            self._adapters[key] = Adapter(fresh=fresh)
        return self._adapters[key]

    def _request(
        self, call: Call, base: str, query: Mapping[str, str] | None, body: object
    ) -> requests.PreparedRequest:
        """
        Build a request. A session's merges, redirects, cookies and netrc would cost more than urllib3 does.
        """
        request = requests.PreparedRequest()
        if base not in self._urls:
            request.prepare_url(base, None)
            self._urls[base] = (request.url or "").rstrip("/")
        request.method = call.method
        request.url = self._urls[base] + call.path + (f"?{urlencode(query)}" if query else "")
        request.headers = requests.structures.CaseInsensitiveDict(self._headers)
        if call.auth:
            request.headers["Authorization"] = f"Bearer {self._config.key.reveal()}"
        if body is not None:
            request.body = _ENCODER.encode(body)
            request.headers["Content-Length"] = str(len(request.body))
        return request

    def attempt(
        self,
        call: Call,
        base: str,
        *,
        seconds: float,
        query: Mapping[str, str] | None = None,
        body: object = None,
        fresh: bool = False,
        may_leave: Callable[[], bool] | None = None,
    ) -> Attempt:
        """
        Send one request and return what its outcome proves. Never raises for a network failure.

        :param seconds: limit of the entire attempt, slow answers included.
        :param query: query parameters. Never a key: URLs end up in logs.
        :param fresh: use a new connection for this attempt only; on an idle one that died, a lost answer
            and a request that was never read look the same.
        :param may_leave: asked directly before the first byte, once connected; if it returns False,
            nothing is sent.
        """
        if base not in self._proxies:
            self._proxies[base] = proxies_for(base, self._config.proxies)
        verify = verify_by(self._config) if base.startswith("https") else True
        limit = Limit(time.monotonic() + seconds, wire.__dict__)
        wire.sent, wire.connected, wire.sock, wire.is_refused = False, False, None, False
        wire.longest = call.longest
        wire.may_leave = lambda: not limit.is_over and (may_leave is None or may_leave())
        status: int | None = None
        timeouts = (min(self._config.connect_timeout, seconds), min(self._config.read_timeout, seconds))
        try:
            with (
                ends(limit),
                self._adapter(fresh=fresh).send(
                    self._request(call, base, query, body),
                    proxies=self._proxies[base],
                    timeout=timeouts,
                    verify=verify,
                    stream=True,
                ) as response,
            ):
                status = response.status_code
                content, headers = _content(response, call.longest), response.headers
        except (requests.RequestException, HTTPError, ValueError) as error:
            failure = _network_failure(error, limit.is_over, timeouts, verify)
        except OSError:  # from Python, for a CA bundle that it may not read
            failure = "no connection; may the CA bundle be read?"
        else:
            wait = parse_retry_after(headers.get("Retry-After"), time.time())
            keys = [self._config.key.reveal(), *_keys_in(body)]
            decode = call.decode
            if isinstance(content, ValueError):
                decode, content = functools.partial(_refuse, content), b""
            attempt = judge(base, status, content, wait, decode, keys=keys, may_miss=call.may_miss)
            return msgspec.structs.replace(attempt, date=parse_date(headers.get("Date") or ""))
        outcome = Outcome.UNKNOWN if wire.sent else Outcome.NOT_SENT
        return Attempt(
            base=base,
            outcome=outcome,
            detail=failure,
            status=status,
            is_stale=status is None and failure in (_CUT, _ODD) and not wire.connected,
            is_late=wire.is_refused and not limit.is_over,
        )


def _keys_in(body: object) -> list[str]:
    """Return the sub-accounts' keys that a request names."""
    tokens = body.get("sks", ()) if isinstance(body, Mapping) else ()
    return [token.reveal() for token in tokens]


def _content(response: requests.Response, longest: int) -> bytes | ValueError:
    """Return an answer's body, or why it cannot be accepted."""
    if "," in response.headers.get("Content-Encoding", ""):
        return ValueError("packed twice")  # unpacking a few KiB can take minutes
    pieces, length = [], 0
    if not response.ok:
        longest = min(longest, LONGEST_MESSAGE)
    for piece in response.iter_content(_PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > longest:
            return ValueError(f"longer than {longest // 2**10} KiB")
    return b"".join(pieces)


def _refuse(problem: ValueError, content: bytes) -> NoReturn:
    raise problem


def _network_failure(error: Exception, late: bool, timeouts: tuple[float, float], verify: bool | str) -> str:
    """Return in a few words what broke. The library's own text would show URLs."""
    if late:
        return "no whole answer within the deadline"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {timeouts[0]:.3g} s"
    if wire.is_refused:
        return "it could not be sent in time, and was not sent"
    causes = _causes(error)
    names = {type(cause).__name__ for cause in causes}
    if names & {"DecodeError", "ContentDecodingError"}:
        return "its answer cannot be unpacked"
    is_cut = "RemoteDisconnected" in names or "IncompleteRead" in names
    if names & _NOT_HTTP and not is_cut:
        return _ODD
    if names & SOCKS_ERRORS:
        return "the SOCKS proxy failed"
    if "HeaderParsingError" in names:
        return "its headers cannot be read"
    for cause in causes:
        if isinstance(cause, TooLong):
            return str(cause)
    if "ReadTimeoutError" in names:
        what, seconds = ("answer", timeouts[1]) if wire.sent else ("connection", timeouts[0])
        return f"no {what} within {seconds:.3g} s"
    if isinstance(error, requests.exceptions.SSLError):
        if isinstance(verify, str):
            return f"TLS failed; is {verify!r} ('verify', or the environment's) its authority's CA bundle?"
        return "TLS failed; if the certificate is your own authority's, set 'verify' to its CA bundle"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy failed"
    if names & {"NameResolutionError", "gaierror", "LocationParseError", "InvalidURL"}:
        return "the name does not resolve"
    if "ConnectionRefusedError" in names:
        return "connection refused"
    if not wire.sent:
        return "no connection"
    return _CUT


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return all errors that an error wraps: urllib3 nests them in arguments, ``reason``, and causes."""
    found: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    return found


def verify_by(config: ClientConfig) -> bool | str:
    """
    Return how to verify servers: as the connection says, else by the environment's CA bundle.

    :raises ConfigError: the bundle does not exist. That says nothing of a base.
    """
    verify, source = config.verify, "the connection's 'verify'"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if verify is True and os.environ.get(name):
            verify, source = os.environ[name], f"the environment's {name}"
    if isinstance(verify, str) and not os.path.exists(verify):
        raise ConfigError(
            f"The CA bundle {verify!r} of {source} is not there on this host, so no server can be verified. "
            "Nothing was sent. Correct the path, or leave it out: then certifi's authorities are trusted."
        )
    return verify


@functools.cache
def user_agent() -> str:
    """Name this package, Airflow (where it is installed) and Python, with their versions."""
    parts = [f"airflow-provider-closeai/{__version__}"]
    with contextlib.suppress(PackageNotFoundError):
        # Reading a distribution's metadata takes ten milliseconds: avoided if Airflow is loaded.
        airflow = getattr(sys.modules.get("airflow"), "__version__", None) or version("apache-airflow")
        parts.append(f"apache-airflow/{airflow}")
    return " ".join([*parts, f"python/{platform.python_version()}"])
