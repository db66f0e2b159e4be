"""Remarks for the readers of a month's report."""

from __future__ import annotations

from airflow_provider_closeai.costs.accounting.booked import NOTE
from airflow_provider_closeai.costs.accounting.closing import differences
from airflow_provider_closeai.costs.accounting.months import format_ids
from airflow_provider_closeai.costs.accounting.report_model import ESTIMATED, Report

_SHOWN = 5


def remarks_of(report: Report) -> list[str]:
    """Return sentences on what is odd or incomplete about a month."""
    remarks = []
    for team, costs in report.teams.items():
        if not costs.accounts:
            remarks.append(f"The budget of {team!r} has no costs: no account belongs to that team.")
    vanished = {
        line.sub_account_id: line.gap_minutes
        for line in report.accounts
        if line.state == "vanished" and line.last_seen and line.last_seen >= report.month.start
    }
    if vanished:
        remarks.append(
            "Not listed any more, and since they last were, no deletion was recorded: "
            f"{format_ids(list(vanished))}. What they spent in their last {max(vanished.values())} minutes "
            "at most is missing. Delete with DeleteSubAccountsOperator(ledger=...)."
        )
    if report.missed_days:
        days = ", ".join(map(str, report.missed_days[:_SHOWN]))
        more = f" and {len(report.missed_days) - _SHOWN} more days" * (len(report.missed_days) > _SHOWN)
        remarks.append(
            f"No snapshot on {days}{more}: the figure on it or beside it covers more than one day."
        )
    unknown = [
        line.sub_account_id
        for line in report.accounts
        if line.state == "unobserved" and any(item.source == NOTE for item in line.appended)
    ]
    if unknown:
        remarks.append(
            f"Notes name {format_ids(sorted(unknown))}, which no snapshot of {report.month.name} has. They "
            "are counted; if an id is wrong, book the opposite amount, and the note again."
        )
    if report.status == ESTIMATED and report.unseen_minutes:
        remarks.append(
            f"The last snapshot with the costs of all accounts lies {report.gap_minutes} minutes before the "
            f"month's end, and up to {report.unseen_minutes} minutes around it were not seen: what was spent "
            "then is not included and not estimated."
        )
    now_different = differences(report, report.generated_at) if report.closing else []
    if drift := sum(bool(line.amount) for line in now_different):  # how many a close would book
        remarks.append(
            f"{report.month.name} is closed, and the observations of {drift} accounts say something else "
            "now. The closed figures stand. To book the difference, run the report with "
            "close=True."
        )
    return remarks
