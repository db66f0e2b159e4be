"""Two months of simulated spending, snapshot by snapshot, and the report of each: offline, in seconds.

Usage: demo_costs.py FOLDER (what is in it from an earlier demo is replaced)
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.costs import (
    DeletionRequest,
    ReportRequest,
    ReportResult,
    Run,
    SnapshotRequest,
    record_deleted,
    report,
    run_key,
    snapshot,
)
from airflow_provider_closeai.simulator import Simulator

FIRST, LAST = date(2026, 10, 31), date(2026, 12, 20)
MISSED = date(2026, 11, 9)
#: What each key spends per hour, about.
KEYS = {
    "search.web": 1.3,
    "search.mobile": 0.5,
    "ads.bidding": 1.05,
    "ads.creative": 0.4,
    "data.nightly-embeddings": 0.6,
    "support.bot": 0.25,
    "trial": 0.05,
}
OWNERS = {
    "search.*": {"team": "Search", "cost_center": "CC-100"},
    "ads.*": {"team": "Ads", "cost_center": "CC-200"},
    "data.*": {"team": "Data platform", "cost_center": "CC-310"},
    "support.*": {"team": "Support", "cost_center": "CC-410"},
}
BUDGETS = {"Search": 1300, "Ads": 950, "Data platform": 480, "Support": 120}


class Demo:
    """The platform, its clock, and the ledger."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        config = config_from(password=simulator.key, host=simulator.discovery_url, extra={})
        self.client = CloseAIClient(config)
        self.folder = folder
        self.ledger = folder / "ledger"
        self.draw = random.Random(3)
        for alias in KEYS:
            simulator.add_account(alias, created_at="2026-03-01T00:00:00+08:00")

    def spend(self, day: date) -> None:
        """Let every key spend at that day's rate."""
        for account in self.simulator.accounts():
            weekend = 0.3 if day.weekday() > 4 else 1
            rate = KEYS.get(account["alias"], 0.05) * self.draw.uniform(0.6, 1.4) * weekend
            self.simulator.set_rate(account["id"], f"{rate:.7f}")

    def at(self, day: date, hour: int, minute: int) -> None:
        self.simulator.clock.set(datetime(day.year, day.month, day.day, hour, minute))

    def now(self) -> datetime:
        return self.simulator.clock.now().astimezone(UTC)

    def snapshot(self) -> None:
        request = SnapshotRequest.parse(ledger=self.ledger)
        snapshot(request, lambda: self.client, run=Run(key=run_key(self.now())), clock=self.now)

    def events(self, day: date) -> None:
        """Do what happens on that day."""
        found = {account.alias: account for account in self.client.iter_sub_accounts()}
        if day == date(2026, 11, 12):
            self.simulator.correct_cost(found["ads.bidding"].id, "-40.00000001")
        elif day == date(2026, 11, 15):
            self.client.update([found["trial"]], "ads.trial", {"gpt-4": Decimal(1)})
        elif day == date(2026, 12, 8):
            gone = [found["ads.creative"]]
            request = DeletionRequest.parse(ledger=self.ledger)
            record_deleted(request, gone, self.now(), run=Run(key=run_key(day)), clock=self.now)
            self.client.delete(gone)

    def run(self) -> Iterator[ReportResult]:
        for number in range((LAST - FIRST).days + 1):
            day = FIRST + timedelta(days=number)
            self.at(day, 0, 6)
            self.spend(day)
            self.at(day, 12, 0)
            self.events(day)
            if day != MISSED:
                self.at(day, 23, 55)
                self.snapshot()
            if (day + timedelta(days=1)).day == 1:
                self.at(day, 23, 58)
                self.snapshot()
                self.at(day + timedelta(days=1), 0, 5)
                self.snapshot()
                if day != FIRST:
                    yield self.report(f"{day:%Y-%m}")
        yield self.report(f"{LAST:%Y-%m}")

    def report(self, month: str) -> ReportResult:
        request = ReportRequest.parse(
            ledger=self.ledger,
            month=month,
            output=self.folder,
            currency="CNY",
            owners=OWNERS,
            budgets=BUDGETS,
            thresholds=(),
            formats=["html", "csv", "json", "focus", "focus-csv"],
            statements=True,
            account="A simulated main account",
        )
        return report(request, clock=self.now)


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder / "ledger", ignore_errors=True)
    for old in folder.glob("closeai-costs-*"):
        old.unlink()
    for name in ("statements", "focus-csv"):
        shutil.rmtree(folder / name, ignore_errors=True)
    start = datetime(FIRST.year, FIRST.month, FIRST.day)
    with (
        tempfile.TemporaryDirectory() as tempfile.tempdir,
        Simulator(bases=1, seed=5, start=start) as simulator,
    ):
        reports = [tell(built, simulator, folder) for built in Demo(simulator, folder).run()]
    return 0 if len(reports) == 2 and all(reports) else 1


def plain(amount: Decimal) -> str:
    return format(amount, "f")


def tell(result: ReportResult, simulator: Simulator, folder: Path) -> bool:
    """Print what a report found beside the platform's own books; False where money is missing."""
    report = result.report
    name, total = report.month.name, report.totals.month_to_date
    of_month = [cost for (_, month), cost in simulator.truth.by_month.items() if month == name]
    books = sum(of_month, Decimal(0))
    print(f"{name}, {report.status}: {len(report.accounts)} keys spent {plain(total)} {report.currency}")
    if report.status == "open":
        print(f"  the platform's own books at this moment: {plain(books)}")
    else:
        print(f"  {report.gap_minutes} minutes before the turn are in no counter: {plain(books - total)}")
    print(f"  {result.headline}")
    for warning in report.warnings:
        print(f"  {warning}")
    pages = sum(name.startswith("statement ") for name in result.files)
    print(f"  The page, which leads to the statements of {pages} teams:")
    print(f"  {(folder / f'closeai-costs-{name}.html').as_uri()}\n", flush=True)
    return total == books or report.status != "open"


if __name__ == "__main__":
    sys.exit(main())
