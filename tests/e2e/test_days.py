"""The README's DAG and the example DAGs as users run them: a week over a month's turn, and what people do.

A real scheduler lives in a time that the test moves. One Airflow serves the whole module.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from days import EXAMPLES, Days, dag_of_readme, moment
from deployment import wait_until
from worlds import needs_airflow, new_home

pytestmark = needs_airflow(3, why="Airflow 2 has no LocalExecutor on SQLite")

MORNINGS = ["11-27", "11-28", "11-29", "11-30", "12-01", "12-02", "12-03"]
EVENINGS = ["11-26", *MORNINGS[:-1]]
COSTS = "closeai_costs_daily", "closeai_costs_report"
PRICES = {"gpt-4": 1, "gpt-4o": 1.5}  # as the README's DAG has them
REPRICED = {"gpt-4": 1, "gpt-4o": 1.2}


class Week(Days):
    """Seven days, and what was seen while they went by."""

    def live(self) -> None:
        self.airflow.start()
        search = self.simulator.add_account("search.web", monthly_cost="45.5")
        ads = self.simulator.add_account("ads.web", monthly_cost="3.00000001")
        for account in (search, ads):
            self.simulator.set_rate(account["id"], "0.0487659")
        before = self.rows()
        self.unpause("team_keys", *(path.stem for path in EXAMPLES))
        self.airflow.trigger("closeai_provisioning")
        self.airflow.trigger("closeai_health_gate")
        # Airflow starts the latest run that was missed, although catchup is off.
        scheduled = ("daily", "before_turn", "month_close")
        first = ("team_keys", "closeai_monthly_cost", *(f"closeai_costs_{name}" for name in scheduled))
        self.wait_for(before, *first, "closeai_provisioning", "closeai_health_gate")

        for evening, morning in zip(EVENINGS, MORNINGS, strict=True):
            if evening == "12-02":
                self.stop_spending()
            self.go(f"2026-{evening} 23:55:01", *COSTS)
            if evening == "11-30":
                self.turn()
            before_morning = Counter(self.simulator.counts())
            self.go(f"2026-{morning} 08:00:01", "team_keys", "closeai_monthly_cost")
            self.quiet_morning = self.calls_since(before_morning)
            if morning == "11-27":
                self.by_hand("closeai_provisioning")
                self.by_hand("closeai_health_gate")
            elif morning in ("11-28", "11-29"):
                # A key that spends while it is deleted would spend between the last look and the deletion.
                self.platform.script = lambda request: self.stop_spending("team-ads")
                self.by_hand("closeai_provisioning", really_delete=True)
                self.platform.script = None

    def turn(self) -> None:
        """From the last evening into December. What is spent in the last two minutes is in no counter."""
        self.stop_spending()
        self.november = self.true_costs("2026-11")
        self.go("2026-11-30 23:58:01", "closeai_costs_before_turn", "closeai_costs_report")
        self.go("2026-12-01 00:05:01", "closeai_costs_month_close", "closeai_costs_report")
        for account in self.simulator.accounts():
            self.simulator.set_rate(account["id"], "0.0123456")

    def stop_spending(self, alias: str | None = None) -> None:
        for account in self.simulator.accounts(alias):
            self.simulator.set_rate(account["id"], 0)

    def true_costs(self, month: str) -> dict[str, Decimal]:
        """Give the platform's own figures by account, of deleted ones too."""
        return {
            str(one): cost for (one, when), cost in self.simulator.truth.by_month.items() if when == month
        }

    def by_hand(self, dag_id: str, **conf: object) -> None:
        before = self.rows()
        self.airflow.trigger(dag_id, **conf)
        self.wait_for(before, dag_id)


@pytest.fixture(scope="module")
def week() -> Iterator[Week]:
    with new_home("days") as home:
        days = Week(home, moment("2026-11-26 14:00"), EXAMPLES)
        (days.airflow.dags / "readme.py").write_text(dag_of_readme())
        try:
            days.live()
            yield days
        finally:
            days.stop()


def on_days(days: list[str], at: str, tasks: str) -> list[str]:
    return [f"{day} {at} success: {tasks}" for day in days]


KEYS = "api_is_up success 1, create success 1"
LISTED = "accounts success 1, cost_by_alias success 1"
TOLD = {
    "team_keys": on_days(["11-26", *MORNINGS], "08:00", KEYS),
    "closeai_monthly_cost": on_days(["11-26", *MORNINGS], "08:00", LISTED),
    "closeai_provisioning": ["manual success: create success 1, delete success 1, reprice success 1"] * 4,
    "closeai_health_gate": ["manual success: api_is_up success 1, call_the_model success 1"] * 2,
    "closeai_costs_daily": [
        "11-25 23:55 success: snapshot skipped 1",  # at 14:00 it is too late for last evening's
        *on_days(EVENINGS, "23:55", "snapshot success 1"),
    ],
    "closeai_costs_before_turn": [
        "10-31 23:58 success: snapshot skipped 1",
        "11-30 23:58 success: snapshot success 1",
    ],
    "closeai_costs_month_close": [
        "11-01 00:05 success: close skipped 1, snapshot skipped 1",
        "12-01 00:05 success: close success 1, snapshot success 1",
    ],
}


@pytest.mark.parametrize("dag_id", TOLD)
def test_every_day_is_green(week: Week, dag_id: str) -> None:
    assert week.told(dag_id)[: len(TOLD[dag_id])] == TOLD[dag_id]


def test_every_snapshot_is_reported_and_each_alert_is_told_once(week: Week) -> None:
    told = week.told("closeai_costs_report")
    assert len(told) == len(EVENINGS) + 2
    spoke = [run for run in week.runs("closeai_costs_report") if run.outcome("tell") == "success 1"]
    texts = [text for run in spoke for text in run.xcom("tell")]
    assert [text[:22] for text in texts] == ["Search is forecast to ", "Search has spent 48.32"]
    quiet = "asset_triggered success: is_there_an_alert success 1, report success 1, tell skipped 0"
    assert Counter(told)[quiet] == len(told) - len(spoke)


def test_the_week_made_what_was_wanted_and_nothing_twice(week: Week) -> None:
    assert not week.platform.problems
    assert week.factors("team-search") == [PRICES] * 3
    assert week.platform.made("team-search") == 3
    assert week.factors("team-ads") == []  # deleted on the 28th, made and deleted again on the 29th
    assert week.platform.made("team-ads") == 4
    posts = Counter(request.call for request in week.platform.simulator.requests)
    assert (posts["create"], posts["update"], posts["delete"]) == (3, 2, 2)
    # On a morning on which all is as it should be, nothing is written, and each task looks once.
    assert week.quiet_morning.pop("healthy") <= 2
    assert week.quiet_morning == {"links": 1, "list": 3}


def test_the_ledger_is_the_platforms_own_book(week: Week) -> None:
    close = week.runs("closeai_costs_month_close")[1].xcom("close")
    assert (close["billing_month"], close["status"], close["closed"]) == ("2026-11", "final", True)
    assert Decimal(close["total"]) == sum(week.november.values())
    assert by_account(week, "2026-11") == week.november

    last = week.runs("closeai_costs_report")[-1].xcom("report")
    assert last["billing_month"] == "2026-12"
    december = week.true_costs("2026-12")
    assert Decimal(last["total"]) == sum(december.values())
    assert by_account(week, "2026-12") == december


def by_account(week: Week, month: str) -> dict[str, Decimal]:
    with open(
        week.costs / "reports" / f"closeai-costs-{month}-accounts.csv", encoding="utf-8-sig", newline=""
    ) as file:
        costs = {row["sub_account_id"]: Decimal(row["month_to_date"]) for row in csv.DictReader(file)}
    return {account: cost for account, cost in costs.items() if cost}


def test_a_run_that_comes_too_late_says_why_it_is_skipped(week: Week) -> None:
    for name in ("daily", "before_turn", "month_close"):
        log = week.runs(f"closeai_costs_{name}")[0].log("snapshot", 1)
        assert "late (max_lag is" in log
        assert "Nothing was recorded" in log


def test_an_old_run_that_is_cleared_puts_right_what_is_not_so_any_more(week: Week) -> None:
    run = week.run_at("team_keys", "2026-11-28 08:00")
    lost = week.simulator.accounts("team-search")[0]
    week.simulator.delete_account(lost["id"])
    before, calls = week.rows(), Counter(week.simulator.counts())
    week.clear(run)
    week.wait_for(before)
    wait_until(lambda: week.knows_its_next_run("team_keys"), "it goes on")

    assert week.outcomes(run) == "api_is_up success 2, create success 2"
    assert week.factors("team-search") == [PRICES] * 3
    assert week.platform.made("team-search") == 4
    assert week.writes_since(calls) == {"create": 1}


def test_old_cost_runs_that_are_cleared_change_no_figure(week: Week) -> None:
    """The counters of then are gone: the snapshots are skipped, and what is closed stays as it is."""
    ledger = week.ledger()
    before = week.rows()
    daily = week.run_at("closeai_costs_daily", "2026-11-28 23:55")
    turn = week.run_at("closeai_costs_before_turn", "2026-11-30 23:58")
    close = week.run_at("closeai_costs_month_close", "2026-12-01 00:05")
    report = week.runs("closeai_costs_report")[2]
    for run in (daily, turn, close, report):
        week.clear(run)
    week.wait_for(before)

    assert week.outcomes(daily) == week.outcomes(turn) == "snapshot skipped 2"
    assert "has all that it had" in daily.log("snapshot", 2)
    assert week.outcomes(close) == "close success 2, snapshot skipped 2"
    assert {run.state for run in (daily, turn, close, report)} == {"success"}
    assert week.ledger() == ledger
    assert by_account(week, "2026-11") == week.november


def test_new_prices_in_the_file_reach_the_accounts_that_are_there(week: Week) -> None:
    file = week.airflow.dags / "readme.py"
    file.write_text(file.read_text().replace('"gpt-4o": "1.5"', '"gpt-4o": "1.2"'))
    before, calls = week.rows(), Counter(week.simulator.counts())
    run = week.airflow.trigger("team_keys")
    week.wait_for(before, "team_keys")

    assert week.outcomes(run) == KEYS
    assert week.factors("team-search") == [REPRICED] * 3
    assert week.writes_since(calls) == {"update": 1}


def test_create_marked_as_done_where_nothing_was_made_is_told_by_reprice(week: Week) -> None:
    run = week.marked("closeai_provisioning", "create", alias="team-nobody")

    assert week.outcomes(run) == "create success 0, delete upstream_failed 0, reprice failed 4"
    assert "No sub-account has exactly the alias 'team-nobody'." in run.log("reprice", 1)


def test_a_backfill_of_keys_makes_nothing_and_one_of_costs_records_nothing(week: Week) -> None:
    calls, ledger = Counter(week.simulator.counts()), week.ledger()
    dags = "team_keys", "closeai_monthly_cost", "closeai_costs_daily"
    for dag_id in dags:
        week.backfill(dag_id, "2026-11-20", "2026-11-22 23:59", 3)

    told = {dag_id: [line for line in week.told(dag_id) if line.startswith("backfill")] for dag_id in dags}
    assert told == {
        "team_keys": [f"backfill success: {KEYS}"] * 3,
        "closeai_monthly_cost": [f"backfill success: {LISTED}"] * 3,
        "closeai_costs_daily": ["backfill success: snapshot skipped 1"] * 3,
    }
    assert week.writes_since(calls) == {}
    assert len(week.simulator.accounts("team-search")) == 3
    assert week.ledger() == ledger


def test_two_runs_at_once_are_as_one(week: Week) -> None:
    for account in week.simulator.accounts("team-search")[:2]:
        week.simulator.delete_account(account["id"])
    made = week.platform.made("team-search")
    dags = "team_keys", "closeai_provisioning", "closeai_health_gate", *COSTS[:1]
    before, calls = week.rows(), Counter(week.simulator.counts())
    for dag_id in dags * 2:
        week.airflow.trigger(dag_id)
    week.wait_for(before, *dags, *dags, *COSTS[1:])

    old = {row["dag_run_id"] for row in before}
    assert {row["state"] for row in week.rows() if row["dag_run_id"] not in old} == {"success"}
    assert week.factors("team-search") == [REPRICED] * 3
    assert week.factors("team-ads") == [REPRICED] * 2
    assert week.platform.made("team-search") == made + 2
    assert week.writes_since(calls) == {"create": 2, "update": 1}
    first, second = (run.xcom("snapshot") for run in week.runs("closeai_costs_daily")[-2:])
    assert first["file"] != second["file"]
    assert not week.platform.problems


def test_after_a_turn_that_airflow_slept_through_only_what_is_lost_is_red(week: Week) -> None:
    names = ("costs_daily", "costs_before_turn", "costs_month_close", "monthly_cost")
    week.go("2027-01-01 09:00:01")
    # The run that was due next when Airflow fell asleep may be started too, before the latest one.
    last = ("2026-12-31 23:55", "2026-12-31 23:58", "2027-01-01 00:05", "2027-01-01 08:00")
    for name, at in zip(names, last, strict=True):
        week.wait_for_run_at(f"closeai_{name}", at)
    week.wait_for_run_at("team_keys", "2027-01-01 08:00")

    assert {name: week.told(f"closeai_{name}")[-1] for name in names} == {
        "costs_daily": "12-31 23:55 failed: snapshot failed 1",
        "costs_before_turn": "12-31 23:58 failed: snapshot failed 1",
        "costs_month_close": "01-01 00:05 failed: close failed 1, snapshot skipped 1",
        "monthly_cost": f"01-01 08:00 success: {LISTED}",
    }
    assert week.told("team_keys")[-1].endswith(f" success: {KEYS}")
    for name in names[:2]:
        log = week.runs(f"closeai_{name}")[-1].log("snapshot", 1)
        assert "2026-12 is over and its counters were reset" in log
        assert "Mark this task as success" in log
    log = week.runs("closeai_costs_month_close")[-1].log("close", 1)
    assert "2026-12 is not closed, because its end is in doubt." in log
