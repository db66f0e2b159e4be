"""A report as files: CSV, Parquet and JSON. Every amount has all its decimals; nothing is rounded."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any

import msgspec

from airflow_provider_closeai.client.errors import InvalidParameter
from airflow_provider_closeai.costs import tables
from airflow_provider_closeai.costs.figures import AccountLine, Figures, Report, share
from airflow_provider_closeai.costs.months import text_of
from airflow_provider_closeai.costs.tables import Column

FORMATS = ("html", "csv", "json", "parquet", "focus")
_BOM = b"\xef\xbb\xbf"
_FIGURES = tuple(Column(name, "amount") for name in Figures.__struct_fields__)
_EVERY = (Column("billing_month"), Column("currency"), Column("status"))
_FORECAST = (Column("forecast", "amount"), Column("observed_days", "whole"))


class Table(msgspec.Struct, frozen=True):
    """
    A table of a report.

    :param name: of its file.
    :param columns: its columns.
    :param rows: makes its rows.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Sequence[Any]]]


def formats_of(source: object) -> list[str]:
    """
    Read the ``formats`` parameter.

    :param source: some of ``html``, ``csv``, ``json``, ``parquet``, ``focus``.
    :raises InvalidParameter: another one, or none.
    """
    text = source.rstrip(", \n").split(",") if isinstance(source, str) else None
    names = [str(name).strip().lower() for name in text or (source if isinstance(source, Iterable) else ())]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        told = ", ".join(map(repr, unknown)) or "none given"
        raise InvalidParameter(f"formats: {told}; there are {', '.join(FORMATS)}.")
    if "parquet" in names:
        tables.file_format("formats", "parquet")
    return list(dict.fromkeys(names))


def tables_of(report: Report) -> list[Table]:
    """
    Lay a report out as tables: by owner, by account, by account and day, budgets, and how it ties out.

    :param report: the month.
    """
    every = (report.month.name, report.currency, report.status)
    days = len(report.observed_days)
    budgets = {line.team: line.budget for line in report.budgets}
    return [
        Table(
            "owners",
            (
                *_EVERY,
                Column("team"),
                Column("cost_center"),
                Column("accounts", "whole"),
                *_FIGURES,
                Column("share_percent", "amount"),
                *_FORECAST,
            ),
            lambda: (
                (
                    *every,
                    line.owner.team,
                    line.owner.cost_center,
                    line.accounts,
                    *_figures(line),
                    share(line.month_to_date, report.totals.month_to_date),
                    line.forecast,
                    days,
                )
                for line in report.owners
            ),
        ),
        Table(
            "accounts",
            (
                *_EVERY,
                Column("team"),
                Column("cost_center"),
                Column("sub_account_id", "whole"),
                Column("alias"),
                Column("former_aliases"),
                Column("state"),
                *_FIGURES,
                Column("share_percent", "amount"),
                Column("team_budget", "amount"),
                Column("team_budget_percent", "amount"),
                *_FORECAST,
                Column("created_at", "time"),
                Column("first_seen", "time"),
                Column("last_seen", "time"),
                Column("gap_minutes", "whole"),
            ),
            lambda: (
                (
                    *every,
                    line.owner.team,
                    line.owner.cost_center,
                    line.sub_account_id,
                    line.alias,
                    ", ".join(line.former_aliases),
                    line.state,
                    *_figures(line),
                    share(line.month_to_date, report.totals.month_to_date),
                    *_of_budget(line, budgets),
                    line.forecast,
                    line.observed_days,
                    line.created_at,
                    line.first_seen,
                    line.last_seen,
                    line.gap_minutes,
                )
                for line in report.accounts
            ),
        ),
        Table(
            "days",
            (
                *_EVERY,
                Column("day", "day"),
                Column("kind"),
                Column("team"),
                Column("cost_center"),
                Column("sub_account_id", "whole"),
                Column("alias"),
                Column("amount", "amount"),
                Column("observed_from", "time"),
                Column("observed_to", "time"),
            ),
            lambda: _days(report, every),
        ),
        Table(
            "budgets",
            (
                *_EVERY,
                Column("team"),
                Column("budget", "amount"),
                Column("actual", "amount"),
                Column("used_percent", "amount"),
                *_FORECAST,
                Column("forecast_percent", "amount"),
            ),
            lambda: (
                (
                    *every,
                    line.team,
                    line.budget,
                    line.actual,
                    share(line.actual, line.budget),
                    line.forecast,
                    days,
                    None if line.forecast is None else share(line.forecast, line.budget),
                )
                for line in report.budgets
            ),
        ),
    ]


def write_csv(file: IO[bytes], table: Table) -> None:
    """
    Write a table for a spreadsheet: with a byte order mark, by which it knows UTF-8.

    :param file: where to.
    :param table: which.
    """
    file.write(_BOM)
    tables.write_csv(file, table.columns, table.rows())


def write_parquet(file: IO[bytes], table: Table, report: Report) -> None:
    """
    Write a table as Parquet.

    :param file: where to.
    :param table: which.
    :param report: whose.
    """
    costs = (line.month_to_date for line in report.accounts)
    moved = (amount for line in report.accounts if line.history for amount in line.history.amounts)
    budgets = (line.budget for line in report.budgets)
    places = max(map(tables.places_of, (costs, moved, budgets)))
    tables.write_parquet(file, table.columns, table.rows(), places)


def write_json(file: IO[bytes], report: Report) -> None:
    """
    Write the whole report as JSON; amounts are strings. One account per line.

    :param file: where to.
    :param report: the month.
    """
    head = json.dumps(_plain(summary(report)), ensure_ascii=False, indent=1)
    file.write(head.removesuffix("\n}").encode() + b',\n "accounts": [')
    mark = b"\n  "
    budgets = {line.team: line.budget for line in report.budgets}
    for line in report.accounts:
        file.write(mark + msgspec.json.encode(_account(line, report, budgets)))
        mark = b",\n  "
    file.write(b"\n ]\n}\n")


def summary(report: Report) -> dict[str, Any]:
    """
    Everything of a report but its accounts.

    :param report: the month.
    """
    history, closing = report.history, report.closing
    return {
        "billing_month": report.month.name,
        "time_zone": report.month.zone,
        "currency": report.currency,
        "status": report.status,
        "gap_minutes": report.gap_minutes,
        "generated_at": report.generated_at,
        "first_snapshot": history.snapshots[0],
        "last_snapshot": history.snapshots[-1],
        "observed_days": len(report.observed_days),
        "missed_days": report.missed_days,
        "totals": _named(report.totals),
        "forecast": report.forecast,
        "daily": report.daily,
        "owners": [
            {
                **msgspec.structs.asdict(line.owner),
                "accounts": line.accounts,
                **_named(line),
                "share_percent": share(line.month_to_date, report.totals.month_to_date),
                "forecast": line.forecast,
                "daily": line.daily,
            }
            for line in report.owners
        ],
        "budgets": [
            {
                **msgspec.structs.asdict(line),
                "used_percent": share(line.actual, line.budget),
                "forecast_percent": None if line.forecast is None else share(line.forecast, line.budget),
            }
            for line in report.budgets
        ],
        "closed": None
        if closing is None
        else {"at": closing.at, "status": closing.status, "total": closing.total},
        "appended": [msgspec.structs.asdict(line) for line in report.appended],
        "main_account": report.control
        and {
            "at": report.control.at,
            "used": report.control.used,
            "not_in_sub_accounts": report.main_difference,
        },
        "warnings": report.warnings,
        "evidence": [file.name for file in history.files],
    }


def _account(line: AccountLine, report: Report, budgets: dict[str, Decimal]) -> dict[str, Any]:
    percent = share(line.month_to_date, report.totals.month_to_date)
    budget, used = _of_budget(line, budgets)
    return {
        "sub_account_id": line.sub_account_id,
        "alias": line.alias,
        "former_aliases": line.former_aliases,
        "team": line.owner.team,
        "cost_center": line.owner.cost_center,
        "state": line.state,
        **{name: text_of(amount) for name, amount in _named(line).items()},
        "share_percent": _plain(percent),
        "team_budget": _plain(budget),
        "team_budget_percent": _plain(used),
        "forecast": _plain(line.forecast),
        "observed_days": line.observed_days,
        "created_at": _plain(line.created_at),
        "first_seen": _plain(line.first_seen),
        "last_seen": _plain(line.last_seen),
        "gap_minutes": line.gap_minutes,
        "daily": {_day_text(day): text_of(amount) for day, amount in line.daily().items()},
    }


def _days(report: Report, every: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Every movement of every counter, and the adjustments: together the month's total."""
    for line in report.accounts:
        who = (line.owner.team, line.owner.cost_center, line.sub_account_id, line.alias)
        for span, amount in line.history.movements() if line.history else ():
            yield (*every, span.day, span.kind(amount), *who, amount, span.start, span.end)
        if line.adjustments:
            yield (*every, None, "adjustment", *who, line.adjustments, None, None)


def _of_budget(line: AccountLine, budgets: dict[str, Decimal]) -> tuple[Decimal | None, Decimal | None]:
    """Give the budget of an account's team, and how much of it this account used, in per cent."""
    budget = budgets.get(line.owner.team)
    return budget, None if budget is None else share(line.month_to_date, budget)


def _figures(line: Figures) -> list[Decimal]:
    return [getattr(line, name) for name in Figures.__struct_fields__]


def _named(line: Figures) -> dict[str, Decimal]:
    return dict(zip(Figures.__struct_fields__, _figures(line), strict=True))


@functools.lru_cache(64)
def _day_text(day: date) -> str:
    return day.isoformat()


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return text_of(value)
        case datetime():
            return tables.utc_text(value)
        case date():
            return value.isoformat()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
