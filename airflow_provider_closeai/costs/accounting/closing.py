"""Closing a month: what is written at that time, and what may be appended afterwards."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE, Adjustment, ClosedCost
from airflow_provider_closeai.costs.accounting.doubts import doubts, lasting_doubts
from airflow_provider_closeai.costs.accounting.money import ZERO, format_amount
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report, certainty_of
from airflow_provider_closeai.costs.accounting.shares import shares_text
from airflow_provider_closeai.costs.accounting.turns import CLOSED
from airflow_provider_closeai.costs.errors import CloseRefused


def require_closable(report: Report, now: datetime, *, even_if_uncertain: bool = False) -> None:
    """
    Check that a month can be closed.

    :raises CloseRefused: the month is not over, its end is in doubt, or its files are damaged.
    """
    month = report.month
    if now < month.end:
        raise CloseRefused(
            f"{month.name} is not over ({month.zone}): it cannot be closed. Run the close after the turn, "
            "with month='previous'."
        )
    if report.history.is_damaged:
        raise CloseRefused(
            f"{month.name} is not closed, because files of its ledger are damaged (see the warnings). "
            "Restore them from a backup; or move them out of the ledger, and close without them."
        )
    if report.closing is None and not even_if_uncertain and any(line.end_doubt for line in report.accounts):
        again = "" if lasting_doubts(report) else "Run the close again when that is settled; or "
        raise CloseRefused(
            f"{month.name} is not closed, because its end is in doubt. "
            f"{' '.join(doubts(report, of_start=False))} {again or 'To close it all the same, '}close "
            "with close='even if uncertain': the month then counts as estimated."
        )


def closed_costs(report: Report) -> list[ClosedCost]:
    """
    Return the figures to close a month with, and who pays; 0 for an account that only notes name.

    Without accounts, this is one line that names none.
    """
    return [
        ClosedCost(
            report.currency,
            account.sub_account_id,
            account.alias,
            account.owner.team,
            account.owner.cost_center,
            account.history.cost if account.history else ZERO,
            report.status,
            account.certainty,
            account.unseen_minutes,
            shares_text(account.shares),
        )
        for account in _by_id(report)
    ] or [ClosedCost(report.currency, None, "", "", "", ZERO, report.status)]


def differences(report: Report, now: datetime) -> list[Adjustment]:
    """
    Return, as lines to append, how a closed month's observations differ now.

    An account whose end is in doubt gets no line: its closed figure stands. One that was closed in doubt and
    is certain now gets a line in any case, even of 0, which settles its figure.
    """
    found = []
    for account in _by_id(report):
        cost = account.history.cost if account.history else ZERO
        is_seen = account.history is not None or account.sub_account_id in report.history.absent
        is_settled = account.end_doubt == CLOSED and is_seen
        if is_settled or (account.unbooked and account.end_doubt in ("", CLOSED)):
            found.append(
                Adjustment(
                    now,
                    report.month.name,
                    report.currency,
                    account.sub_account_id,
                    account.alias,
                    account.unbooked,
                    DIFFERENCE,
                    f"the observations say {format_amount(cost)} since",
                    certainty_of(account.start_doubt),
                )
            )
    return found


def _by_id(report: Report) -> list[AccountCosts]:
    return sorted(report.accounts, key=lambda account: account.sub_account_id)
