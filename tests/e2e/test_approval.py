"""Nothing is applied that was not on the page when a person said yes: Airflow's own approval, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from approvals import Question
from deployment import Deployment, Run, running, wait_until
from hunt import Hunt
from platforms import Platform
from worlds import needs_airflow

pytestmark = needs_airflow(3, 1, why="approvals came with 3.1")
ROSTER = """version: 1
owns: ["team-*"]
defaults: {{balance: 1, model_pricing: {{gpt-4: 1}}}}
accounts:
  - {{alias: team-a, count: {count}}}
"""


class Office:
    """An Airflow, a platform, and the roster's file between them."""

    def __init__(self, airflow: Deployment, platform: Platform) -> None:
        self.airflow, self.platform = airflow, platform

    def write(self, count: int) -> None:
        (self.airflow.home / "roster.yaml").write_text(ROSTER.format(count=count))

    def asked(self, dag_id: str = "e2e_approved") -> Question:
        """Start a run, up to the question."""
        question = Question(self.airflow.trigger(dag_id))
        question.wait()
        return question

    def clear(self, run: Run, *task_ids: str) -> None:
        body = {
            "dry_run": False, "dag_run_id": run.run_id, "task_ids": list(task_ids), "only_failed": False,
            "reset_dag_runs": True,
        }  # fmt: skip
        answer = self.airflow.call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)
        assert answer.ok, answer.text

    def told(self, run: Run) -> str:
        """Give what the tasks of a run came to, and what they logged, for a failed test."""
        logs = [
            f"--- {task['task_id']} {task['state']} {number}\n{run.log(task['task_id'], number)[-1500:]}"
            for task in run.tasks()
            for number in range(1, (task["try_number"] or 0) + 1)
        ]
        return "\n".join(logs)

    def accounts(self) -> int:
        return len(self.platform.simulator.accounts("team-a"))


@pytest.fixture(scope="module")
def deployment() -> Iterator[tuple[Deployment, Platform]]:
    platform = Platform("roster", start=datetime.now(UTC), speed=1)
    with platform.simulator, running(platform.environment, "e2e_roster.py") as airflow:
        yield airflow, platform


@pytest.fixture
def office(deployment: tuple[Deployment, Platform]) -> Office:
    airflow, platform = deployment
    sim = platform.simulator
    sim.clear_faults()
    for account in sim.accounts():
        sim.delete_account(account["id"])
    return Office(airflow, platform)


def test_what_was_shown_is_applied_once(office: Office) -> None:
    office.write(2)
    form = office.asked()
    run = form.run
    assert "`team-a` | 2 new" in form.text()
    assert office.accounts() == 0
    assert form.answer() == 200
    assert form.answer("Reject") == 409
    assert run.ended() == "success", office.told(run)
    assert (office.accounts(), run.outcome("sync")) == (2, "success 1")
    # The question is asked again, with the same text: the answer counts again, and nothing is left to do.
    office.clear(run, "approve", "sync")
    form.wait()
    assert form.answer() == 200
    assert run.ended() == "success", office.told(run)
    assert office.accounts() == 2
    assert run.xcom("sync")["counts"]["created"] == 0


def test_a_no_changes_nothing(office: Office) -> None:
    office.write(1)
    form = office.asked()
    run = form.run
    assert form.answer("Reject") == 200
    assert run.ended() == "success"
    assert (office.accounts(), run.task("sync")["state"]) == (0, "skipped")


def test_a_timeout_is_no_person(office: Office) -> None:
    office.write(1)
    run = office.airflow.trigger("e2e_timeout")
    assert run.ended() == "failed"
    assert (office.accounts(), run.outcome("approve")) == (0, "success 1")
    assert "was answered by its timeout" in run.log("sync", 1)


def test_a_form_that_does_not_show_the_plan_approves_nothing(office: Office) -> None:
    office.write(1)
    form = office.asked("e2e_blind")
    run = form.run
    assert form.answer() == 200
    assert run.ended() == "failed"
    assert office.accounts() == 0
    assert "does not show the plan" in run.log("sync", 1)


def test_a_plan_that_was_made_again_is_not_what_the_form_shows(office: Office) -> None:
    office.write(1)
    form = office.asked()
    run = form.run
    office.write(3)
    office.clear(run, "plan", "approve", "sync")
    wait_until(lambda: run.outcome("plan") == "success 2", "the planner's second try")
    form.wait()
    assert "`team-a` | 1 new" in form.text(), "Airflow shows the new text: the rule may be relaxed"
    assert form.answer() == 200
    assert run.ended() == "failed"
    assert office.accounts() == 0
    assert "in a DAG run that planned before" in run.log("sync", 1)


def test_an_answer_is_not_taken_over_by_a_later_plan(office: Office) -> None:
    office.write(1)
    form = office.asked()
    run = form.run
    form.answer()
    assert run.ended() == "success"
    office.write(3)
    office.clear(run, "plan")
    assert run.ended() == "success"
    wait_until(lambda: run.outcome("plan") == "success 2", "the planner's second try")
    office.clear(run, "sync")
    assert run.ended() == "failed"
    assert office.accounts() == 1


def test_the_same_plan_made_again_and_tries_that_fail_do_no_harm(office: Office) -> None:
    sim = office.platform.simulator
    office.write(1)
    sim.fault("list", "error_before", times=5)  # all that a try sends
    form = office.asked()
    run = form.run
    assert run.outcome("plan") == "success 2"
    office.clear(run, "plan", "approve", "sync")
    wait_until(lambda: run.outcome("plan") == "success 3", "the planner's third try")
    form.wait()
    sim.fault("list", "error_before", times=5)
    assert form.answer() == 200
    assert run.ended() == "success", office.told(run)
    assert (office.accounts(), run.outcome("sync")) == (1, "success 2")


def test_no_key_is_anywhere(deployment: tuple[Deployment, Platform]) -> None:
    """In what the runs above left: plans, forms, answers, results, the notes of tries."""
    airflow, platform = deployment
    assert len(platform.secrets) >= 5
    hunt = Hunt(airflow, platform.secrets)
    assert not hunt.run()
    assert min(hunt.searched.values()) > 1e4
