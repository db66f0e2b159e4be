"""The roster's example DAGs as users run them: a week over a month's turn, and what people do.

The file is the example's own, but that keys are replaced after 89 hours. All of them run beside each
other: the same keys go to AWS Secrets Manager, as connections, and into encrypted files.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from approvals import Question
from aws_standin import Aws
from cryptography.fernet import Fernet
from days import ENDED, OF_THE_ROSTER, ROOT, Days, moment
from deployment import wait_until
from hunt import Hunt
from worlds import needs_airflow, new_home

from airflow_provider_closeai.roster import read_roster

pytestmark = needs_airflow(3, 1, why="one of the examples is an approval, which came with 3.1")

MORNINGS = ["11-27", "11-28", "11-29", "11-30", "12-01", "12-02", "12-03"]
EVENINGS = ["11-26", *MORNINGS]
SYNC, OFFLINE = "closeai_roster_sync", "closeai_roster_offline"
DRIFT, REPORT, TEAM = "closeai_roster_drift", "closeai_roster_report", "closeai_team_assistant"
COSTS = "closeai_costs_daily"
DAGS = [*OF_THE_ROSTER, ROOT / f"example_dags/{COSTS}.py"]
GREEN = {SYNC: "sync", OFFLINE: "sync", DRIFT: "compare", COSTS: "snapshot", REPORT: "report", TEAM: "ask"}
SPENDER = "产品-翻译"  # no model once its 80 are spent
PRICES = {"gpt-4o": 1, "gpt-4o-mini": 0.5}


class RosterWeek(Days):
    """Seven days, and what was seen while they went by."""

    def __init__(self, home: Path, aws: Aws) -> None:
        self.roster = home / "roster.yaml"
        text = (ROOT / "example_dags/closeai_roster.yaml").read_text()
        text = text.replace("2099-01-01T00:00:00", "2027-01-01T00:00:00")
        self.write(text.replace("{every: 90d, grace: 7d}", "{every: 89h, grace: 1d}"))
        self.aliases = list(read_roster(self.roster).entries)
        self.key = Fernet.generate_key().decode()
        self.files = home / "keys"
        self._secrets = aws.client("secretsmanager")
        environment = {
            "CLOSEAI_ROSTER": str(self.roster),
            "CLOSEAI_KEYS": str(self.files),
            "AIRFLOW_CONN_KEY_STORE": json.dumps({"conn_type": "generic", "password": self.key}),
            "AIRFLOW_CONN_AWS_DEFAULT": aws.connection(),
            **aws.secrets_backend(),
        }
        super().__init__(home, moment("2026-11-26 14:00"), DAGS, environment)

    def write(self, text: str) -> None:
        self.roster.write_text(text)

    def live(self) -> None:
        self.airflow.start()
        self.unpause(REPORT, SYNC, OFFLINE, "closeai_roster_approved")
        self.wait_for_runs_at("2026-11-26 14:00", SYNC, OFFLINE)
        self.spender = self.simulator.accounts(SPENDER)[0]["id"]
        self.simulator.set_rate(self.spender, "2.00000001")
        self.stop_spending()
        self.unpause(DRIFT, TEAM, COSTS)
        self.wait_for_runs_at("2026-11-23 09:00", DRIFT)  # the latest that was missed
        self.wait_for_runs_at("2026-11-26 00:00", TEAM)
        self.wait_for_runs_at("2026-11-25 23:55", COSTS)

        self.factors_of_spender = []
        self.evening("11-26")
        for day in MORNINGS:
            self.go_on(f"2026-{day} 08:00", SYNC, OFFLINE)
            self.wait_for_runs_at(f"2026-{day} 00:00", TEAM)
            self.factors_of_spender.append(self.factors(SPENDER))
            self.stop_spending()
            if day == "11-30":
                self.go_on("2026-11-30 09:00", SYNC, OFFLINE, DRIFT)
            self.evening(day)

    def evening(self, day: str) -> None:
        self.go_on(f"2026-{day} 23:55", COSTS)
        self.wait_for_runs_at(f"2026-{day} 23:45", SYNC, OFFLINE)

    def stop_spending(self) -> None:
        """Let nobody spend but who is to exceed a budget: what is spent behind a snapshot is in no book."""
        for account in self.simulator.accounts():
            if account["id"] != self.spender or float(account["monthly_cost"]) > 80:
                self.simulator.set_rate(account["id"], 0)

    def go_on(self, at: str, *dag_ids: str) -> None:
        self.go(moment(at) + timedelta(seconds=1))
        self.wait_for_runs_at(at, *dag_ids)

    def wait_for_runs_at(self, at: str, *dag_ids: str) -> None:
        """Wait for the scheduled runs of a time, and for all that they start."""
        for dag_id in dag_ids:
            self.wait_for_run_at(dag_id, at)
        wait_until(self.is_quiet, f"all is quiet after {at}")

    def is_quiet(self) -> bool:
        """Tell whether nothing runs, and no event of an asset waits for its run."""
        return self.has_ended() and not self.has_queued() and self.has_ended()

    def has_queued(self) -> bool:
        answer = self.airflow.call("GET", f"dags/{REPORT}/assets/queuedEvents")
        return answer.status_code != 404 and answer.json()["total_entries"] > 0

    def has_ended(self) -> bool:
        return all(row["state"] in ENDED for row in self.rows())

    def by_hand(self, *dag_ids: str) -> list[str]:
        """Start runs at once, wait for the end of all, and give their states."""
        runs = [self.airflow.trigger(dag_id) for dag_id in dag_ids]
        states = [run.ended() for run in runs]
        wait_until(self.is_quiet, "all is quiet")
        return states

    def secrets(self) -> dict[str, dict[str, Any]]:
        """Give the connections in the store, by their names."""
        listed = self._secrets.list_secrets(MaxResults=100)["SecretList"]
        prefix = "airflow/connections/openai-"
        return {
            secret["Name"].removeprefix(prefix): json.loads(
                self._secrets.get_secret_value(SecretId=secret["Name"])["SecretString"]
            )
            for secret in listed
        }

    def keys_in_files(self) -> Counter[str]:
        fernet = Fernet(self.key)
        return Counter(fernet.decrypt(path.read_bytes()).decode() for path in self.files.iterdir())

    def newest_keys(self) -> Counter[str]:
        newest = {account["alias"]: account["token"] for account in self.simulator.accounts()}
        return Counter(newest.values())


@pytest.fixture(scope="module")
def week() -> Iterator[RosterWeek]:
    with new_home("roster-days") as home, contextlib.ExitStack() as stack:
        aws = Aws()
        aws.start()
        stack.callback(aws.stop)
        days = RosterWeek(home, aws)
        stack.callback(days.stop)
        days.live()
        yield days


@pytest.mark.parametrize("dag_id", GREEN)
def test_every_run_is_green_at_its_first_try(week: RosterWeek, dag_id: str) -> None:
    told = week.told(dag_id)
    if dag_id == COSTS:
        assert told.pop(0).endswith("snapshot skipped 1")  # at 14:00 it is too late for last evening's
    assert len(told) >= {DRIFT: 2, TEAM: 8, REPORT: len(EVENINGS), COSTS: len(EVENINGS)}.get(dag_id, 15), told
    assert {line.partition("success: ")[2] for line in told} == {f"{GREEN[dag_id]} success 1"}, told


def test_the_week_made_what_was_wanted_and_nothing_twice(week: RosterWeek) -> None:
    assert not week.platform.problems
    # Two generations of keys, the first of which is gone.
    assert {alias: week.platform.made(alias) for alias in week.aliases} == dict.fromkeys(week.aliases, 2)
    assert Counter(account["alias"] for account in week.simulator.accounts()) == Counter(week.aliases)
    posts = Counter(request.call for request in week.platform.simulator.requests)
    assert posts["create"] == 2 * len(week.aliases)


def test_both_stores_hold_the_newest_key_of_each_alias(week: RosterWeek) -> None:
    assert len(week.secrets()) == len(week.aliases)
    assert Counter(each["password"] for each in week.secrets().values()) == week.newest_keys()
    assert week.keys_in_files() == week.newest_keys()


def test_who_spent_the_budget_had_no_model_until_the_turn(week: RosterWeek) -> None:
    over: list[dict[str, float]] = [{}]
    # Its new key waited for the turn, too, and the old one went a day later.
    assert week.factors_of_spender[:5] == [[PRICES], over, over, over, [PRICES, PRICES]]
    assert week.factors_of_spender[-1] == [PRICES]


def test_the_team_was_always_served(week: RosterWeek) -> None:
    chats = week.platform.requests("chat")
    assert {request.status for request in chats} == {200}
    assert len(chats) == len(week.told(TEAM))


def test_the_report_is_the_platforms_own_book(week: RosterWeek) -> None:
    spent = {"2026-11": Decimal(0), "2026-12": Decimal(0)}
    for (_, month), cost in week.simulator.truth.by_month.items():
        spent[month] += cost
    assert spent["2026-11"] > 80
    reports = [run.xcom("report") for run in week.runs(REPORT)]
    last = {report["billing_month"]: Decimal(report["total"]) for report in reports}
    assert last == spent


def test_an_old_run_that_is_cleared_puts_right_what_is_not_so_any_more(week: RosterWeek) -> None:
    for alias in ("team-ads", "team-data"):
        week.simulator.delete_account(week.simulator.accounts(alias)[-1]["id"])
    week.simulator.add_account("team-data", [{"model": "gpt-4o", "pricing_factor": 7}])  # in the console
    made = week.platform.made("team-ads")
    run, calls = week.run_at(SYNC, "2026-11-28 08:00"), Counter(week.simulator.counts())
    week.clear(run)
    assert run.ended() == "success"
    wait_until(lambda: week.is_quiet() and week.knows_its_next_run(SYNC), "all is quiet")

    assert week.outcomes(run) == "sync success 2"
    assert week.writes_since(calls) == {"create": 1, "update": 1}
    assert week.platform.made("team-ads") == made + 1
    assert week.factors("team-data") == [PRICES]


def test_a_sync_marked_as_done_by_hand_is_made_good_by_the_next(week: RosterWeek) -> None:
    week.simulator.delete_account(week.simulator.accounts("team-ads")[-1]["id"])
    calls = Counter(week.simulator.counts())
    week.marked(SYNC, "sync")
    assert week.writes_since(calls) == {}
    assert week.by_hand(SYNC) == ["success"]
    assert week.writes_since(calls) == {"create": 1}


def test_a_backfill_changes_nothing(week: RosterWeek) -> None:
    calls = Counter(week.simulator.counts())
    week.backfill(SYNC, "2026-11-20 10:00", "2026-11-20 10:45", 4)
    week.backfill(TEAM, "2026-11-20", "2026-11-22", 3)
    wait_until(week.is_quiet, "all is quiet")
    for dag_id, number in ((SYNC, 4), (TEAM, 3)):
        told = [line for line in week.told(dag_id) if line.startswith("backfill")]
        assert told == [f"backfill success: {GREEN[dag_id]} success 1"] * number
    assert week.writes_since(calls) == {}


def test_two_runs_at_once_are_as_one(week: RosterWeek) -> None:
    for alias in ("team-ads", "产品-推荐"):
        week.simulator.delete_account(week.simulator.accounts(alias)[-1]["id"])
    calls = Counter(week.simulator.counts())
    states = week.by_hand(SYNC, OFFLINE, SYNC, OFFLINE, TEAM, TEAM)
    assert states == ["success"] * 6
    assert week.writes_since(calls) == {"create": 2}
    assert week.by_hand(SYNC, OFFLINE, DRIFT) == ["success"] * 3
    assert week.keys_in_files() == week.newest_keys()
    assert Counter(each["password"] for each in week.secrets().values()) == week.newest_keys()


def test_what_is_approved_is_done_and_is_no_drift_then(week: RosterWeek) -> None:
    text = week.roster.read_text()
    added = "  - {alias: team-new, team: New, budget: 10}\n"
    week.write(
        text.replace("accounts:\n", f"accounts:\n{added}").replace("alias: team-legal,", "alias: team-law,")
    )
    assert week.by_hand(DRIFT) == ["failed"]
    form = Question(week.airflow.trigger("closeai_roster_approved"))
    form.wait()
    calls = Counter(week.simulator.counts())
    assert "`team-new` | 1 new" in form.text()
    assert form.answer() == 200
    assert form.run.ended() == "success", form.run.why()
    assert week.writes_since(calls) == {"create": 2, "delete": 1}
    assert {"team-new", "team-law"} <= set(week.secrets())
    assert not week.simulator.accounts("team-legal")
    assert week.by_hand(SYNC, OFFLINE, DRIFT) == ["success"] * 3


def test_after_a_month_that_airflow_slept_through_all_is_as_the_roster_says(week: RosterWeek) -> None:
    week.go_on("2027-01-04 09:00", SYNC, OFFLINE, DRIFT)
    assert not week.simulator.accounts("team-interns"), "they expired"
    assert {told.partition(": ")[2] for told in week.told(SYNC)[-2:]} == {"sync success 1"}


def test_no_key_is_anywhere(week: RosterWeek) -> None:
    hunt = Hunt(week.airflow, week.platform.secrets)
    assert not hunt.run()
    assert min(hunt.searched.values()) > 1e4
