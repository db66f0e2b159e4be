"""Decides who answered and what the answer proves, from status and body alone.

The platform's errors are JSON with a message for people. A 4xx in that form comes from the platform; in any
other form an intermediary answered (a CDN, a block page, a gateway without that path), and the request may or
may not have been executed. 429 and 408 are throttling, whoever sends them.
"""

from __future__ import annotations

import codecs
import enum
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_closeai.client.decoding import says_no
from airflow_provider_closeai.client.errors import safe_text

#: The most bytes of an error answer; no message is read from a longer one.
LONGEST_MESSAGE = 2**20
#: Statuses that ask to wait, whoever sends them.
THROTTLED = (408, 429)
_CODE = re.compile(r"-?[0-9]{1,9}")
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class Outcome(enum.Enum):
    """What one attempt proves about the request."""

    NOT_SENT = "not sent"  # DNS, refused, connect timeout, TLS: never reached the platform
    REJECTED = "rejected"  # the platform's 4xx, or throttling: arrived and was not executed
    DECLINED = "declined"  # the platform's 2xx that says no; a create may be done in part
    EXECUTED = "executed"  # a success that could be decoded
    UNKNOWN = "unknown"  # cut, read timeout, 3xx, 5xx, an intermediary's answer: executed or not


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """
    The outcome of one attempt.

    :param base: origin that was asked.
    :param outcome: what it proves.
    :param detail: what happened, for people; without keys, headers or any of the body but its message.
    :param status: HTTP status, if an answer began.
    :param retry_after: seconds that the platform asked to wait, if it did.
    :param value: the decoded answer of an executed attempt.
    :param is_foreign: whether an intermediary answered in place of the platform.
    :param is_stale: whether a kept connection was cut before the answer began; says nothing of the base.
    :param is_late: whether it was too late to send it; says nothing of the base either.
    :param date: the answer's ``Date``, in seconds since the epoch, if it has one.
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
        """Whether the platform's own server answered, with success or not."""
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
    Judge what a complete answer proves.

    :param decode: decodes the body of a success; if it raises, the answer is not a success.
    :param keys: the keys that were sent; they are removed from all texts.
    :param may_miss: whether the request names things that may not exist: the platform may answer 404.
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
    """Return what a 2xx proves, what happened, and the decoded value."""
    try:
        return Outcome.EXECUTED, "served", decode(body)
    except _UNREADABLE as error:
        answer = _json_object(body)
        message = platform_message(body, keys)
        said = answer.get("error") or answer.get("errors")
        inner = said[0] if isinstance(said, list) else said
        texts = (inner.get("message"), inner.get("msg")) if isinstance(inner, dict) else (inner,)
        message = message or _first_text((*texts, answer.get("msg")), keys)  # any field may hold it
        if says_no(answer.get("success"), said) or (message and _has_code_of_error(answer)):
            no = f"status {status}, but it says no: {message or 'without a message'}"
            return Outcome.DECLINED, no, None
        kind = "a web page" if _is_page(body) else f"not what the API answers ({message or error})"
        return Outcome.UNKNOWN, f"status {status}, but {kind}", None


def _has_code_of_error(answer: Mapping[str, Any]) -> bool:
    """
    Return whether an answer without the expected content has an error code or status.

    Not if the code says that another base, or the same one later, may answer: as HTTP's 408, 429 and 5xx.
    """
    code, status = str(answer.get("code", 0)), str(answer.get("status", "")).lower()
    number = int(code) if _CODE.fullmatch(code) else 0
    if number in THROTTLED or 500 <= number < 600:
        return False
    is_code = number != 0 and not 200 <= number < 300
    return is_code or status in ("error", "fail", "failed") or says_no(answer.get("ok"), None)


def platform_message(body: bytes, keys: Iterable[str] = ()) -> str | None:
    """
    Return the platform's message, safe to log; ``None`` if the body is not in the platform's form.
    """
    answer = _json_object(body)
    error, detail = answer.get("error"), answer.get("detail")
    of_error = error.get("message") if isinstance(error, dict) else None
    return _first_text((of_error, answer.get("message"), _validation(detail) or detail), keys)


def _first_text(values: Iterable[Any], keys: Iterable[str]) -> str | None:
    return next((safe_text(text, keys) for text in values if isinstance(text, str) and text.strip()), None)


def _validation(detail: Any) -> str:
    """Return the field errors of a FastAPI 422 as one text."""
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
        answer = json.loads(body.decode("utf-8", "replace"))  # accepts half an emoji, unlike msgspec
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_page(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _kind_of(body: bytes) -> str:
    if not body.strip():
        return "empty"
    return "a web page" if _is_page(body) else "not what the API answers there"
