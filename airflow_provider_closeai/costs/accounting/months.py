"""Billing months, their days and time zones.

The platform does not state when ``monthly_cost`` starts again from 0. It writes times in ``+08:00``, so the
default time zone is Asia/Shanghai: an assumption that :mod:`.aggregate` checks against the counters.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.inputs import short_repr

_SHOWN = 5

_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-]\d{1,2})(?::?00)?")
_MONTH = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])")


def zone_name(zone: object) -> str:
    """
    Return the IANA name of a time zone.

    :param zone: a name, or a zone of ``zoneinfo``, ``pendulum``, ``pytz`` or ``datetime``.
    :raises InvalidParameter: there is no such zone; names the nearest.
    """
    names = [zone] if isinstance(zone, str) else [getattr(zone, key, None) for key in ("key", "zone", "name")]
    for name in [name.strip() for name in names if isinstance(name, str)]:
        with contextlib.suppress(ValueError, OSError, LookupError):
            return ZoneInfo(name).key
    offset = zone.utcoffset(None) if isinstance(zone, tzinfo) else None
    found = _hourly_zone(offset)
    if found is None:
        raise InvalidParameter(
            f"time_zone: there is no zone {short_repr(zone)}.{_nearest_zone(zone)} Give an IANA name such as "
            f"{defaults.TIME_ZONE!r}, or a zone of zoneinfo or pendulum."
        )
    return found


def _hourly_zone(offset: timedelta | None) -> str | None:
    """Return the zone name of a fixed offset; only full hours have one."""
    if offset is None or offset % timedelta(hours=1) or not -12 <= offset // timedelta(hours=1) <= 14:
        return None
    hours = offset // timedelta(hours=1)
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"  # with inverted signs


def _nearest_zone(zone: object) -> str:
    text = str(zone) if isinstance(zone, str | tzinfo) else ""
    if match := _OFFSET.fullmatch(text.strip()):
        nearest = _hourly_zone(timedelta(hours=int(match[1])))
    else:
        known = {name.lower(): name for name in available_timezones()}
        nearest = next((known[name] for name in difflib.get_close_matches(text.lower(), known, 1)), None)
    return f" Did you mean {nearest!r}?" if nearest else ""


@functools.cache
def zone_of(name: str) -> ZoneInfo:
    """
    Return the time zone of an IANA name.

    :raises InvalidParameter: there is no such zone.
    """
    return ZoneInfo(zone_name(name))


class Month(msgspec.Struct, frozen=True):
    """
    A billing month in a time zone.

    :param name: ``YYYY-MM``.
    :param zone: the IANA name of the zone in which it turns.
    """

    name: str
    zone: str = defaults.TIME_ZONE

    @property
    def start(self) -> datetime:
        """Its first moment, in UTC."""
        return self._turn(0)

    @property
    def end(self) -> datetime:
        """The first moment after it, in UTC."""
        return self._turn(1)

    @property
    def days(self) -> list[date]:
        """Its calendar days."""
        first, after = self._first(0), self._first(1)
        return [first + timedelta(days=number) for number in range((after - first).days)]

    def local(self, moment: datetime) -> datetime:
        """Return a time in the month's zone."""
        return moment.astimezone(zone_of(self.zone))

    def step(self, months: int) -> Month:
        """
        Return another month.

        :param months: how many months later; negative: earlier.
        """
        return Month(f"{self._first(months):%Y-%m}", self.zone)

    def day(self, start: datetime, end: datetime) -> date:
        """
        Return the local day on which to book an interval's increase: that of the interval's middle.

        So an interval within a day, or from midnight to midnight, is that day's; one from 00:05 to 00:05 is
        the first day's, to which it mostly belongs. Amounts are not split: that would be invention. A day
        outside the month becomes the month's nearest: what is booked counts in the month.
        """
        middle = self.local(start + (end - start) / 2).date()
        return min(max(middle, self._first(0)), self._first(1) - timedelta(days=1))

    def _first(self, months: int) -> date:
        year, month = map(int, self.name.split("-"))
        index = year * 12 + month - 1 + months
        return date(index // 12, index % 12 + 1, 1)

    def _turn(self, months: int) -> datetime:
        first = self._first(months)
        return datetime(first.year, first.month, first.day, tzinfo=zone_of(self.zone)).astimezone(UTC)


def month_of(moment: datetime, zone: str = defaults.TIME_ZONE) -> Month:
    """
    Return the billing month of a moment.

    :param moment: an aware ``datetime``.
    """
    return Month(f"{moment.astimezone(zone_of(zone)):%Y-%m}", zone)


def parse_month(month: object, zone: str, *, now: datetime, due: datetime | None = None) -> Month:
    """
    Read the ``month`` parameter.

    :param month: ``YYYY-MM``, ``current`` or ``previous``.
    :param due: the time to which ``current`` and ``previous`` are relative; default: ``now``.
    :raises InvalidParameter: it is not a valid month, or in the future.
    """
    current, present = month_of(due or now, zone), month_of(now, zone)
    text = month.strip() if isinstance(month, str) else ""
    if text in ("current", "previous"):
        text = current.name if text == "current" else current.step(-1).name
    if not _MONTH.fullmatch(text):
        raise InvalidParameter(
            f"month: {short_repr(month)} is not a valid month. Give it as YYYY-MM, for instance "
            f"{current.name!r}, or 'current', 'previous' or 'latest'."
        )
    if text > present.name:
        raise InvalidParameter(
            f"month: {text} is in the future (it is {present.name} now in {zone}). There are no costs of it "
            "yet."
        )
    return Month(text, zone)


def require_month(month: object) -> str:
    """
    Check a month that must be given as ``YYYY-MM``, and return it.

    :raises InvalidParameter: it is not a valid month.
    """
    if not isinstance(month, str) or not _MONTH.fullmatch(month):
        raise InvalidParameter(f"month: {short_repr(month)} is not a valid month. Give it as YYYY-MM.")
    return month


def format_ids(accounts: Sequence[int]) -> str:
    """Write account ids for people: all, or the first of many."""
    more = f" and {len(accounts) - _SHOWN} more" if len(accounts) > _SHOWN else ""
    word = "account" if len(accounts) == 1 else "accounts"
    return f"{word} {', '.join(map(str, accounts[:_SHOWN]))}{more}"


def minutes(span: timedelta) -> int:
    """Return a span in minutes, rounded up: gaps must not be understated."""
    return -(-span // timedelta(minutes=1))


def format_local(moment: datetime, zone: str) -> str:
    """Write a time in a zone, to the minute."""
    return f"{moment.astimezone(zone_of(zone)):%Y-%m-%d %H:%M}"
