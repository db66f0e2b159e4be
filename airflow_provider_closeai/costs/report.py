"""The figures of a month, as finance reads them: exact, and adding up."""

from __future__ import annotations

import decimal
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from airflow_provider_closeai.client.errors import InvalidParameter
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
from airflow_provider_closeai.costs.history import Account, History, read_history
from airflow_provider_closeai.costs.ledger import Ledger
from airflow_provider_closeai.costs.months import EXACT, ZERO, Month, minutes
from airflow_provider_closeai.costs.owners import UNALLOCATED, Budgets, Owner, Owners

FINAL_WITHIN = timedelta(minutes=15)
_MIN_FORECAST = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_ROUNDED = Decimal("1e-8")
_CURRENCY = re.compile(r"[A-Z]{3}")


def currency_of(value: object) -> str:
    """
    Read the ``currency`` parameter: required, for no page of the platform says which one it is.

    :param value: its ISO 4217 code.
    :raises InvalidParameter: no such code.
    """
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        hint = " For the renminbi that is CNY." if str(value).upper() == "RMB" else ""
        raise InvalidParameter(f"currency: {value!r} is no ISO 4217 code, such as CNY or USD.{hint}")
    if value == "RMB":
        raise InvalidParameter("currency: RMB is no ISO 4217 code. For the renminbi that is CNY.")
    return value


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
    :param currency: of every amount in it (:func:`currency_of`).
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
        growth = _growth(history, status)
        accounts = _accounts(history, owners, closing, appended)
        for account in accounts:
            account.forecast = _forecast(account, growth)
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
    return report


def _accounts(
    history: History, owners: Owners, closing: Closing | None, appended: Iterable[Correction]
) -> list[AccountLine]:
    booked: dict[int, Decimal] = {}
    aliases: dict[int, str] = {}
    for correction in appended:
        booked[correction.sub_account_id] = booked.get(correction.sub_account_id, ZERO) + correction.amount
        aliases[correction.sub_account_id] = correction.alias
    if closing is not None:
        aliases.update(closing.aliases)
    lines = [_observed(history, account, owners) for account in history.accounts.values()]
    known = set(history.accounts)
    for account_id in sorted({*booked, *(closing.amounts if closing else ())} - known):
        alias = aliases.get(account_id, "")
        owner = owners.of(account_id, alias)
        lines.append(AccountLine(sub_account_id=account_id, alias=alias, owner=owner, state="unobserved"))
    for line in lines:
        computed = line.month_to_date
        base = computed if closing is None else closing.amounts.get(line.sub_account_id, ZERO)
        line.month_to_date = base + booked.get(line.sub_account_id, ZERO)
        line.adjustments = line.month_to_date - computed
    return sorted(lines, key=lambda line: (-line.month_to_date, line.sub_account_id))


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


def _observed(history: History, account: Account, owners: Owners) -> AccountLine:
    state, gap = "live", 0
    if history.is_gone(account):
        lost = history.lost_from(account)
        state, gap = ("deleted", 0) if lost is None else ("vanished", minutes(lost[1] - lost[0]))
    return AccountLine(
        sub_account_id=account.id,
        alias=account.alias,
        owner=owners.of(account.id, account.alias),
        state=state,
        created_at=account.created_at,
        first_seen=account.first,
        last_seen=history.times[account.seen],
        gap_minutes=gap,
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
    gap = history.month.end - history.last_snapshot
    is_final = gap <= final_within and not history.is_reset_elsewhere
    return FINAL if is_final else ESTIMATED, minutes(gap)


def _growth(history: History, status: str) -> Decimal | None:
    """By how much of itself the cost grows at the rate so far; a month that is over needs no forecast."""
    if status != OPEN:
        return None
    begin, end, last = history.began, history.month.end, history.last_snapshot
    if last - begin < _MIN_FORECAST:
        return None
    with decimal.localcontext(ESTIMATE):
        return Decimal((end - last) // _MICROSECOND) / ((last - begin) // _MICROSECOND)


def _forecast(line: AccountLine, growth: Decimal | None) -> Decimal | None:
    """An account that is gone spends no more, and lines that were appended do not go on."""
    if growth is None:
        return None
    observed = line.month_to_date - line.adjustments if line.state == "live" else ZERO
    with decimal.localcontext(ESTIMATE):
        return (line.month_to_date + observed * growth).quantize(_ROUNDED)


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
    vanished = [line for line in report.accounts if line.state == "vanished"]
    if vanished:
        longest = max(line.gap_minutes for line in vanished)
        remarks.append(
            f"{len(vanished)} accounts (ids {', '.join(str(line.sub_account_id) for line in vanished[:5])}) "
            "were not listed any more and nobody recorded their deletion: what they spent in their last "
            f"{longest} minutes at most is missing. Delete with DeleteSubAccountsOperator(ledger=...)."
        )
    if report.missed_days:
        days = ", ".join(map(str, report.missed_days))
        remarks.append(f"No snapshot on {days}: a figure beside it covers more than one day.")
    if report.status == ESTIMATED:
        remarks.append(
            f"The last snapshot lies {report.gap_minutes} minutes before the month's end: what was spent "
            "then is in no figure, and nothing was invented for it."
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
