"""The months before a report's: last month, and the year to date."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO, total
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.report_model import Report

_DAY = timedelta(days=1)


class EarlierMonth(msgspec.Struct, frozen=True):
    """
    An earlier month, by team.

    :param status: ``final`` or ``estimated``.
    :param uncertain: teams with an account whose figure is in doubt.
    """

    month: Month
    status: str
    by_team: dict[str, Decimal]
    uncertain: frozenset[str] = frozenset()

    @property
    def amount(self) -> Decimal:
        """Its cost."""
        return total(self.by_team.values())

    def is_uncertain(self, team: str | None = None) -> bool:
        """Return whether the cost of a team, or of all, is in doubt."""
        return bool(self.uncertain) if team is None else team in self.uncertain


class Earlier(msgspec.Struct, frozen=True):
    """
    The earlier months that a report is compared with.

    :param last: the previous calendar month; ``None``: the ledger has nothing usable of it.
    :param of_year: the earlier months of the report's year, oldest first.
    :param unusable: names of months of that year, after the first in the ledger, with nothing usable.
    :param warnings: what is missing of last month.
    :param began: when the ledger's first snapshot was made; ``None``: not known.
    """

    last: EarlierMonth | None = None
    of_year: Sequence[EarlierMonth] = ()
    unusable: Sequence[str] = ()
    warnings: Sequence[str] = ()
    began: datetime | None = None

    @property
    def whole_month(self) -> EarlierMonth | None:
        """Last month, if the ledger has all of it; a part is not compared with."""
        return self.last if self.last and not self._begins_inside(self.last.month) else None

    @property
    def year_begins(self) -> datetime | None:
        """When the ledger began, if within its first month of the year; else ``None``."""
        return self.began if self.of_year and self._begins_inside(self.of_year[0].month) else None

    def _begins_inside(self, month: Month) -> bool:
        """Return whether the ledger may lack a part of one of its months."""
        return self.began is not None and self.began - month.start > _DAY

    def is_year_uncertain(self, team: str | None = None) -> bool:
        """Return whether the year's cost before the report's month is in doubt."""
        return any(month.is_uncertain(team) for month in self.of_year)

    def year_before(self, team: str | None = None) -> Decimal:
        """Return the year's cost before the report's month: a team's, or in all."""
        return total(
            month.amount if team is None else month.by_team.get(team, ZERO) for month in self.of_year
        )


def earlier_of(
    month: Month, known: Collection[str], read: Callable[[Month], Report | None], began: datetime | None
) -> Earlier:
    """
    Return the earlier months that a report is compared with: last month, and those of its year.

    :param known: the names of the ledger's months; any month missing after the first is reported.
    :param read: returns a month's report, or ``None`` if it cannot be made.
    :param began: when the ledger's first snapshot was made.
    """
    last, year = month.step(-1).name, month.name[:4]
    first = max(min(known, default=month.name), min(last, f"{year}-01"))
    found: dict[str, EarlierMonth] = {}
    unusable: list[str] = []
    for one in (month.step(-number) for number in range(12, 0, -1)):
        if one.name < first:
            continue
        report = read(one) if one.name in known else None
        if report is None:
            unusable.append(one.name)
        else:
            found[one.name] = _compared(report)
    of_year = [one for name, one in found.items() if name.startswith(year)]
    without = [name for name in unusable if name.startswith(year)]
    warnings = [f"No last month: the ledger has nothing usable of {last}."] if last in unusable else []
    return Earlier(found.get(last), of_year, without, warnings, began)


def _compared(report: Report) -> EarlierMonth:
    teams = dict.fromkeys(line.owner.team for line in report.owners)
    by_team = {team: report.teams[team].month_to_date for team in teams}
    uncertain = frozenset(team for team in teams if report.teams[team].uncertain)
    return EarlierMonth(report.month, report.status, by_team, uncertain)
