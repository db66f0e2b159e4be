"""Months, days and amounts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from books import Clock, local

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs.accounting.money import format_amount, parse_amount, total
from airflow_provider_closeai.costs.accounting.months import Month, minutes, month_of, parse_month


def test_a_month_turns_in_its_zone() -> None:
    month = Month("2026-12")
    assert month.start == datetime(2026, 11, 30, 16, tzinfo=UTC)
    assert month.end == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert (month.step(1).name, month.step(-12).name) == ("2027-01", "2025-12")
    assert (len(month.days), month.days[0], month.days[-1]) == (31, date(2026, 12, 1), date(2026, 12, 31))
    assert month_of(month.start) == month
    assert month_of(month.start - timedelta(microseconds=1)).name == "2026-11"
    assert month_of(month.start, "UTC").name == "2026-11"


def test_summer_time_does_not_move_the_turn() -> None:
    month = Month("2026-03", "Europe/Berlin")
    assert month.end - month.start == timedelta(days=31) - timedelta(hours=1)


def test_the_day_of_an_interval() -> None:
    month = Month("2026-11")
    assert month.day(local("11-05 00:00"), local("11-06 00:00")) == date(2026, 11, 5)
    assert month.day(local("11-05 00:05"), local("11-06 00:05")) == date(2026, 11, 5)
    assert month.day(local("11-05 23:55"), local("11-06 23:55")) == date(2026, 11, 6)
    assert month.day(local("11-05 10:00"), local("11-05 11:00")) == date(2026, 11, 5)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("2026-11", "2026-11"),
        ("current", "2026-12"),
        ("previous", "2026-11"),
        (" 2026-12 ", "2026-12"),
    ],
)
def test_the_month_asked_for(clock: Clock, asked: str, name: str) -> None:
    clock.at = local("12-01 00:00")
    assert parse_month(asked, "Asia/Shanghai", now=clock()).name == name
    clock.at = local("12-31 00:00")
    assert parse_month(asked, "Asia/Shanghai", now=clock(), due=local("12-01 00:05")).name == name


@pytest.mark.parametrize(
    ("asked", "zone", "told"),
    [
        ("2027-01", "Asia/Shanghai", "month: 2027-01 is in the future"),
        ("2026-13", "Asia/Shanghai", "month: '2026-13' is not a valid month"),
        ("", "Asia/Shanghai", "month: '' is not a valid month"),
        (None, "Asia/Shanghai", "month: None is not a valid month"),
        ("2026-11", "Shanghai", "time_zone: there is no zone 'Shanghai'"),
        ("2026-11", "", "time_zone: there is no zone ''"),
        ("2026-12", "UTC", "month: 2026-12 is in the future"),
    ],
)
def test_no_month(clock: Clock, asked: object, zone: str, told: str) -> None:
    clock.at = local("12-01 00:00")
    with pytest.raises(InvalidParameter, match=told.replace("(", r"\(")) as caught:
        parse_month(asked, zone, now=clock())
    assert caught.value.permanent


def test_amounts() -> None:
    assert parse_amount("budget", "1250.50") == Decimal("1250.50")
    assert parse_amount("budget", 0.1) == Decimal("0.1")
    assert format_amount(Decimal("1E-8")) == "0.00000001"
    assert format_amount(Decimal("0E-8")) == "0"
    assert format_amount(Decimal("1E+3")) == "1000"
    assert format(total([Decimal("1e30"), Decimal("1e-30")]), "f").endswith("000001")
    for bad in ("1,000.5", "¥5", "", None, True, "NaN", "Infinity", float("nan")):
        with pytest.raises(InvalidParameter, match=r"budget: .* is not an amount"):
            parse_amount("budget", bad)


def test_gaps_are_never_told_smaller() -> None:
    assert [minutes(timedelta(seconds=s)) for s in (0, 1, 60, 61)] == [0, 1, 1, 2]
