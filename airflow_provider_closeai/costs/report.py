"""The figures of a month, as finance reads them: exact, and adding up."""

from __future__ import annotations

import decimal
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai.costs import months
from airflow_provider_closeai.costs.closing import MANUAL, Closing, Correction, read_closing, read_corrections
from airflow_provider_closeai.costs.figures import (
    ESTIMATE,
    ESTIMATED,
    FINAL,
    OPEN,
    AccountLine,
    BudgetLine,
    Figures,
    OwnerLine,
    Report,
)
from airflow_provider_closeai.costs.fold import read_history
from airflow_provider_closeai.costs.history import Account, History
from airflow_provider_closeai.costs.ledger import Ledger
from airflow_provider_closeai.costs.months import EXACT, ZERO, Month, minutes, named, zone_of
from airflow_provider_closeai.costs.owners import UNALLOCATED, Budgets, Owner, Owners

FINAL_WITHIN = timedelta(minutes=15)
_MIN_FORECAST = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_SHOWN = 5
_ROUNDED = Decimal("1e-8")


def build_report(
    ledger: Ledger,
    month: Month,
    *,
    currency: str,
    owners: Owners,
    budgets: Budgets,
    final_within: timedelta = FINAL_WITHIN,
) -> Report:
    """
    Compute a month's figures from the ledger. Changes nothing.

    :param ledger: where from.
    :param month: which.
    :param currency: of every amount in it (:func:`.months.currency_of`).
    :param owners: who pays.
    :param budgets: by team.
    :param final_within: how close to the month's end a snapshot makes it final.
    :raises NoObservation: where there is no usable snapshot of it.
    """
    at = months.now()
    with decimal.localcontext(EXACT):
        history = read_history(ledger, month)
        closing = read_closing(ledger, month.name, currency)
        appended = read_corrections(ledger, month.name, currency)
        status, gap = _status(history, at, final_within)
        accounts, moved = _accounts(history, owners, closing, appended)
        if status == OPEN and history.last_snapshot - history.began >= _MIN_FORECAST:
            for account in accounts:
                account.forecast = _forecast(account, history)
        lines = _owner_lines(accounts)
        totals = Figures()
        for line in lines:
            totals.add(line)
        difference = None
        if history.control is not None:
            difference = history.control.used - _total_at(history, history.control.at)
        report = Report(
            month=month,
            currency=currency,
            status=status,
            generated_at=at,
            gap_minutes=gap,
            history=history,
            totals=totals,
            forecast=_sum(line.forecast for line in lines),
            owners=lines,
            accounts=accounts,
            budgets=_budget_lines(lines, budgets),
            closing=closing,
            appended=appended,
            control=history.control,
            main_difference=difference,
            warnings=[],
        )
        report.warnings = history.warnings + owners.warnings() + _remarks(report)
        if moved:
            report.warnings.append(
                f"{month.name} is closed, and the owner rules now give {named(moved)} to somebody else. Who "
                "paid when it was closed stands."
            )
    return report


def _accounts(
    history: History, owners: Owners, closing: Closing | None, appended: Iterable[Correction]
) -> tuple[list[AccountLine], list[int]]:
    """Give the lines, and the accounts that the rules now give to somebody else than when it was closed."""
    booked: dict[int, Decimal] = {}
    aliases: dict[int, str] = {}
    for correction in appended:
        booked[correction.sub_account_id] = booked.get(correction.sub_account_id, ZERO) + correction.amount
        aliases[correction.sub_account_id] = correction.alias
    closed = closing.accounts if closing else {}
    aliases.update((number, one.alias) for number, one in closed.items())
    count_days = _day_counter(history)
    lines = [_observed(history, account, owners, count_days) for account in history.accounts.values()]
    known = set(history.accounts)
    for account_id in sorted({*booked, *closed} - known):
        alias = aliases.get(account_id, "")
        owner = owners.of(account_id, alias)
        lines.append(AccountLine(sub_account_id=account_id, alias=alias, owner=owner, state="unobserved"))
    moved: list[int] = []
    for line in lines:
        computed = base = line.month_to_date
        if closing is not None:
            one = closed.get(line.sub_account_id)
            base = one.cost if one else ZERO
            if one and one.owner != line.owner:
                moved.append(line.sub_account_id)
                line.owner = one.owner
        line.month_to_date = base + booked.get(line.sub_account_id, ZERO)
        line.adjustments = line.month_to_date - computed
    return sorted(lines, key=lambda line: (-line.month_to_date, line.sub_account_id)), sorted(moved)


def _owner_lines(accounts: Iterable[AccountLine]) -> list[OwnerLine]:
    lines: dict[Owner, OwnerLine] = {}
    for account in accounts:
        line = lines.get(account.owner)
        if line is None:
            line = lines[account.owner] = OwnerLine(owner=account.owner, daily=defaultdict(Decimal))
        line.add(account)
        line.accounts += 1
        line.forecast = _sum((line.forecast, account.forecast))
        daily = line.daily
        for span, amount in account.history.movements() if account.history else ():
            if span.day is not None:
                daily[span.day] += amount
    for line in lines.values():
        line.daily = dict(sorted(line.daily.items()))
    return sorted(lines.values(), key=_by_cost)


def _day_counter(history: History) -> Callable[[datetime, datetime], int]:
    """Count the local days with a snapshot between two times; most accounts ask for the same ones."""
    zone = zone_of(history.month.zone)
    days = [(at, at.astimezone(zone).date()) for at in history.snapshots]
    return functools.cache(lambda first, last: len({day for at, day in days if first <= at <= last}))


def _observed(
    history: History, account: Account, owners: Owners, count_days: Callable[[datetime, datetime], int]
) -> AccountLine:
    state, gap = "live", 0
    if history.is_gone(account):
        lost = history.lost_from(account)
        state, gap = ("deleted", 0) if lost is None else ("vanished", minutes(lost[1] - lost[0]))
    elif account.valued != account.seen:
        known = history.times[account.valued] if account.valued >= 0 else history.month.start
        gap = minutes(history.times[account.seen] - known)
    return AccountLine(
        sub_account_id=account.id,
        alias=account.alias,
        owner=owners.of(account.id, account.alias),
        state=state,
        created_at=account.created_at,
        first_seen=account.first,
        last_seen=history.times[account.seen],
        gap_minutes=gap,
        observed_days=count_days(account.first, history.times[account.seen]),
        history=account,
        month_to_date=account.cost,
        opening=account.opening,
        increases=account.cost - account.opening - account.corrections,
        corrections=account.corrections,
    )


def _total_at(history: History, at: datetime) -> Decimal:
    sums = ZERO
    for account in history.accounts.values():
        sums += account.cost
        if history.times[account.seen] > at:
            sums -= sum((amount for span, amount in account.movements() if span.end > at), ZERO)
    return sums


def _status(history: History, at: datetime, final_within: timedelta) -> tuple[str, int | None]:
    if at < history.month.end:
        return OPEN, None
    gap = history.month.end - history.valued_until
    is_final = gap <= final_within and not history.is_reset_elsewhere
    return FINAL if is_final else ESTIMATED, minutes(gap)


def _forecast(line: AccountLine, history: History) -> Decimal:
    """
    Carry an account's rate so far on to the month's end.

    One that is gone spends no more, and lines that were appended do not go on.
    """
    if line.state != "live":
        return line.month_to_date
    start, end, last = history.month.start, history.month.end, history.last_snapshot
    elapsed = max(last - max(start, line.created_at or start), _MIN_FORECAST)
    with decimal.localcontext(ESTIMATE):
        observed = line.month_to_date - line.adjustments
        more = observed * ((end - last) // _MICROSECOND) / (elapsed // _MICROSECOND)
        return (line.month_to_date + more).quantize(_ROUNDED)


def _sum(forecasts: Iterable[Decimal | None]) -> Decimal | None:
    """Add them up: of one report either all are known or none is."""
    known = [amount for amount in forecasts if amount is not None]
    return sum(known, ZERO) if known else None


def _budget_lines(lines: Sequence[OwnerLine], budgets: Budgets) -> list[BudgetLine]:
    found = []
    for team, budget in budgets.amounts.items():
        own = [line for line in lines if line.owner.team == team]
        actual = sum((line.month_to_date for line in own), ZERO)
        found.append(BudgetLine(team, budget, actual, _sum(line.forecast for line in own)))
    return found


def _by_cost(line: OwnerLine) -> tuple[bool, Decimal, Owner]:
    return line.owner.team == UNALLOCATED, -line.month_to_date, line.owner


def _remarks(report: Report) -> list[str]:
    remarks = []
    for budget in report.budgets:
        if not any(line.owner.team == budget.team for line in report.owners):
            remarks.append(f"The budget of {budget.team!r} has no costs: no account belongs to that team.")
    vanished = {line.sub_account_id: line.gap_minutes for line in report.accounts if line.state == "vanished"}
    if vanished:
        remarks.append(
            f"Not listed any more, and no deletion was recorded: {named(list(vanished))}. What they spent in "
            f"their last {max(vanished.values())} minutes at most is missing. Delete with "
            "DeleteSubAccountsOperator(ledger=...)."
        )
    if report.missed_days:
        days = ", ".join(map(str, report.missed_days[:_SHOWN]))
        more = f" and {len(report.missed_days) - _SHOWN} more days" * (len(report.missed_days) > _SHOWN)
        remarks.append(
            f"No snapshot on {days}{more}: the figure on it or beside it covers more than one day."
        )
    if report.status == ESTIMATED and not report.history.is_reset_elsewhere:
        remarks.append(
            f"The last snapshot with the costs of all accounts lies {report.gap_minutes} minutes before the "
            "month's end: what was spent then is in no figure, and nothing was invented for it."
        )
    by_hand: dict[int, Decimal] = {}
    for booked in report.appended:
        if booked.source == MANUAL:
            by_hand[booked.sub_account_id] = by_hand.get(booked.sub_account_id, ZERO) + booked.amount
    drift = [line for line in report.accounts if line.adjustments != by_hand.get(line.sub_account_id, ZERO)]
    if report.closing is not None and drift:
        remarks.append(
            f"{report.month.name} is closed, and the observations of {len(drift)} accounts say something "
            "else now. The closed figures stand. To book the difference as corrections, run the report "
            "with close=True."
        )
    return remarks
