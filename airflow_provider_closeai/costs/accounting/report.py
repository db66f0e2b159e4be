"""Builds a month's report from its history, exact and adding up."""

from __future__ import annotations

import decimal
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from airflow_provider_closeai import cost_defaults as defaults
from airflow_provider_closeai.costs.accounting.booked import DIFFERENCE, MAIN_ACCOUNT, Adjustment, Closing
from airflow_provider_closeai.costs.accounting.doubts import doubts
from airflow_provider_closeai.costs.accounting.history import AccountHistory, History, sums_of
from airflow_provider_closeai.costs.accounting.money import ESTIMATE, EXACT, ZERO
from airflow_provider_closeai.costs.accounting.months import Month, format_ids, minutes
from airflow_provider_closeai.costs.accounting.observations import ControlTotal
from airflow_provider_closeai.costs.accounting.owners import UNALLOCATED, Owners, Rule
from airflow_provider_closeai.costs.accounting.parts import parts_of
from airflow_provider_closeai.costs.accounting.remarks import remarks_of
from airflow_provider_closeai.costs.accounting.report_model import (
    ESTIMATED,
    FINAL,
    OPEN,
    AccountCosts,
    OwnerCosts,
    Report,
    together,
)
from airflow_provider_closeai.costs.accounting.shares import Owner, payers_of, shares_from
from airflow_provider_closeai.costs.accounting.turns import CLOSED, WAITING, Turn

_MIN_FORECAST = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_ROUNDED = Decimal("1e-8")


def build_report(
    history: History,
    *,
    now: datetime,
    currency: str,
    closing: Closing | None = None,
    adjustments: Sequence[Adjustment] = (),
    owners: Sequence[Rule] = (),
    budgets: Mapping[str, Decimal] = MappingProxyType({}),
    final_within: timedelta = defaults.FINAL_WITHIN,
) -> Report:
    """
    Build a month's report.

    :param final_within: how close to the month's end a snapshot makes it final.
    """
    matcher, month = Owners(owners), history.month
    with decimal.localcontext(EXACT):
        is_over = now >= month.end
        accounts, moved = _accounts(history, matcher, closing, adjustments, is_over=is_over)
        status, gap = _status(history, accounts, now, final_within)
        if closing is not None and closing.status == ESTIMATED:
            status = ESTIMATED  # it stays so; the certainty shows what was settled since
        if status == OPEN and history.last_snapshot - history.began >= _MIN_FORECAST:
            for account in accounts:
                account.forecast = _forecast(account, history)
        for account in accounts:
            account.parts = parts_of(account) if account.shares else []
        by_owner = _by_owner(accounts)
        of_team: dict[str, list[OwnerCosts]] = {team: [] for team in budgets}
        for line in by_owner:
            of_team.setdefault(line.owner.team, []).append(line)
        control, difference = _control(history, is_over=is_over), None
        if control is not None:
            difference = control.used - _total_at(history, control.at) - _unseen_at(accounts, control.at)
        report = Report(
            month=month,
            currency=currency,
            status=status,
            generated_at=now,
            gap_minutes=gap,
            history=history,
            totals=together(Owner(""), by_owner),
            owners=by_owner,
            teams={
                team: together(Owner(team), own, budgets.get(team, ZERO)) for team, own in of_team.items()
            },
            accounts=accounts,
            closing=closing,
            appended=list(adjustments),
            control=control,
            main_difference=difference,
            warnings=[],
        )
        report.warnings = doubts(report) + history.warnings + matcher.warnings() + remarks_of(report)
        if history.controls and control is None:
            report.warnings.append(
                "Left out: the control total. When it was read, counters showed another month, or may have."
            )
        if moved:
            report.warnings.append(
                f"{month.name} is closed, and the owner rules now give {format_ids(moved)} to somebody else. "
                "Who paid when it was closed stands."
            )
    return report


def report_as_closed(
    month: Month, closing: Closing, adjustments: Sequence[Adjustment], owners: Sequence[Rule], currency: str
) -> Report:
    """
    Build a closed month's report only from what was booked, as certain as it was then.

    Its observations are not read again: newer doubts are only in the month's own report.

    :param owners: who pays for accounts that are not in the closing.
    """
    history = History(month=month, snapshots=[closing.at])
    return build_report(
        history, now=closing.at, currency=currency, closing=closing, adjustments=adjustments, owners=owners
    )


def _accounts(
    history: History,
    owners: Owners,
    closing: Closing | None,
    adjustments: Sequence[Adjustment],
    *,
    is_over: bool,
) -> tuple[list[AccountCosts], list[int]]:
    """Return the accounts, and the ids that the rules now assign differently from the closing."""
    appended: defaultdict[int, list[Adjustment]] = defaultdict(list)
    aliases: dict[int, str] = {}
    for item in adjustments:
        appended[item.sub_account_id].append(item)
        # The first that is not empty, so that a later line does not move an earlier one to somebody else.
        aliases[item.sub_account_id] = aliases.get(item.sub_account_id) or item.alias
    closed = closing.accounts if closing else {}
    aliases |= {number: one.alias for number, one in closed.items()}
    booked = aliases if closing else {}  # a closed month's payers depend on what was booked
    count_days = _day_counter(history)
    accounts = [
        _observed(
            history,
            account,
            owners.rule_of(account.id, booked.get(account.id, account.alias)),
            count_days,
            is_over=is_over,
        )
        for account in history.accounts.values()
    ]
    for number in sorted(aliases.keys() - history.accounts.keys()):
        rule = owners.rule_of(number, aliases[number])
        accounts.append(
            AccountCosts(
                sub_account_id=number,
                alias=aliases[number],
                owner=rule.owner,
                shares=rule.shares,
                state="main account" if number == MAIN_ACCOUNT else "unobserved",
            )
        )
    moved: list[int] = []
    in_doubt = closing.in_doubt(adjustments) if closing else set()
    for account in accounts:
        number = account.sub_account_id
        counted = base = account.month_to_date
        if closing is not None:
            one = closed.get(number)
            base = one.amount if one else ZERO
            if one is not None:
                now = payers_of(account.owner, account.shares)
                account.owner, account.shares = one.owner, shares_from(one.shares)
                if payers_of(account.owner, account.shares) != now:
                    moved.append(number)
        account.kept = base - counted
        account.appended = appended.get(number, [])
        account.month_to_date = base + sum((item.amount for item in account.appended), ZERO)
        account.adjustments = account.month_to_date - counted
        if account.is_certain and number in in_doubt:
            account.end_doubt = CLOSED  # until a close books what has been settled
        if not account.is_certain:  # the closed figure may exceed the lower bound seen now
            account.doubtful = max(account.doubtful - account.unbooked, ZERO)
    accounts.sort(key=lambda account: (-account.month_to_date, account.sub_account_id))
    return accounts, sorted(moved)


def _by_owner(accounts: Iterable[AccountCosts]) -> list[OwnerCosts]:
    parts: defaultdict[Owner, list[AccountCosts]] = defaultdict(list)
    for account in accounts:
        for part in account.parts or [account]:
            parts[part.owner].append(part)
    return sorted((together(owner, own) for owner, own in parts.items()), key=_rank)


def _day_counter(history: History) -> Callable[[datetime, datetime], int]:
    """Return a cached function that counts the local days with a snapshot between two times."""
    days = [(at, history.month.local(at).date()) for at in history.snapshots]
    return functools.cache(lambda first, last: len({day for at, day in days if first <= at <= last}))


def _observed(
    history: History,
    account: AccountHistory,
    rule: Rule,
    count_days: Callable[[datetime, datetime], int],
    *,
    is_over: bool,
) -> AccountCosts:
    state, gap = "live", 0
    if account.deleted_at is not None:
        state = "deleted"
    elif account.last_seen < history.last_snapshot:
        absent = next(at for at in history.snapshots if at > account.last_seen)
        state, gap = "vanished", minutes(absent - account.last_seen)
    if account.is_in_month and account.known_at != account.last_seen:
        gap += minutes(account.last_seen - (account.known_at or history.month.start))
    opening, increases, falls = sums_of(account.amounts, account.kinds)
    doubtful = account.start_doubtful + (account.end_doubtful if is_over else ZERO)
    return AccountCosts(
        sub_account_id=account.id,
        alias=account.alias,
        owner=rule.owner,
        shares=rule.shares,
        state=state,
        created_at=account.created_at,
        first_seen=account.first,
        last_seen=account.last_seen,
        gap_minutes=gap,
        observed_days=count_days(account.first, account.last_seen),
        history=account,
        month_to_date=account.cost,
        opening=opening,
        increases=increases,
        falls=falls,
        start_doubt=account.start_doubt,
        end_doubt=account.end_doubt if is_over or state != "live" else "",
        unseen_minutes=minutes(account.unseen[1] - account.unseen[0]) if is_over and account.unseen else 0,
        doubtful=min(doubtful, account.cost) if account.cost >= ZERO else doubtful,
    )


def _control(history: History, *, is_over: bool) -> ControlTotal | None:
    """Return the newest control total from a time when all counters certainly showed this month."""
    accounts, start, end = history.accounts.values(), Turn(history.month.start), Turn(history.month.end)
    begun = max([start.closes, *(account.started[1] for account in accounts if account.started)])
    fallen = [account.fell[1] for account in accounts if account.fell]
    is_doubtful = is_over and any(account.end_doubt not in ("", WAITING) for account in accounts)
    # The main account's own counter has its own reset, which no sub-account's shows.
    series = [each for each in history.controls if each.at >= begun]
    usable = (
        each
        for place, each in enumerate(series)
        if each.at < end.opens or each.used >= max(other.used for other in series[place:])
        if not fallen or each.at < min(fallen)
        if not is_doubtful or each.at <= end.opens
    )
    return next(usable, None)


def _total_at(history: History, at: datetime) -> Decimal:
    sums = ZERO
    for account in history.accounts.values():
        sums += account.cost - sum((amount for span, amount, _ in account.movements() if span.end > at), ZERO)
    return sums


def _unseen_at(accounts: Iterable[AccountCosts], at: datetime) -> Decimal:
    """Return what was booked, in closings or by hand, for sub-accounts not seen then or later."""
    sums = ZERO
    for account in accounts:
        seen = account.history
        if account.sub_account_id == MAIN_ACCOUNT or (seen and seen.last_seen >= at):
            continue
        lines = [item.amount for item in account.appended if item.source == DIFFERENCE]
        # A credit, or a note on an account that was observed, changes what it is charged, not what it used.
        notes = [item.amount for item in account.appended if item.source != DIFFERENCE and not seen]
        sums += account.kept + sum(lines, ZERO) + max(sum(notes, ZERO), ZERO)
    return sums


def _status(
    history: History, accounts: Sequence[AccountCosts], now: datetime, within: timedelta
) -> tuple[str, int | None]:
    """Return the status, and the minutes from the last known costs of live accounts to the end."""
    end = history.month.end
    if now < end:
        return OPEN, None
    known = [history.last_snapshot]
    left = [line.history for line in accounts if line.state == "live" and line.history]
    known += [account.known_at or history.month.start for account in left if account.is_in_month]
    is_final = all(line.is_certain and _is_close(line.history, end, within) for line in accounts)
    gap = max(end - min(known), timedelta(0))
    return FINAL if is_final and gap <= within else ESTIMATED, minutes(gap)


def _is_close(account: AccountHistory | None, end: datetime, within: timedelta) -> bool:
    """Return whether the unseen time at the month's end is short: around the turn, or at the fall."""
    if account is None or account.unseen is None:
        return True
    first, last = account.unseen
    return last - first <= within or (end - first <= within and last - end <= within)


def _forecast(line: AccountCosts, history: History) -> Decimal:
    """
    Extrapolate an account's rate so far to the month's end.

    An account that is gone spends no more, and appended lines are not extrapolated.
    """
    if line.state != "live":
        return line.month_to_date
    start, end, last = history.month.start, history.month.end, history.last_snapshot
    elapsed = max(last - max(start, line.created_at or start), _MIN_FORECAST)
    with decimal.localcontext(ESTIMATE):
        observed = line.month_to_date - line.adjustments
        more = observed * ((end - last) // _MICROSECOND) / (elapsed // _MICROSECOND)
        return (line.month_to_date + more).quantize(_ROUNDED)


def _rank(line: OwnerCosts) -> tuple[bool, Decimal, Owner]:
    return line.owner.team == UNALLOCATED, -line.month_to_date, line.owner
