"""HTTP answers, and errors in the platform's form."""

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
    """One HTTP answer; ``executed``: whether state was changed or read for it."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    executed: bool = False


class Refusal(Exception):
    """The platform rejects a request without doing anything.

    :param message: What is wrong; never contains a key.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def answer(self) -> Answer:
        """Return the error answer."""
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        return error(self.status, kind, self.code, self.message, self.headers)


def done(value: Any) -> Answer:
    """Return the JSON answer of an executed request."""
    return Answer(200, encode(dumps(value)), executed=True)


def error(
    status: int, kind: str, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Return an answer with an error object."""
    body = dumps({"error": {"message": message, "type": kind, "code": code}})
    return Answer(status, encode(body), headers=headers or {})


def encode(text: str) -> bytes:
    """Encode an answer's text, even if it repeats invalid Unicode."""
    return text.encode("utf-8", "replace")
