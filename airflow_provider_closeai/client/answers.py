"""Who answered, and what the answer proves: a pure reading of a status and a body.

The platform speaks JSON with a message for a person. A 4xx in that form is its word; in any other form
somebody else answered for it (a CDN, a block page, a gateway that has no such path), and the request may have
been executed, or not. 429 and 408 are throttling, whoever says so.
"""

from __future__ import annotations

import codecs
import enum
import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from airflow_provider_closeai.client.decoding import says_no
from airflow_provider_closeai.client.errors import safe_text

#: Bytes of an answer that is no success; of a longer one no message is read.
LONGEST_MESSAGE = 2**20
#: Statuses that ask to wait, whoever says so.
THROTTLED = (408, 429)
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Outcome(enum.Enum):
    """What one attempt proves about the request."""

    NOT_SENT = "not sent"  # DNS, refused, connect timeout, TLS: never reached the platform
    REJECTED = "rejected"  # 4xx of the platform, or throttled: reached it, and was never executed
    DECLINED = "declined"  # 2xx that says no: the platform's word; a create may be done in part
    EXECUTED = "executed"  # a success that could be decoded
    UNKNOWN = "unknown"  # cut, read timeout, 3xx, 5xx, somebody else's answer: executed, or not


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """
    The outcome of one attempt.

    :param base: origin that was asked.
    :param outcome: what it proves.
    :param detail: what happened, for a person; no key, no header, no body but its message.
    :param status: HTTP status, where an answer began.
    :param retry_after: seconds that the platform asked to wait, where it did.
    :param value: the decoded answer of an executed attempt.
    :param is_foreign: whether somebody else answered for the platform.
    :param is_stale: whether a kept connection was cut before the answer began, which proves no ill.
    :param is_late: whether it was not sent since it might not leave any more, which proves no ill either.
    :param date: the answer's own time (its ``Date``), in seconds since the epoch, where it has one.
    """

    base: str
    outcome: Outcome
    detail: str
    status: int | None = None
    retry_after: float | None = None
    value: Any = None
    is_foreign: bool = False
    is_stale: bool = False
    is_late: bool = False
    date: float | None = None

    @property
    def reached_platform(self) -> bool:
        """Whether the platform's own server answered, well or not."""
        return self.status is not None and not self.is_foreign


def judge(
    base: str,
    status: int,
    content: bytes,
    retry_after: float | None,
    decode: Callable[[bytes], Any],
    *,
    keys: Iterable[str] = (),
    may_miss: bool = False,
) -> Attempt:
    """
    Say what a whole answer proves.

    :param decode: makes the value of a success; what it raises means that this is not a success.
    :param keys: that were sent: in no text.
    :param may_miss: whether the request names what may be missing, so that a 404 can be the platform's word.
    """
    body = content.removeprefix(codecs.BOM_UTF8)
    if 200 <= status < 300:
        outcome, detail, value = _judge_success(status, body, decode, keys)
        is_foreign = outcome is Outcome.UNKNOWN
        return Attempt(
            base=base, outcome=outcome, detail=detail, status=status, value=value, is_foreign=is_foreign
        )
    message = platform_message(body, keys)
    detail = f"status {status}{f': {message}' if message else ''}"
    is_foreign = False
    outcome = Outcome.UNKNOWN
    if 400 <= status < 500:
        is_foreign = status not in THROTTLED and (
            message is None or status == 405 or (status == 404 and not may_miss)
        )
        if is_foreign:
            detail += f" ({_kind_of(body)}: somebody else seems to answer for the platform)"
        else:
            outcome = Outcome.REJECTED
    elif 300 <= status < 400:
        is_foreign = True
        detail += " (a redirect, which is never followed with a key)"
    return Attempt(
        base=base,
        outcome=outcome,
        detail=detail,
        status=status,
        retry_after=retry_after,
        is_foreign=is_foreign,
    )


def _judge_success(
    status: int, body: bytes, decode: Callable[[bytes], Any], keys: Iterable[str]
) -> tuple[Outcome, str, Any]:
    """Return what a 2xx proves, what happened, and its value."""
    try:
        return Outcome.EXECUTED, "served", decode(body)
    except _UNREADABLE as error:
        answer = _json_object(body)
        message = platform_message(body, keys)
        if says_no(answer.get("success"), answer.get("error")):
            said = answer.get("error")  # that it says no is known: its words may stand anywhere then
            of_error = said.get("msg") if isinstance(said, dict) else said
            message = message or _first_text((of_error, answer.get("msg")), keys)
            no = f"status {status}, but it says no: {message or 'without a message'}"
            return Outcome.DECLINED, no, None
        kind = "a web page" if _is_page(body) else f"not what the API answers ({message or error})"
        return Outcome.UNKNOWN, f"status {status}, but {kind}", None


def platform_message(body: bytes, keys: Iterable[str] = ()) -> str | None:
    """
    Return the platform's message for a person, fit for a log; ``None`` where the body is not in its form.
    """
    answer = _json_object(body)
    error, detail = answer.get("error"), answer.get("detail")
    of_error = error.get("message") if isinstance(error, dict) else None
    return _first_text((of_error, answer.get("message"), _validation(detail) or detail), keys)


def _first_text(values: Iterable[Any], keys: Iterable[str]) -> str | None:
    return next((safe_text(text, keys) for text in values if isinstance(text, str) and text.strip()), None)


def _validation(detail: Any) -> str:
    """Return what FastAPI says in a 422 of the fields that it does not take."""
    found = []
    for each in detail if isinstance(detail, list) else ():
        if isinstance(each, dict) and isinstance(each.get("msg"), str):
            field = each.get("loc")
            found.append(f"{'.'.join(map(str, field)) if isinstance(field, list) else 'it'}: {each['msg']}")
    return "; ".join(found)


def _json_object(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_MESSAGE:
        return {}
    try:
        answer = json.loads(body.decode("utf-8", "replace"))  # takes half an emoji, which msgspec does not
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_page(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _kind_of(body: bytes) -> str:
    if not body.strip():
        return "empty"
    return "a web page" if _is_page(body) else "not what the API answers there"
