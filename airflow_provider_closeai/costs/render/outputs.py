"""A report as tables: amounts have all their decimals; nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.costs.accounting.money import percent
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Movement, Report
from airflow_provider_closeai.costs.tables import Column, Constant

_OWNER = (Column("team", cell="owner.team"), Column("cost_center", cell="owner.cost_center"))
#: Sums of movements. A counter's falls are "corrections" in the files.
AMOUNTS = (
    Column("month_to_date", "amount"),
    Column("opening", "amount"),
    Column("increases", "amount"),
    Column("corrections", "amount", "falls"),
    Column("adjustments", "amount"),
)

#: If a turn is in doubt, the month cost ``lower_bound`` or more.
_CERTAINTY = (Column("certainty"), Column("lower_bound", "amount"))


class Table(msgspec.Struct, frozen=True):
    """
    A table of a report.

    :param name: its file's name.
    :param rows: returns its rows.
    """

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[], Iterable[Any]]


def tables_of(report: Report) -> list[Table]:
    """Return a report as tables: by owner, by account, by account and day, and budgets."""
    month = (
        Column("billing_month", cell=Constant(report.month.name)),
        Column("currency", cell=Constant(report.currency)),
        Column("status", cell=Constant(report.status)),
    )
    # The certainty of all accounts' sum: shares of that sum are no more certain.
    month_certainty = Column("month_certainty", cell=Constant(report.certainty))
    forecast = (
        Column("forecast", "amount"),
        Column("observed_days", "integer", Constant(len(report.observed_days))),
    )
    share = Column(
        "share_percent", "amount", lambda line: percent(line.month_to_date, report.totals.month_to_date)
    )
    certainty = {line.sub_account_id: line.certainty for line in report.accounts}

    def budget_of(account: AccountCosts) -> Decimal | None:
        team = report.teams.get(account.owner.team)  # a shared account has no team
        return team.budget or None if team else None

    return [
        Table(
            "owners",
            (
                *month,
                *_OWNER,
                Column("accounts", "integer"),
                *AMOUNTS,
                share,
                *forecast,
                Column("uncertain_accounts", "integer", "uncertain"),
                *_CERTAINTY,
                month_certainty,
            ),
            lambda: report.owners,
        ),
        Table(
            "accounts",
            (
                *month,
                *_OWNER,
                Column("sub_account_id", "integer"),
                Column("alias"),
                Column("former_aliases", cell=lambda line: ", ".join(line.former_aliases)),
                Column("state"),
                *AMOUNTS,
                share,
                Column("team_budget", "amount", budget_of),
                Column(
                    "team_budget_percent",
                    "amount",
                    lambda line: percent(line.month_to_date, budget_of(line)),
                ),
                Column("forecast", "amount"),
                Column("observed_days", "integer"),
                Column("created_at", "time"),
                Column("first_seen", "time"),
                Column("last_seen", "time"),
                Column("gap_minutes", "integer"),
                *_CERTAINTY,
                Column("unseen_minutes", "integer"),
                month_certainty,
            ),
            lambda: report.accounts,
        ),
        Table(
            "days",
            (
                *month,
                Column("day", "day"),
                Column("kind"),
                *_OWNER,
                Column("sub_account_id", "integer"),
                Column("alias"),
                Column("amount", "amount"),
                Column("observed_from", "time", "start"),
                Column("observed_to", "time", "end"),
                Column("certainty", cell=lambda line: certainty[line.sub_account_id]),
                month_certainty,
            ),
            lambda: _days(report),
        ),
        Table(
            "budgets",
            (
                *month,
                Column("team", cell="owner.team"),
                Column("budget", "amount"),
                Column("actual", "amount", "month_to_date"),
                Column("used_percent", "amount", lambda line: percent(line.month_to_date, line.budget)),
                *forecast,
                Column("forecast_percent", "amount", lambda line: percent(line.forecast, line.budget)),
                *_CERTAINTY,
                month_certainty,
            ),
            lambda: report.budgets,
        ),
    ]


def records_of(report: Report, name: str) -> Iterator[dict[str, Any]]:
    """Yield a table's rows as mappings, without constant columns."""
    [table] = [table for table in tables_of(report) if table.name == name]
    columns = [
        (column.name, column.getter) for column in table.columns if not isinstance(column.cell, Constant)
    ]
    for row in table.rows():
        yield {name: get(row) for name, get in columns}


def _days(report: Report) -> Iterator[Movement]:
    """Yield all counter movements, and each payer's adjustments as one; they add up to the total."""
    for account in report.accounts:
        yield from account.counter_movements()
        for line in account.parts or [account]:
            if line.adjustments:
                yield Movement(line.sub_account_id, line.alias, line.owner, "adjustment", line.adjustments)
