"""Billing months, days and exact money: the few facts that everything else stands on.

The platform does not say when ``monthly_cost`` starts again from 0. Its times are written in ``+08:00``, so
the default time zone is Asia/Shanghai: an assumption that :mod:`.fold` checks against the counters.
"""

from __future__ import annotations

import contextlib
import decimal
import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter

DEFAULT_ZONE = "Asia/Shanghai"
ZERO = Decimal(0)
_NAMED = 5
_PLACES = 18

#: Sums in it are exact or fail: nothing is ever rounded on the way.
EXACT = decimal.Context(
    prec=200, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
)
_CURRENCY = re.compile(r"[A-Z]{3}")
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-]\d{1,2})(?::?00)?")
_MONTH = re.compile(r"(2\d{3})-(0[1-9]|1[0-2])")


def now() -> datetime:
    """Tell the time, in UTC. The one clock of this package, so that a test can move it."""
    return datetime.now(UTC)


def zone_name(zone: object) -> str:
    """
    Return the IANA name of a time zone.

    :param zone: a name, or a zone of ``zoneinfo``, ``pendulum``, ``pytz`` or ``datetime``.
    :raises InvalidParameter: where there is no such zone, naming the nearest.
    """
    names = [zone] if isinstance(zone, str) else [getattr(zone, key, None) for key in ("key", "zone", "name")]
    for name in [name.strip() for name in names if isinstance(name, str)]:
        with contextlib.suppress(ValueError, OSError, LookupError):
            return ZoneInfo(name).key
    offset = zone.utcoffset(None) if isinstance(zone, tzinfo) else None
    found = _hourly_zone(offset)
    if found is None:
        raise InvalidParameter(
            f"time_zone: there is no zone {zone!r}.{_nearest_zone(str(zone))} Give an IANA name such as "
            f"{DEFAULT_ZONE!r}, or a zone of zoneinfo or pendulum."
        )
    return found


def _hourly_zone(offset: timedelta | None) -> str | None:
    """Name the zone of a fixed offset; only whole hours have one."""
    if offset is None or offset % timedelta(hours=1) or not -12 <= offset // timedelta(hours=1) <= 14:
        return None
    hours = offset // timedelta(hours=1)
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"  # their signs are the other way round


def _nearest_zone(text: str) -> str:
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

    :param name: for instance ``Asia/Shanghai``.
    :raises InvalidParameter: where there is no such zone.
    """
    return ZoneInfo(zone_name(name))


class Month(msgspec.Struct, frozen=True, order=True):
    """
    A billing month of a time zone.

    :param name: ``YYYY-MM``.
    :param zone: the IANA name of the zone in which it turns.
    """

    name: str
    zone: str = DEFAULT_ZONE

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

    def step(self, months: int) -> Month:
        """
        Return the month so many months later.

        :param months: below 0: earlier.
        """
        return Month(f"{self._first(months):%Y-%m}", self.zone)

    def day(self, start: datetime, end: datetime) -> date:
        """
        Tell the local day on which an interval's increase is booked: the one in the interval's middle.

        An interval inside one day is that day's, one from midnight to midnight too, and one from 00:05 to
        00:05 is the first day's, whose it mostly is. No amount is ever split: that would be invented.

        :param start: the interval's begin.
        :param end: its end.
        """
        return (start + (end - start) / 2).astimezone(zone_of(self.zone)).date()

    def _first(self, months: int) -> date:
        year, month = map(int, self.name.split("-"))
        index = year * 12 + month - 1 + months
        return date(index // 12, index % 12 + 1, 1)

    def _turn(self, months: int) -> datetime:
        first = self._first(months)
        return datetime(first.year, first.month, first.day, tzinfo=zone_of(self.zone)).astimezone(UTC)


def month_of(moment: datetime, zone: str = DEFAULT_ZONE) -> Month:
    """
    Tell the billing month of a moment.

    :param moment: an aware time.
    :param zone: the time zone in which months turn.
    """
    return Month(f"{moment.astimezone(zone_of(zone)):%Y-%m}", zone)


def asked_month(month: object, zone: str, at: datetime | None = None) -> Month:
    """
    Read the ``month`` parameter.

    :param month: ``YYYY-MM``, ``current`` or ``previous``.
    :param zone: the time zone in which months turn.
    :param at: the time to which ``current`` and ``previous`` are relative; now, unless given.
    :raises InvalidParameter: no month, or one in the future.
    """
    zone_of(zone)
    current, present = month_of(at or now(), zone), month_of(now(), zone)
    text = str(month).strip()
    if text in ("current", "previous"):
        text = current.name if text == "current" else current.step(-1).name
    if not _MONTH.fullmatch(text):
        raise InvalidParameter(
            f"month: {month!r} is no month. Give it as YYYY-MM, for instance {current.name!r}, or 'current', "
            "'previous' or 'latest'."
        )
    if text > present.name:
        raise InvalidParameter(
            f"month: {text} is in the future (it is {present.name} now in {zone}). There are no costs of it "
            "yet."
        )
    return Month(text, zone)


def money(name: str, value: object) -> Decimal:
    """
    Read an amount that a person wrote.

    :param name: what it is, for the error.
    :param value: text, a whole number or a ``Decimal``. Of a float its shortest text is taken: what was
        typed.
    :raises InvalidParameter: no finite number.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    try:
        amount = Decimal(text)
    except decimal.InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise InvalidParameter(
            f"{name}: {value!r} is no amount. Write a plain number such as 1250.50, without a thousands "
            "separator or a currency sign."
        )
    if amount.adjusted() >= _PLACES or int(amount.as_tuple().exponent) < -_PLACES:
        raise InvalidParameter(
            f"{name}: {value!r} is out of range. Write an amount with at most {_PLACES} digits before the "
            f"point and {_PLACES} after it."
        )
    return amount


def currency_of(value: object) -> str:
    """
    Read the ``currency`` parameter: required, for no page of the platform says which one it is.

    :param value: its ISO 4217 code.
    :raises InvalidParameter: no such code.
    """
    value = value.strip() if isinstance(value, str) else value
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        hint = " For the renminbi that is CNY." if str(value).upper() == "RMB" else ""
        raise InvalidParameter(f"currency: {value!r} is no ISO 4217 code, such as CNY or USD.{hint}")
    if value == "RMB":
        raise InvalidParameter("currency: RMB is no ISO 4217 code. For the renminbi that is CNY.")
    return value


def text_of(amount: Decimal) -> str:
    """Write an amount in plain digits with all its decimals, never as ``1E-8``; 0 as ``0``."""
    return format(amount, "f") if amount else "0"


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts up, exactly."""
    with decimal.localcontext(EXACT):
        return sum(amounts, ZERO)


def named(accounts: Sequence[int]) -> str:
    """Name some accounts by their ids, for a person: the first few of many."""
    more = f" and {len(accounts) - _NAMED} more" if len(accounts) > _NAMED else ""
    word = "account" if len(accounts) == 1 else "accounts"
    return f"{word} {', '.join(map(str, accounts[:_NAMED]))}{more}"


def minutes(span: timedelta) -> int:
    """Give a span in whole minutes, rounded up: a gap is never told smaller than it is."""
    return -(-span // timedelta(minutes=1))
