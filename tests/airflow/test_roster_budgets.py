"""Budgets that hold: a team that overspends each month is cut, and back at the turn; nothing flaps."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.costs import CloseRequest, Ledger, Report, Run, compute
from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS
from airflow_provider_closeai.hooks.rosters import ApplyOptions, LedgerBooks, apply_roster, plan_roster
from airflow_provider_closeai.local_state import Clock
from airflow_provider_closeai.provisioning.runner import Try
from airflow_provider_closeai.roster import Applied
from airflow_provider_closeai.simulator import Simulator

FULL = [{"model": "gpt-4", "pricing_factor": 1}]
STEP = timedelta(days=1)
BUDGET = 60


class Team:
    """Two keys that spend one an hour each, as long as they are allowed a model at all."""

    def __init__(self, sim: Simulator, ledger: Path) -> None:
        self.sim, self.ledger = sim, ledger
        clock = Clock(now=lambda: sim.clock.now().timestamp())
        config = config_from(password=sim.key, host=sim.discovery_url, extra={"max_late": 0.1})
        self.client = CloseAIClient(config, clock=clock)
        self.ids = [sim.add_account("team-a", FULL)["id"] for _ in range(2)]
        self.quiet = sim.add_account("team-b", FULL)["id"]
        sim.set_rate(self.quiet, Decimal(0))
        self.follow()

    def roster(self, **fields: Any) -> dict[str, Any]:
        entry = {"alias": "team-a", "count": 2, "budget": BUDGET, "over_budget": {}, **fields}
        return {
            "version": 1,
            "defaults": {"balance": 100, "model_pricing": {"gpt-4": 1}},
            "accounts": [entry, {"alias": "team-b"}],
        }

    def run(self, **fields: Any) -> Applied:
        roster = self.roster(**fields)
        done = apply_roster(lambda: self.client, roster, {"ledger": self.ledger, "settle": 0}, Try())
        assert plan_roster(lambda: self.client, roster, {"ledger": self.ledger}).actions == (), "it flaps"
        self.follow()
        return done

    def follow(self) -> None:
        """Spend what the prices allow."""
        for number in self.ids:
            [account] = [each for each in self.sim.accounts() if each["id"] == number]
            models = {each["model"] for each in account["model_pricing"]}
            self.sim.set_rate(number, Decimal(1 if "gpt-4" in models else "0.125" if models else 0))

    def report(self) -> Report:
        """Compute December."""
        request = CloseRequest.parse(
            ledger=self.ledger, month="2026-12", currency="CNY", time_zone="Asia/Shanghai"
        )
        return compute(request, clock=self.client.clock.utc_now)

    def prices(self) -> list[Any]:
        return [account["model_pricing"] for account in self.sim.accounts("team-a")]


@pytest.fixture
def team(sim: Simulator, tmp_path: Path) -> Team:
    sim.clock.set(datetime(2026, 12, 1, 0, 15))
    return Team(sim, tmp_path / "ledger")


@pytest.mark.parametrize(
    "over", [{}, pytest.param({"cheap": 1}, marks=pytest.mark.slow)], ids=["suspended", "cheap"]
)
def test_three_months_of_overspending(team: Team, over: dict[str, Any]) -> None:
    sim = team.sim
    changes: list[tuple[str, str]] = []
    last_month = 12
    while sim.clock.now() < datetime.fromisoformat("2027-03-01T08:00:00+08:00"):
        done = team.run(over_budget=over)
        now = sim.clock.now()
        changes += [(f"{now:%m-%d %H}", action.reason) for action in done.matched.todo]
        cost = sum(Decimal(account["monthly_cost"]) for account in sim.accounts("team-a"))
        if not over:
            assert cost < BUDGET + 2 * STEP.total_seconds() / 3600, "it was not cut within one run"
        if now.month != last_month:
            assert team.prices() == [FULL, FULL], "it is not back at the turn"
        last_month = now.month
        sim.clock.advance(seconds=STEP.total_seconds())
    cut, back = "over budget", "restored"
    assert [reason for _, reason in changes] == [cut, cut, back, back] * 3
    assert [moment for moment, reason in changes if reason == back][::2] == [
        "01-01 00",
        "02-01 00",
        "03-01 00",
    ]
    assert [account["monthly_cost"] for account in sim.accounts("team-b")] == ["0"]


def test_a_person_pardons_a_team_by_an_edit(team: Team) -> None:
    team.sim.clock.advance(hours=40)
    assert len(team.run().repriced) == 2
    assert team.prices() == [[], []]
    assert len(team.run(budget=90).repriced) == 2
    assert team.prices() == [FULL, FULL]
    team.sim.clock.advance(hours=40)
    assert len(team.run(budget=90).repriced) == 2
    assert len(team.run(over_budget=None).repriced) == 2
    assert team.prices() == [FULL, FULL]


def test_what_a_deleted_key_spent_counts_and_creations_wait(team: Team) -> None:
    team.sim.clock.advance(hours=25)
    ledger: ApplyOptions = {"ledger": team.ledger, "settle": 0, "prune": True, "max_delete": 1}
    gone = team.sim.add_account("team-x", FULL)
    team.sim.set_rate(gone["id"], Decimal(20))
    team.sim.clock.advance(hours=1)
    roster = {**team.roster(), "owns": ["team-*"]}
    assert [each.id for each in apply_roster(lambda: team.client, roster, ledger, Try()).deleted] == [
        gone["id"]
    ]
    # Now it has an entry, whose budget the deleted key has spent already.
    entry = {"alias": "team-x", "budget": 20, "over_budget": {}}
    roster["accounts"] = [*roster["accounts"], entry]
    plan = plan_roster(lambda: team.client, roster, {"ledger": team.ledger})
    assert plan.actions == ()
    assert "1 to create wait until the budget is there again" in str(plan.notes)
    team.sim.clock.set(datetime(2027, 1, 1, 0, 15))
    plan = plan_roster(lambda: team.client, roster, {"ledger": team.ledger})
    assert plan.counts["create"] == 1


def test_a_suspended_key_on_a_platform_that_begins_a_month_with_its_first_use_comes_back(team: Team) -> None:
    """Its counter stays as it was, so that the team would stay suspended for ever."""
    sim = team.sim
    sim.clock.set(datetime(2026, 12, 31, 12))
    team.run()
    assert team.prices() == [[], []]
    stuck = {account["id"]: account["monthly_cost"] for account in sim.accounts("team-a")}
    sim.clock.set(datetime(2027, 1, 1, 0, 15))
    for number, cost in stuck.items():
        sim.spoil(number, "monthly_cost", f'"{cost}"')
    for hours in (0, 12, 11):
        sim.clock.advance(hours=hours)
        assert team.run().repriced == ()
    sim.clock.advance(hours=1)
    assert len(team.run().repriced) == 2
    assert team.prices() == [FULL, FULL]
    # It is used, and begins its month: what it spends now counts.
    for number in stuck:
        sim.spoil(number, "monthly_cost", '"31"')
    assert len(team.run().repriced) == 2
    assert team.prices() == [[], []]


def test_a_platform_that_shows_no_empty_list_is_told(team: Team, caplog: pytest.LogCaptureFixture) -> None:
    team.sim.clock.advance(hours=40)
    caplog.set_level("INFO")
    team.run()
    assert "whether the platform refuses such a key is not known (refusal unproven)" in caplog.text


@pytest.mark.parametrize("settle", [0, 30], ids=["listed again", "one listing"])
def test_what_a_sync_deletes_is_deleted_in_the_months_report(team: Team, settle: float) -> None:
    """One run writes what it listed and what it deleted, perhaps both of the same moment."""
    gone = team.sim.add_account("team-x", FULL)["id"]
    team.sim.set_rate(gone, Decimal(1))
    roster = {**team.roster(budget=1000), "owns": ["team-*"]}
    options: ApplyOptions = {"ledger": team.ledger, "settle": settle, "prune": True, "max_delete": 1}
    entries = roster["accounts"]
    for accounts in ([*entries, {"alias": "team-x"}], entries, entries):
        apply_roster(lambda: team.client, {**roster, "accounts": accounts}, options, Try())
        team.sim.clock.advance(hours=24)
    report = team.report()
    [line] = [each for each in report.accounts if each.sub_account_id == gone]
    assert line.month_to_date == 24
    assert line.history is not None
    assert line.history.deleted_at is not None
    assert "no deletion was recorded" not in "".join(report.warnings)


def test_a_sync_that_is_cleared_days_later_takes_away_nothing_that_was_seen(team: Team) -> None:
    gone = team.sim.add_account("team-x", FULL)["id"]
    team.sim.set_rate(gone, Decimal(1))
    run = Run(key="0123456789ab")  # the same for each try
    options: ApplyOptions = {"ledger": team.ledger, "settle": 0}
    team.sim.clock.advance(hours=24)
    apply_roster(lambda: team.client, team.roster(budget=1000), options, Try(), run=run)
    team.sim.delete_account(gone)
    team.sim.clock.advance(hours=72)
    apply_roster(lambda: team.client, team.roster(budget=1000), options, Try(), run=run)
    [line] = [each for each in team.report().accounts if each.sub_account_id == gone]
    assert line.month_to_date == 24


def test_an_account_with_an_amount_of_no_size_costs_its_listing_and_no_sync(
    team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    now = team.client.clock.utc_now
    books = LedgerBooks(team.ledger, "Asia/Shanghai", None, now)
    account, *others = team.client.iter_sub_accounts()
    books.record_listing([msgspec.structs.replace(account, monthly_cost=Decimal("1e19")), *others], now())
    assert "This listing is not recorded in the ledger" in caplog.text
    assert Ledger(team.ledger).files(SNAPSHOTS, "2026-12") == []


def test_a_sync_records_no_listing_older_than_what_is_there(team: Team) -> None:
    """A snapshot that was made while the sync listed: its counters may be the older ones."""
    now = team.client.clock.utc_now
    books = LedgerBooks(team.ledger, "Asia/Shanghai", None, now)
    listed = list(team.client.iter_sub_accounts())
    began = now()
    team.sim.clock.advance(minutes=1)
    books.record_listing(listed, now())
    books.record_listing(listed, began)
    files = Ledger(team.ledger).files(SNAPSHOTS, "2026-12")
    assert [file.at for file in files] == [now()]
    team.sim.clock.advance(minutes=1)
    books.record_listing(listed, now())
    assert len(Ledger(team.ledger).files(SNAPSHOTS, "2026-12")) == 2
