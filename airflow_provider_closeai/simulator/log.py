"""What the simulator was asked: never a key in it but those that a body or a query carried."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One request, and what became of it so far.

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
