"""The months before a report's: last month, and the year to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from airflow_provider_closeai.costs.accounting.money import ZERO, total
from airflow_provider_closeai.costs.accounting.months import Month
from airflow_provider_closeai.costs.accounting.report_model import Report

_DAY = timedelta(days=1)


class EarlierMonth(msgspec.Struct, frozen=True):
    """
    A month before the report's, by team.

    :param status: ``final`` or ``estimated``.
    :param uncertain: the teams of which an account's figure is in doubt.
    """

    month: Month
    status: str
    by_team: dict[str, Decimal]
    uncertain: frozenset[str] = frozenset()

    @property
    def amount(self) -> Decimal:
        """What it cost."""
        return total(self.by_team.values())

    def is_uncertain(self, team: str | None = None) -> bool:
        """Return whether what a team, or all of it, cost is in doubt."""
        return bool(self.uncertain) if team is None else team in self.uncertain


class Earlier(msgspec.Struct, frozen=True):
    """
    The earlier months that a report is compared with.

    :param last: the calendar month before; ``None``: the ledger has nothing usable of it.
    :param of_year: those of the report's year, oldest first.
    :param unusable: the names of months of that year since its first one, of which the ledger has nothing
        usable.
    :param warnings: what is missing of last month.
    :param began: when the ledger's first snapshot was made; ``None``: it is not known.
    """

    last: EarlierMonth | None = None
    of_year: Sequence[EarlierMonth] = ()
    unusable: Sequence[str] = ()
    warnings: Sequence[str] = ()
    began: datetime | None = None

    @property
    def whole_month(self) -> EarlierMonth | None:
        """Last month, where the ledger has all of it: a month is compared with nothing less."""
        is_whole = self.last is not None and (
            self.began is None or self.began - self.last.month.start <= _DAY
        )
        return self.last if is_whole else None

    @property
    def year_begins(self) -> datetime | None:
        """The beginning of the ledger, where that is inside its first month of the year; else ``None``."""
        first = self.of_year[0].month if self.of_year else None
        return self.began if first and self.began and self.began - first.start > _DAY else None

    def is_year_uncertain(self, team: str | None = None) -> bool:
        """Return whether what the year cost before the report's month is in doubt."""
        return any(month.is_uncertain(team) for month in self.of_year)

    def year_before(self, team: str | None = None) -> Decimal:
        """Return what the year cost before the report's month: of a team, or altogether."""
        return total(
            month.amount if team is None else month.by_team.get(team, ZERO) for month in self.of_year
        )


def wanted_months(month: Month, known: Iterable[str]) -> list[Month]:
    """
    Return the earlier months that a report is compared with: last month, and those of its year.

    :param known: the names of those that the ledger has.
    :returns: from the ledger's first one on, also those between that it does not have.
    """
    earliest = min(month.step(-1).name, f"{month.name[:4]}-01")
    first = max(min(known, default=month.name), earliest)
    back = (month.step(-number) for number in range(12, 0, -1))
    return [one for one in back if first <= one.name]


def earlier_of(
    month: Month, found: Sequence[EarlierMonth], unusable: Sequence[str], began: datetime | None
) -> Earlier:
    """
    Return what a report is compared with.

    :param found: the earlier months, oldest first.
    :param unusable: the names of those that cannot be computed, or are not there.
    :param began: when the ledger's first snapshot was made.
    """
    before, year = month.step(-1), month.name[:4]
    last = next((one for one in found if one.month == before), None)
    of_year = [one for one in found if one.month.name[:4] == year]
    without = [name for name in unusable if name[:4] == year]
    warnings = [f"No last month: the ledger has nothing usable of {before.name}."]
    return Earlier(last, of_year, without, warnings if before.name in unusable else (), began)


def month_of_report(report: Report) -> EarlierMonth:
    """Return a month as others are compared with it."""
    teams = dict.fromkeys(line.owner.team for line in report.owners)
    by_team = {team: report.teams[team].month_to_date for team in teams}
    uncertain = frozenset(team for team in teams if report.teams[team].uncertain)
    return EarlierMonth(report.month, report.status, by_team, uncertain)
