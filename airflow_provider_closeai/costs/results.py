"""The service's results, also as plain JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_closeai.costs.accounting.alerts import Alert
from airflow_provider_closeai.costs.accounting.money import format_amount
from airflow_provider_closeai.costs.accounting.report_model import Report
from airflow_provider_closeai.costs.render.teams import Team
from airflow_provider_closeai.costs.store.ledger import LedgerFile

_MOST = 100  # teams and alerts: the database keeps every event


class SnapshotResult(msgspec.Struct, frozen=True):
    """
    A snapshot that was recorded.

    :param total: the sum of its ``monthly_cost``.
    :param main_usage: what the main account used, if the platform reported it.
    """

    file: LedgerFile
    total: Decimal
    main_usage: Decimal | None

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON, for XCom and the asset's metadata."""
        return {
            "file": self.file.name,
            "billing_month": self.file.month,
            "observed_at": self.file.at.isoformat(),
            "sub_accounts": self.file.rows,
            "total": format_amount(self.total),
            "main_usage": None if self.main_usage is None else format_amount(self.main_usage),
        }


class ReportResult(msgspec.Struct, frozen=True):
    """
    A report that was written.

    :param files: the paths of its files, by label: ``html``, ``owners.csv`` ...
    :param alerts: those that no other run has reported.
    :param headline: the month in a few sentences.
    :param digest: the lines for notifiers, as plain text.
    :param url: the page's URL, if ``public_url`` is given.
    :param teams: those that need attention first, then the largest.
    """

    report: Report
    files: dict[str, str]
    alerts: list[Alert]
    headline: str
    digest: str
    url: str | None
    teams: list[Team]

    def record(self) -> dict[str, Any]:
        """Return its main figures as plain JSON, for XCom."""
        report = self.report
        return {
            "billing_month": report.month.name,
            "currency": report.currency,
            "status": report.status,
            "closed": report.closing is not None,
            "total": format_amount(report.totals.month_to_date),
            "lower_bound": format_amount(report.lower_bound),
            "certainty": report.certainty,
            "uncertain_accounts": [line.sub_account_id for line in report.uncertain],
            "unseen_minutes": None if report.gap_minutes is None else report.unseen_minutes,
            "forecast": None if report.forecast is None else format_amount(report.forecast),
            "files": self.files,
            "warnings": report.warnings,
            "alerts": [alert.record() for alert in self.alerts],
            "headline": self.headline,
            "digest": self.digest,
            "url": self.url,
        }

    def published(self) -> dict[str, Any]:
        """Return the same with the first alerts and teams, for the asset's metadata."""
        record = self.record()
        teams = [
            {
                "team": team.name,
                "sub_accounts": team.costs.accounts,
                "month_to_date": format_amount(team.costs.month_to_date),
                "budget": None if team.budget is None else format_amount(team.budget),
                "verdict": team.verdict,
                "level": team.level,
            }
            for team in self.teams[:_MOST]
        ]
        return {
            **record,
            "alerts": record["alerts"][:_MOST],
            "more_alerts": len(record["alerts"][_MOST:]),
            "sub_accounts": len(self.report.accounts),
            "teams": teams,
            "more_teams": len(self.teams) - len(teams),
        }
