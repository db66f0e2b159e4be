"""What goes over the wire: an answer, and errors in the platform's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_closeai.simulator.values import dumps

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; ``executed`` says that state was changed or read for it."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    executed: bool = False


class Refusal(Exception):
    """A request that the platform rejects without doing anything.

    :param message: What is wrong; never contains a key.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def answer(self) -> Answer:
        """Give the answer that says so."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        return error(self.status, kind, self.code, self.message, self.headers)


def done(value: Any) -> Answer:
    """Answer an executed request with JSON."""
    return Answer(200, encode(dumps(value)), executed=True)


def error(
    status: int, kind: str, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with an error object."""
    body = dumps({"error": {"message": message, "type": kind, "code": code}})
    return Answer(status, encode(body), headers=headers or {})


def encode(text: str) -> bytes:
    """Encode an answer, whatever text it repeats."""
    return text.encode("utf-8", "replace")
