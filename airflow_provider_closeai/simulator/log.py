"""The log of requests: contains no keys except those in a body or a query."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One request, and its outcome so far.

    :param host: ``discovery``, ``base-0`` ...
    :param call: The call's name, as in docs/simulator.md, or ``unknown``.
    :param method: The HTTP method.
    :param path: The path without the query.
    :param query: The query's parameters.
    :param body: The body, parsed as plain JSON; None if it is not JSON.
    :param authorization: Whose key it carried: main, sub, none or other.
    :param headers_seen: The headers, names in lower case, without ``authorization``.
    :param status: The answer's status; None if the request was cut or hung, or is not answered yet.
    :param executed: Whether state was changed or read for it.
    :param fault: The kind of fault that affected it.
    :param at: When it arrived, in monotonic seconds.
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
