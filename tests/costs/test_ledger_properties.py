"""Whatever happens in two months: all ways to add a month up give one amount.

Whether that is the truth depends on when the platform's month turns: test_turn_properties.py.
"""

from __future__ import annotations

import csv
import io
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import Book, Clock, local
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from airflow_provider_closeai.costs import Report, run_key
from airflow_provider_closeai.costs.render.outputs import tables_of

AMOUNTS = st.integers(0, 10**10).map(lambda number: Decimal(number).scaleb(-8))
MONTHS = ("2026-10", "2026-11")
OWNERS = {"n*": {"split": {"Numbers": "33.4%", "Others": "66.6"}}, "id:3": "Three"}


class Months(RuleBasedStateMachine):
    """A platform with counters, and the ledger that observes it from 30 October to 1 December."""

    @initialize()
    def begin(self) -> None:
        self.at = local("10-30 23:55")
        self.clock = Clock()
        self.folder = tempfile.TemporaryDirectory()
        self.book = Book(Path(self.folder.name) / "ledger", self.clock)
        self.counters: dict[int, Decimal] = {1: Decimal(0), 2: Decimal(0), 3: Decimal(0)}
        self.aliases = {1: "n1", 2: "x2", 3: "n3"}
        self.created: dict[int, str] = {}
        self.hidden: set[int] = set()
        self.notes = 0
        self._observe()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.check()
            self.folder.cleanup()

    @property
    def month(self) -> str:
        return f"{self.at:%Y-%m}"

    def _observe(self, kind: str = "snapshots", only: int | None = None) -> None:
        costs = {number: cost for number, cost in self.counters.items() if only in (None, number)}
        seen = {
            number: (None if number in self.hidden else cost, self.aliases[number], self.created.get(number))
            for number, cost in costs.items()
        }
        self.book.seen(self.at, seen, kind=kind, run=run_key(self.at, kind, only))

    @rule(number=st.integers(1, 6))
    def lose_or_find_a_cost(self, number: int) -> None:
        """The platform lists an account without its cost for a while."""
        self.hidden ^= {number}

    @rule(
        hours=st.sampled_from([6, 24, 24, 24, 90]),
        moves=st.lists(st.integers(-(10**9), 2 * 10**9), min_size=3, max_size=3),
        observes=st.sampled_from([True, True, False]),
    )
    def time_passes(self, hours: int, moves: list[int], observes: bool) -> None:
        before = self.month
        self.at = min(self.at + timedelta(hours=hours), local("11-30 23:58"))
        self.clock.at = self.at
        if self.month != before:
            self.counters = dict.fromkeys(self.counters, Decimal(0))
        for number in self.counters:
            self.counters[number] += Decimal(moves[number % 3]).scaleb(-8)
        if observes:
            self._observe()

    @rule(amount=AMOUNTS)
    def create(self, amount: Decimal) -> None:
        number = max(self.aliases) + 1
        self.counters[number], self.aliases[number] = amount, f"n{number}"
        self.created[number] = self.at.isoformat()

    @rule(number=st.integers(1, 6), alias=st.sampled_from(["n", "x", "=1+1", "a\rb"]))
    def rename(self, number: int, alias: str) -> None:
        if number in self.counters:
            self.aliases[number] = alias

    @rule(number=st.integers(1, 6), is_recorded=st.booleans(), works=st.booleans())
    def delete(self, number: int, is_recorded: bool, works: bool) -> None:
        if number in self.counters:
            self.at += timedelta(seconds=1)
            if is_recorded:
                self._observe("deleted", number)
            if works:
                del self.counters[number]

    @rule(name=st.sampled_from(MONTHS), number=st.integers(1, 9), amount=AMOUNTS, is_less=st.booleans())
    def correct(self, name: str, number: int, amount: Decimal, is_less: bool) -> None:
        if name <= self.month and amount:
            self.notes += 1
            amount = -amount if is_less else amount
            self.book.note(name, sub_account_id=number, amount=amount, reason=f"note {self.notes}")

    @rule(number=st.integers(1, 5), amount=AMOUNTS)
    def late_evidence(self, number: int, amount: Decimal) -> None:
        """A record of October comes back from a backup."""
        if self.month > MONTHS[0]:
            self.notes += 1
            at = local("10-31 23:59") + timedelta(seconds=self.notes)
            self.book.seen(at, {number: (amount, "late")}, kind="deleted", run=run_key(at))

    @rule()
    def close(self) -> None:
        self._close(MONTHS[0])

    def _close(self, name: str) -> None:
        if self.month > name or self.clock.at > local("11-30 23:59"):
            run = run_key(self.at)
            self.book.close(name, run=run, even_if_uncertain=True, owners=OWNERS)

    def _report(self, name: str) -> Report:
        return self.book.report(name, owners=OWNERS)

    def check(self) -> None:
        self.clock.at = local("12-01 00:05")
        for name in MONTHS:
            if not self.book.ledger.files("snapshots", name):
                continue
            if self._report(name).closing:
                self._close(name)  # appends what came later
            report = self._report(name)
            total = report.totals.month_to_date
            assert total == sum(line.month_to_date for line in report.accounts)
            assert total == sum(line.month_to_date for line in report.owners)
            days = list(
                zip(*(self._column(report, "days", name) for name in ("kind", "amount")), strict=True)
            )
            assert total == sum(amount for _, amount in days)
            assert report.totals.opening == sum(amount for kind, amount in days if kind == "opening")
            assert report.totals.falls == sum(amount for kind, amount in days if kind == "correction")
            assert report.totals.increases + report.totals.falls == sum(report.daily.values())
            assert {line.owner.team for line in report.owners} <= {
                "Numbers",
                "Others",
                "Three",
                "Unallocated",
            }
            since = sum(
                item.amount
                for item in report.appended
                if report.closing is not None and item.recorded_at >= report.closing.at
            )
            assert total == sum(self._focus(name)) + since

    @staticmethod
    def _column(report: Report, table: str, column: str) -> list[Any]:
        [found] = [one for one in tables_of(report) if one.name == table]
        [cell] = [one.getter for one in found.columns if one.name == column]
        return [cell(row) for row in found.rows()]

    def _focus(self, name: str) -> list[Decimal]:
        written = self.book.publish(self.book.ledger.root.parent, "focus", name, owners=OWNERS).files["focus"]
        rows = csv.DictReader(io.StringIO(Path(written).read_bytes().decode(), newline=""))
        return [Decimal(row["EffectiveCost"]) for row in rows if not row["ChargeClass"]]


def run(examples: int, *, derandomize: bool = False) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Months,
        settings=settings(
            max_examples=examples,
            derandomize=derandomize,  # True: the same examples on every machine
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=checks,
        ),
    )


def test_every_way_of_adding_up_gives_one_amount() -> None:
    run(30, derandomize=True)


@pytest.mark.deep
def test_every_way_of_adding_up_gives_one_amount_at_length() -> None:
    run(1500)
