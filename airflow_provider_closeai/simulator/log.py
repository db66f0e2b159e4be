"""What the simulator was asked: never a key in it but those that a body or a query carried."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request.

    :param host: ``discovery``, ``base-0`` ...
    :param call: Its name, as docs/simulator.md lists them, or unknown.
    :param method: The HTTP method.
    :param path: The path without the query.
    :param query: The query's parameters.
    :param body: The body, read as plain JSON; None when it is none.
    :param authorization: Whose key it carried: main, sub, none or other.
    :param headers_seen: The headers, names in lower case, without ``authorization``.
    :param status: The status answered; None when the request was cut or hung, or is not answered yet.
    :param executed: Whether state was changed or read for it.
    :param fault: The kind of fault that it met.
    :param at: When it came, in monotonic seconds.
    """

    host: str
    call: str
    method: str
    path: str
    query: dict[str, str]
    body: Any
    authorization: str
    headers_seen: dict[str, str]
    status: int | None = None
    executed: bool = False
    fault: str | None = None
    at: float = field(default_factory=time.monotonic)


class RequestLog:
    """All requests, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    def add(self, request: Request) -> int:
        """Note a request, and give the number under which it is changed."""
        with self._lock:
            self._requests.append(request)
            return len(self._requests) - 1

    def change(self, number: int, **changes: Any) -> None:
        """Note what became of a request.

        :param changes: Fields of ``Request``.
        """
        with self._lock:
            self._requests[number] = dataclasses.replace(self._requests[number], **changes)

    def all(self) -> list[Request]:
        """Give all requests so far."""
        with self._lock:
            return list(self._requests)

    def counts(self) -> dict[str, int]:
        """Count the requests by call."""
        return dict(Counter(request.call for request in self.all()))
