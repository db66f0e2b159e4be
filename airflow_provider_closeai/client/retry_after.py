"""The ``Retry-After`` header, as RFC 9110 has it and as servers send it."""

from __future__ import annotations

import calendar
import email.utils
import re

LONGEST = 24 * 3600.0

# Also with the fraction, sign or unit that RFC 9110 does not have; of several headers the first counts.
_SECONDS = re.compile(
    r"\+?([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:s|secs?|seconds?)?\s*(?:,.*)?", re.ASCII | re.IGNORECASE
)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """
    Read a ``Retry-After`` header (RFC 9110, 10.2.3): seconds, or a date.

    A date is in UTC unless it says otherwise, whatever this host's time zone.

    :param value: the header's value.
    :param now: seconds since the epoch.
    :returns: seconds to wait, from 0 to a day; ``None`` where there is none that can be read.
    """
    text = (value or "").strip().strip("\"'")
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        return min(float(seconds[1]), LONGEST)
    try:
        parts = email.utils.parsedate_tz(text)  # knows all three forms of HTTP dates
        if parts is None:
            return None
        at = calendar.timegm(parts[:9]) - (parts[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(0.0, at - now), LONGEST)
