"""The ``Retry-After`` header, as RFC 9110 has it and as servers send it."""

from __future__ import annotations

import calendar
import contextlib
import email.utils
import re
from datetime import UTC, datetime

LONGEST = 24 * 3600.0
_NEAR = 7 * 24 * 3600.0  # a number this close to now is an epoch time in seconds or milliseconds
_LATEST = 1e11  # epoch seconds in the year 5138: a larger number is in milliseconds

# Accepts fraction, sign and unit, which RFC 9110 does not; of several headers the first counts.
_SECONDS = re.compile(
    r"\+?([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:(?:s|secs?|seconds?)\s*)?(?:,.*)?", re.ASCII | re.IGNORECASE
)
_LONGEST_TEXT = 100  # characters read of a date


def parse_retry_after(value: str | None, now: float) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header (RFC 9110, 10.2.3) asks for; ``None`` if unreadable.

    Accepts seconds, a date, an ISO 8601 date or an epoch time; a date is in UTC unless it says otherwise.
    """
    text = (value or "").strip().strip("\"'")
    seconds = _SECONDS.fullmatch(text)
    at = float(seconds[1]) if seconds else parse_date(text)
    if at is None:
        return None
    if at > _LATEST:
        at /= 1000
    is_time = not seconds or abs(at - now) <= _NEAR
    wait = at - now if is_time else at
    return min(max(0.0, wait), LONGEST)


def parse_date(text: str) -> float | None:
    """
    Return a date in seconds since the epoch; ``None`` if it cannot be read.

    :param text: an HTTP date in any of its three forms, or ISO 8601; in UTC unless it says otherwise.
    """
    text = text[:_LONGEST_TEXT]
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        parts = email.utils.parsedate_tz(text)  # all three forms of HTTP dates
        if parts is not None:
            return float(calendar.timegm(parts[:9]) - (parts[9] or 0))
    return None
