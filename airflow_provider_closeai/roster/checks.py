"""Checks that stop a plan before anything is changed. No I/O and no clock here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from airflow_provider_closeai.client.errors import CloseAIError, InvalidParameter
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.provisioning.errors import ClockDisagrees, TooManySelected
from airflow_provider_closeai.provisioning.rotate import CLOCKS_AGREE, check_clock, time_text
from airflow_provider_closeai.provisioning.texts import format_ids
from airflow_provider_closeai.roster.errors import PlanRefused
from airflow_provider_closeai.roster.models import Roster
from airflow_provider_closeai.roster.plan import CREATE, DELETE, Plan, most_deletions

_PLATFORM_ZONE = timezone(timedelta(hours=8))
_NOTHING_CHANGED = "Nothing was changed."


def check_roster(roster: Roster, *, has_sink: bool, has_ledger: bool) -> None:
    """
    Check, before anything is sent, that a roster has the sink and ledger it needs.

    :raises InvalidParameter: one is missing; names the entry.
    """
    for entry in roster.entries.values():
        where = f"{roster.name}, line {entry.line}" if entry.line else roster.name
        if entry.rotate is not None and not has_sink:
            raise InvalidParameter(
                f"{where}, {entry.alias!r}: rotate is given, and deliver_to is None. A key goes only once "
                "its successor is where its users find it: give a sink (docs/keys.md). "
                "Nothing was sent."
            )
        if entry.over_budget is not None and not has_ledger:
            raise InvalidParameter(
                f"{where}, {entry.alias!r}: over_budget is given, and ledger is None. What an alias spent is "
                "counted from a cost ledger: give its folder (docs/ledger.md). Nothing was sent."
            )


def check_time(
    roster: Roster, accounts: Sequence[SubAccount], platform_time: float | None, now: datetime
) -> None:
    """
    Refuse to plan if clocks differ by more than 10 minutes and it matters: for ages, expiries or months.

    :param platform_time: the listing's own time, in seconds since the epoch.
    :raises ClockDisagrees: they do. Nothing was changed.
    """
    entries = roster.entries.values()
    if any(entry.rotate for entry in entries):
        check_clock(accounts, platform_time, now)
    if platform_time is None:
        return
    theirs = datetime.fromtimestamp(platform_time, UTC)
    between = [entry.alias for entry in entries if entry.is_expired(now) != entry.is_expired(theirs)]
    is_far = abs(theirs - now) > timedelta(days=1)
    has_limits = any(entry.over_budget is not None for entry in entries)
    is_other_month = has_limits and is_far and _month_of(theirs) != _month_of(now)
    if abs(theirs - now) > CLOCKS_AGREE and (between or is_other_month):
        matters = f"whether {between[0]!r} has expired" if between else "which month's costs count"
        raise ClockDisagrees(
            f"This worker's clock says {time_text(now)}, and the platform's says {time_text(theirs)}: nobody "
            f"can tell {matters}. {_NOTHING_CHANGED} Set this worker's clock right (NTP), and run the task "
            "again.",
            call="list",
        )


def _month_of(moment: datetime) -> tuple[int, int]:
    there = moment.astimezone(_PLATFORM_ZONE)
    return there.year, there.month


def main_account_of(accounts: Sequence[SubAccount], wanted: int | None) -> int | None:
    """
    Return the main account of a listing.

    :param wanted: the ``user_id`` that it must have; ``None``: any.
    :raises PlanRefused: it is another account.
    """
    listed = {account.user_id for account in accounts}
    found = listed - {None} or listed  # an account without a user_id proves nothing
    if wanted is not None and found - {wanted}:
        others = ", ".join(sorted(str(each) for each in found - {wanted}))
        raise PlanRefused(
            f"The listing's accounts have user_id {others}, and main account {wanted} is meant. "
            f"{_NOTHING_CHANGED} Is the connection's key another main account's? If it is right, correct "
            "main_account in the roster, or make a new plan.",
            call="list",
        )
    return found.pop() if len(found) == 1 else wanted


def refusal(plan: Plan) -> CloseAIError | None:
    """Return why a plan must not be applied; ``None`` if it may."""
    counts = plan.counts
    deletions = [action for action in plan.actions if action.kind == DELETE]
    most = most_deletions(plan.max_delete, plan.owned)
    if len(deletions) > most:
        counts_of = sorted(Counter(action.reason for action in deletions).items())
        reasons = ", ".join(f"{number} {reason}" for reason, number in counts_of)
        share = f" ({plan.max_delete} of {plan.owned} owned)" if isinstance(plan.max_delete, str) else ""
        return TooManySelected(
            f"The plan deletes {len(deletions)} sub-accounts ({reasons}), and max_delete is {most:g}{share}: "
            f"ids {format_ids([action.id for action in deletions])}. "
            f"{_NOTHING_CHANGED} Look at the plan in this log. If all of it is meant, run it once with "
            f"max_delete={len(deletions)} (docs/roster.md); if not, correct the roster.",
            call="delete",
        )
    if plan.max_create is not None and counts[CREATE] > plan.max_create:
        return PlanRefused(
            f"The plan creates {counts[CREATE]} sub-accounts, and max_create is {plan.max_create}. "
            f"{_NOTHING_CHANGED} Look at the plan in this log. If all of it is meant, run it once with "
            f"max_create={counts[CREATE]} (docs/roster.md); if not, correct the roster.",
            call="create",
        )
    if not plan.listed and counts[CREATE] and plan.max_create is None:
        return PlanRefused(
            f"The listing is empty, and the roster wants {counts[CREATE]} sub-accounts. That is rather a "
            f"fault of the platform or another main account's key than the truth. {_NOTHING_CHANGED} If "
            f"there are none yet, give max_create={counts[CREATE]} for the first run.",
            call="list",
        )
    return None
