"""Wherever a platform's month turns: a figure is the truth, or it is marked, with a lower bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from books import OLD, local
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_closeai.costs.accounting.aggregate import aggregate
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.observations import Observation, ObservedFile, ObservedMonth
from airflow_provider_closeai.costs.accounting.report import build_report
from airflow_provider_closeai.costs.accounting.report_model import AccountCosts, Report
from airflow_provider_closeai.costs.accounting.turns import AGAIN, Turn

HOUR = timedelta(hours=1)
MONTH = Month("2026-11")
TURNS = (MONTH.start, MONTH.end)
#: No two sums of different ones are equal. The first are for parts, which have 18 uses at most.
MARKS = [Decimal(2**number).scaleb(-15) for number in range(99)]
#: In which a ledger may count its months, wherever the platform's turn.
ZONES = ["Asia/Shanghai", "Asia/Shanghai", "UTC", "America/Los_Angeles", "Pacific/Kiritimati"]
BEGIN, STOP = local("10-29 12:00").astimezone(UTC), local("12-04 23:59").astimezone(UTC)


class Account(msgspec.Struct, kw_only=True):
    """
    An account of a platform that may turn anywhere.

    :param uses: when a cost is posted (up to 3 hours after its use, which no counter shows), and how much.
    :param resets: when its month turns: that of October, and that of November.
    :param is_lazy: its counter starts again at the first use after the turn.
    :param is_dated: the platform says when it was made.
    :param part: another counter that is added to its own, and has turns of its own.
    """

    number: int
    uses: list[tuple[datetime, Decimal]]
    resets: tuple[datetime, datetime]
    is_lazy: bool = False
    is_dated: bool = True
    born: datetime | None = None
    gone: datetime | None = None
    balance: str = "none"
    part: Account | None = None

    def spent(self, start: datetime, end: datetime) -> Decimal:
        return sum((amount for at, amount in self.uses if start <= at < end), Decimal(0))

    @property
    def parts(self) -> list[Account]:
        return [self, self.part] if self.part else [self]

    def counter(self, at: datetime) -> Decimal:
        """Return what one of its counters shows."""
        begin = BEGIN
        for reset in self.resets:
            has_use = any(reset <= moment <= at for moment, _ in self.uses)
            if at >= reset and (has_use or not self.is_lazy):
                begin = reset
        return self.spent(begin, at + timedelta(microseconds=1))

    def seen(self, at: datetime) -> Observation:
        spent = sum((part.spent(BEGIN, at + timedelta(microseconds=1)) for part in self.parts), Decimal(0))
        balance = {"none": None, "still": Decimal(100), "moves": 1000 - spent}[self.balance]
        created = (self.born.isoformat() if self.born else OLD) if self.is_dated else ""
        cost = sum((part.counter(at) for part in self.parts), Decimal(0))
        return Observation(self.number, "a", cost, created, balance=balance)

    @property
    def truth(self) -> Decimal:
        """What November cost: what its counters count between their two turns."""
        return sum((part.spent(*part.resets) for part in self.parts), Decimal(0))


#: The accounts, when they were looked at, and the ledger's zone.
Case = tuple[list[Account], list[datetime], str]


def observed(accounts: list[Account], times: list[datetime], zone: str) -> ObservedMonth:
    month = Month(MONTH.name, zone)
    records = [(account.gone, account) for account in accounts if account.gone]
    files: dict[str, list[ObservedFile]] = {"2026-10": [], "2026-11": [], "2026-12": []}
    for at in times:
        rows = [
            account.seen(at)
            for account in accounts
            if (account.born is None or account.born <= at) and (account.gone is None or at < account.gone)
        ]
        files[month_of(at, zone).name].append(ObservedFile("s", at, True, rows))
    for at, account in records:
        if at <= times[-1]:
            files[month_of(at, zone).name].append(ObservedFile("d", at, False, [account.seen(at)]))
    for name in files:
        files[name].sort(key=lambda file: (file.at, file.is_complete))
    opens = Turn(month.start).opens
    old = [place for place, file in enumerate(files["2026-10"]) if file.at <= opens and file.is_complete]
    return ObservedMonth(
        month,
        "ledger",
        sorted(name for name in files if files[name]),
        files["2026-11"],
        [],
        (),
        [],
        files["2026-10"][old[-1] if old else 0 :],
        files["2026-12"],
    )


def check(account: Account, line: AccountCosts | None, times: list[datetime]) -> None:
    if line is None:
        assert account.truth == unseen(account, times)
        return
    assert 0 <= line.lower_bound <= account.truth, "no lower bound"
    if line.is_certain:
        assert line.lower_bound == line.month_to_date
        missing = account.truth - line.month_to_date
        assert missing in (0, unseen(account, times)), "neither the truth nor marked"
        assert line.history is not None
        assert not missing or line.history.unseen is None or line.unseen_minutes or line.month_to_date == 0


def unseen(account: Account, times: list[datetime]) -> Decimal:
    """What was spent between the last look at an account and its turn."""
    looks = sorted([*times, *([account.gone] if account.gone and account.gone <= times[-1] else [])])
    missing = Decimal(0)
    for part in account.parts:
        begin, end = part.resets
        last = max((at for at in looks if at < end), default=BEGIN)
        missing += part.spent(max(last + timedelta(microseconds=1), begin), end)
    return missing


@st.composite
def instants(draw: st.DrawFn) -> datetime:
    """Draw a moment, mostly near a turn."""
    around = draw(st.sampled_from([*TURNS, *TURNS, MONTH.start + timedelta(days=15)]))
    return around + timedelta(minutes=draw(st.integers(-40 * 60, 60 * 60)))


@st.composite
def accounts(draw: st.DrawFn, number: int, zone: int) -> Account:
    amounts = st.sampled_from(["1", "2", "3", "5", "0.00000001", "40"]).map(Decimal)
    uses = sorted(
        (at + timedelta(minutes=draw(st.integers(0, 180))), amount)
        for at, amount in draw(st.lists(st.tuples(instants(), amounts), max_size=9))
    )
    offsets = draw(st.sampled_from(["all", "each"]))
    late = [timedelta(minutes=draw(st.integers(-180, 180))) for _ in TURNS]
    if offsets == "all":
        late = [late[0], late[0]]
    resets = (TURNS[0] + zone * HOUR + late[0], TURNS[1] + zone * HOUR + late[1])
    born = draw(st.none() | instants()) if draw(st.integers(0, 3)) == 0 else None
    gone = draw(st.none() | instants()) if draw(st.integers(0, 3)) == 0 else None
    if born and gone and gone <= born:
        gone = None
    uses = [use for use in uses if (not born or use[0] >= born) and (not gone or use[0] <= gone)]
    if gone:  # who spends exactly what its counter showed, and goes, looks like who spent nothing
        uses = [(at, amount + mark) for (at, amount), mark in zip(uses, MARKS[20:], strict=False)]
    return Account(
        number=number,
        uses=[(at, amount) for at, amount in uses if BEGIN <= at <= STOP],
        resets=resets,
        is_lazy=draw(st.booleans()),
        is_dated=draw(st.integers(0, 2)) > 0,
        born=born,
        gone=gone,
        balance=draw(st.sampled_from(["none", "still", "moves"])),
    )


@st.composite
def with_refunds(draw: st.DrawFn, number: int, zone: int) -> Account:
    """
    Draw an account that gets something back of what it spent this month, some days after the turn.

    Where it was 0 at the turn and was used soon, within a day after it: else growth may hide the turn.
    """
    account = draw(accounts(number, zone))
    uses = list(account.uses)
    for begin, reset in zip((BEGIN, account.resets[0]), account.resets, strict=True):
        at = reset + timedelta(days=2) + timedelta(minutes=draw(st.integers(0, 20 * 24 * 60)))
        if account.born is None and draw(st.booleans()):
            uses = [use for use in uses if not begin <= use[0] < reset]
            uses.append((reset + timedelta(minutes=draw(st.integers(0, 6 * 60))), Decimal(5)))
            at = reset + timedelta(minutes=draw(st.integers(1, 24 * 60)))
        left = sum((amount for moment, amount in uses if reset <= moment < at), Decimal(0))
        if left and draw(st.booleans()):
            uses.append((at, -left / draw(st.sampled_from([1, 2, 10]))))
    gone = account.gone
    uses = sorted(use for use in uses if use[0] <= min(gone or STOP, STOP))
    return msgspec.structs.replace(account, uses=uses, is_lazy=False)


@st.composite
def ledgers(
    draw: st.DrawFn,
    of: Callable[[int, int], st.SearchStrategy[Account]] = accounts,
    zones: Sequence[int] = (0, 0, 8, 8, -6, 20),
    of_ledger: Sequence[str] = ZONES,
) -> Case:
    zone = draw(st.sampled_from(zones))
    found = [draw(of(number, zone)) for number in (1, 2)]
    every = [
        BEGIN + day * 24 * HOUR - timedelta(minutes=5) + 12 * HOUR
        for day in (*range(6), 12, 19, 26, *range(30, 37))
    ]
    turns = [at + timedelta(minutes=minutes) for at in TURNS for minutes in (-2, 5)]
    dense = [at + step * HOUR for at in TURNS for step in range(-9, 24)] if draw(st.booleans()) else []
    missed = draw(st.sets(st.sampled_from([*every, *turns]), max_size=6))
    pairs_only = draw(st.integers(0, 9)) == 0
    times = turns if pairs_only else sorted({*every, *turns, *dense} - missed)
    stop = draw(st.sampled_from([STOP, STOP, MONTH.end + timedelta(minutes=6), MONTH.end + 30 * HOUR]))
    start = draw(st.sampled_from([BEGIN, BEGIN, MONTH.start - HOUR, MONTH.start, MONTH.start + 60 * HOUR]))
    looks, name = [at for at in times if start <= at <= stop], draw(st.sampled_from(of_ledger))
    assume(any(month_of(at, name).name == MONTH.name for at in looks))
    return found, looks, name


def in_parts(account: Account, part: Account) -> Account:
    """
    Let an account have two counters, which are shown as one and start again on their own.

    No two sums of its amounts are equal: what was spent is never exactly the part that was reset.
    """
    born, gone = account.born, account.gone
    marks = iter(MARKS)
    own, other = (
        [
            (at, amount + next(marks))
            for at, amount in one.uses
            if (not born or at >= born) and (not gone or at <= gone)
        ]
        for one in (account, part)
    )
    part = msgspec.structs.replace(part, uses=other, born=born, gone=gone, is_lazy=False)
    return msgspec.structs.replace(account, uses=own, part=part, is_lazy=False)


def witness(number: int, zone: int) -> Account:
    """Return an account that shows, where anybody looks in between, that this platform resets in parts."""
    early, late = (tuple(turn + (zone + hours) * HOUR for turn in TURNS) for hours in (-3, 3))
    uses = [(BEGIN, Decimal(50)), (local("11-12 12:00"), Decimal(50))]
    part = Account(number=number, uses=uses, resets=(late[0], late[1]))
    return Account(number=number, uses=uses, resets=(early[0], early[1]), part=part)


@st.composite
def ledgers_in_parts(draw: st.DrawFn) -> Case:
    _, times, of_ledger = draw(ledgers())
    zone = draw(st.sampled_from([0, 0, 0, 8]))
    found = [in_parts(draw(accounts(number, zone)), draw(accounts(number, zone))) for number in (1, 2)]
    return [*found, witness(3, zone), witness(4, zone)], times, of_ledger


def report_of(case: Case) -> Report:
    history = aggregate(observed(*case))
    return build_report(history, now=STOP + HOUR, currency="CNY")


def holds(case: Case) -> None:
    found, times, _ = case
    report = report_of(case)
    lines = {line.sub_account_id: line for line in report.accounts}
    for account in found:
        if account.born is None or account.born <= times[-1]:
            check(account, lines.get(account.number), times)
    if report.status == "final":
        assert not report.uncertain
    assert report.totals.month_to_date == sum(
        (movement.amount for account in report.accounts for movement in account.movements()), Decimal(0)
    )


@settings(max_examples=100, deadline=None)
@given(ledgers())
def test_a_figure_is_the_truth_or_is_marked(case: Case) -> None:
    holds(case)


@settings(max_examples=40, deadline=None)
@given(ledgers(with_refunds, zones=(8, 20), of_ledger=ZONES[:1]))
def test_a_refund_after_the_turn_is_no_turn(case: Case) -> None:
    """Where it does not turn before it is assumed to: else growth before that may hide a turn."""
    holds(case)


def holds_in_parts(case: Case) -> None:
    """Where a platform is seen to reset in parts, no part that growth hides makes a figure silently wrong."""
    found, times, _ = case
    report = report_of(case)
    lines = {line.sub_account_id: line for line in report.accounts}
    doubts = [(line.start_doubt, line.end_doubt) for line in lines.values() if line.sub_account_id > 2]
    is_seen = len(doubts) == 2 and all(AGAIN in both for both in doubts)
    for account in found:
        if is_seen and (account.born is None or account.born <= times[-1]):
            check(account, lines.get(account.number), times)


@settings(max_examples=40, deadline=None)
@given(ledgers_in_parts())
def test_a_counter_that_falls_in_parts(case: Case) -> None:
    holds_in_parts(case)


@pytest.mark.deep
@settings(max_examples=3_000, deadline=None)
@given(ledgers_in_parts())
def test_a_counter_that_falls_in_parts_deep(case: Case) -> None:
    holds_in_parts(case)


@pytest.mark.deep
@settings(max_examples=10_000, deadline=None)
@given(ledgers())
def test_a_figure_is_the_truth_or_is_marked_deep(case: Case) -> None:
    holds(case)


@pytest.mark.deep
@settings(max_examples=10_000, deadline=None)
@given(ledgers(with_refunds, zones=(8, 20), of_ledger=ZONES[:1]))
def test_a_refund_after_the_turn_is_no_turn_deep(case: Case) -> None:
    holds(case)
