"""The ``Retry-After`` header, as RFC 9110 has it and as servers send it."""

from __future__ import annotations

import calendar
import contextlib
import email.utils
import re
from datetime import UTC, datetime

LONGEST = 24 * 3600.0
_NEAR = 7 * 24 * 3600.0  # a number this near to now is a time since 1970 in seconds, or milliseconds
_LATEST = 1e11  # seconds since 1970, in the year 5138: a number above it counts milliseconds

# Also with the fraction, sign or unit that RFC 9110 does not have; of several headers the first counts.
_SECONDS = re.compile(
    r"\+?([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:(?:s|secs?|seconds?)\s*)?(?:,.*)?", re.ASCII | re.IGNORECASE
)
_LONGEST_TEXT = 100  # characters of a date


def parse_retry_after(value: str | None, now: float) -> float | None:
    """
    Read a ``Retry-After`` header (RFC 9110, 10.2.3): seconds, or a date; also one of ISO 8601, or since 1970.

    A date is in UTC unless it says otherwise, whatever this host's time zone.
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
    Return the seconds since the epoch of a date; ``None`` where there is none.

    :param text: an HTTP date in any of its three forms, or one of ISO 8601; in UTC unless it says otherwise.
    """
    text = text[:_LONGEST_TEXT]
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        parts = email.utils.parsedate_tz(text)  # knows all three forms of HTTP dates
        if parts is not None:
            return float(calendar.timegm(parts[:9]) - (parts[9] or 0))
    return None
