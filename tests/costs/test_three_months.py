"""Three months of the simulated platform, against its own true ledger: every decimal, every day."""

# A Decimal equals an int, which mypy does not know.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.costs import (
    CloseRequest,
    DeletionRequest,
    Report,
    Run,
    SnapshotRequest,
    compute,
    record_deleted,
    run_key,
    snapshot,
)
from airflow_provider_closeai.costs.accounting.months import month_of
from airflow_provider_closeai.simulator import Simulator

UNIT = Decimal("0.00000001")
START = datetime(2026, 10, 31, 12)


class World:
    """A platform, a ledger, and what was true of each account when it was last observed."""

    def __init__(self, root: Path, sim: Simulator) -> None:
        self.sim = sim
        self.ledger = root / "ledger"
        config = config_from(password=sim.key, host=sim.discovery_url, extra={})
        self.client = CloseAIClient(config)
        self.seen: dict[tuple[int, str], Decimal] = {}
        self.runs = 0

    def at(self, moment: datetime) -> World:
        self.sim.clock.set(moment)
        return self

    def account(self, alias: str, rate: str, **options: Any) -> int:
        number = int(self.sim.add_account(alias, **options)["id"])
        self.sim.set_rate(number, rate)
        return number

    def observe(self) -> None:
        self.runs += 1
        request = SnapshotRequest.parse(ledger=self.ledger)
        snapshot(request, lambda: self.client, run=Run(key=run_key(self.runs)), clock=self.now)
        self.remember(account["id"] for account in self.sim.accounts())

    def remember(self, account_ids: Iterator[int]) -> None:
        month, truth = month_of(self.sim.clock.now()).name, self.sim.truth.by_month
        self.seen.update({(number, month): truth[number, month] for number in account_ids})

    def delete(self, number: int) -> None:
        [account] = [item for item in self.client.iter_sub_accounts() if item.id == number]
        request = DeletionRequest.parse(ledger=self.ledger)
        record_deleted(request, [account], self.now(), run=Run(key="0" * 12), clock=self.now)
        self.remember(iter([number]))
        self.client.delete([account])

    def report(self, month: str) -> Report:
        owners = {"search.*": "Search", "ads.*": "Ads"}
        request = CloseRequest.parse(ledger=self.ledger, month=month, currency="CNY", owners=owners)
        return compute(request, clock=self.now)

    def now(self) -> datetime:
        return self.sim.clock.now().astimezone(UTC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Simulator(bases=1, seed=5, start=START) as sim:
        yield World(tmp_path, sim)


def midnights(first: date, last: date) -> Iterator[datetime]:
    day = first
    while day <= last:
        yield datetime(day.year, day.month, day.day)
        day += timedelta(days=1)


def test_it_ties_out(world: World) -> None:
    sim = world.sim
    web = world.account("search.web", "0.12345678", monthly_cost="7.00000003")
    bids = world.account("trial", "1.00000001")
    idle = world.account("idle", "0")
    temp = world.account("ads.temp", "0.5", monthly_cost="1")
    world.observe()
    late = lost = 0
    for midnight in midnights(date(2026, 11, 1), date(2027, 2, 1)):
        if midnight.day == 1 and midnight.month != 1:  # before New Year the closing snapshot is missed
            world.at(midnight - timedelta(microseconds=1)).observe()
        world.at(midnight)
        if midnight == datetime(2026, 11, 4):
            late = world.account("search.late", "0.02")
        if midnight == datetime(2026, 11, 15):
            world.client.update(
                [item for item in world.client.iter_sub_accounts() if item.id == bids],
                "ads.bids",
                {"gpt-4": Decimal(1)},
            )
        if midnight == datetime(2026, 12, 3):
            lost = world.account("search.lost", "0.25")
        if midnight not in (datetime(2026, 11, 11), datetime(2027, 1, 1)):  # missed
            world.observe()
        if midnight == datetime(2026, 11, 12):
            world.at(midnight + timedelta(hours=6))
            sim.correct_cost(bids, "-30.00000007")
        if midnight == datetime(2026, 11, 18):
            world.at(midnight + timedelta(hours=15, minutes=30)).delete(temp)
        if midnight == datetime(2026, 12, 5):
            world.at(midnight + timedelta(hours=3))
            sim.delete_account(lost)
        if midnight == datetime(2027, 1, 20):
            world.at(midnight + timedelta(hours=1))
            sim.correct_cost(web, "2.5")

    truth = sim.truth
    reports = {month: world.report(month) for month in ("2026-11", "2026-12", "2027-01")}
    for month, report in reports.items():
        found = {(line.sub_account_id, month): line.month_to_date for line in report.accounts}
        assert found == {key: value for key, value in world.seen.items() if key[1] == month}
        assert report.totals.month_to_date == sum(found.values())
        assert report.totals.month_to_date == sum(line.month_to_date for line in report.owners)
        assert report.totals.opening == 0
        assert report.totals.month_to_date == sum(report.daily.values())

    # What is missing is what was spent after the last observation, and the report names that time.
    november, december, january = reports.values()
    assert [(report.status, report.gap_minutes) for report in reports.values()] == [
        ("final", 1),
        ("estimated", 1440),
        ("final", 1),
    ]

    def missing(report: Report) -> dict[int, Decimal]:
        month = report.month.name
        reported = {line.sub_account_id: line.month_to_date for line in report.accounts}
        every = {number for number, when in truth.by_month if when == month}
        return {
            number: gap
            for number in every
            if (gap := truth.by_month[number, month] - reported.get(number, Decimal(0)))
        }

    assert missing(november) == {web: UNIT, bids: UNIT, late: UNIT}  # one microsecond
    assert missing(january) == {web: UNIT, bids: UNIT, late: UNIT}
    assert missing(december) == {
        web: Decimal("0.12345678") * 24,
        bids: Decimal("1.00000001") * 24,
        late: Decimal("0.02") * 24,
        lost: Decimal("0.25") * 3,
    }
    states = {line.sub_account_id: (line.state, line.gap_minutes) for line in december.accounts}
    assert states == {
        web: ("live", 0),
        bids: ("live", 0),
        idle: ("live", 0),
        late: ("live", 0),
        lost: ("vanished", 1440),
    }
    [deleted] = [line for line in november.accounts if line.state == "deleted"]
    assert (deleted.sub_account_id, deleted.month_to_date) == (
        temp,
        Decimal("0.5") * (17 * 24 + Decimal("15.5")),
    )

    # Day by day: as in the truth, but for the missed day, whose cost is in its neighbour's figure.
    ours: defaultdict[tuple[int, date], Decimal] = defaultdict(Decimal)
    for report in reports.values():
        for line in report.accounts:
            for day, amount in line.daily.items():
                ours[line.sub_account_id, day] += amount
    differing: defaultdict[date, Decimal] = defaultdict(Decimal)
    for key in {*ours, *truth.by_date}:
        if (day := key[1]) >= date(2026, 11, 1) and ours[key] != truth.by_date[key]:
            differing[day] += ours[key] - truth.by_date[key]
    two_days = (
        Decimal("0.12345678") * 24 + Decimal("1.00000001") * 24 + Decimal("0.5") * 24 + Decimal("0.02") * 24
    )
    lost_day = Decimal("0.25") * 3 * -1
    last_day = -sum(missing(december).values()) - lost_day
    assert differing == {
        date(2026, 11, 10): -two_days,
        date(2026, 11, 11): two_days,
        date(2026, 11, 30): -3 * UNIT,
        date(2026, 12, 5): lost_day,
        date(2026, 12, 31): last_day,
        date(2027, 1, 31): -3 * UNIT,
    }
    assert november.missed_days == [date(2026, 11, 11)]

    renamed = next(line for line in november.accounts if line.sub_account_id == bids)
    assert (renamed.alias, renamed.former_aliases, renamed.owner.team) == ("ads.bids", ["trial"], "Ads")
    assert november.totals.falls == Decimal("-30.00000007") + Decimal("1.00000001") * 24
    assert january.totals.falls == 0


def test_the_control_total_is_of_the_same_moment(world: World) -> None:
    world.sim.settings.main_usage = Decimal(2)
    world.at(datetime(2026, 11, 3))
    world.account("search.web", "1")
    gone = world.account("ads.gone", "1")
    unseen = world.account("unseen", "1")
    world.at(datetime(2026, 11, 3, 1))
    world.sim.delete_account(unseen)
    world.at(datetime(2026, 11, 3, 2)).observe()
    world.at(datetime(2026, 11, 3, 3)).delete(gone)
    report = world.report("2026-11")
    assert report.totals.month_to_date == 5
    assert report.control is not None
    assert (report.control.used, report.main_difference) == (7, 3)  # 2 of the main key, 1 never seen
