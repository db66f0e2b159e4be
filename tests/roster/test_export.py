"""``python -m airflow_provider_closeai.roster``: what is there becomes a roster that changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import client_of

from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.roster import Options, make_plan, read_roster
from airflow_provider_closeai.roster.document import parse_text
from airflow_provider_closeai.roster.export import export
from airflow_provider_closeai.simulator import Simulator

PRICING = [{"model": "gpt-4", "pricing_factor": 0.3}, {"model": "x: y", "pricing_factor": 2}]


def run(sim: Simulator, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    connection = json.dumps({**sim.connection(), "extra": {"max_late": 0.1}})
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW_CONN_MAIN": connection}
    command = [sys.executable, "-m", "airflow_provider_closeai.roster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.mark.slow  # each run is an interpreter that imports Airflow
def test_what_is_there_becomes_a_roster_that_changes_nothing(sim: Simulator, tmp_path: Path) -> None:
    for alias in ("team-a", "team-a", "NO", "007", "团队", "a|b: `c` #", "*", "null", "1e3", "2027-01-01"):
        sim.add_account(alias, PRICING, balance="12.5")
    odd = sim.add_account(" spaces ")
    file = tmp_path / "roster.yaml"
    done = run(sim, tmp_path, "export", "--conn-id", "main", "--output", str(file))
    assert done.returncode == 0, done.stderr
    text = file.read_text()
    assert not [account for account in sim.accounts() if account["token"] in text]
    assert f"left out, since a roster cannot name them: [{odd['id']}]" in text
    roster = read_roster(file)
    assert (len(roster.entries), roster.entries["team-a"].count) == (9, 2)
    plan = make_plan(client_of(sim), roster, Options(prune=True, max_delete=0), keys=None, books=None)
    assert (plan.actions, plan.notes) == ((), ())
    again = run(sim, tmp_path, "export", "--conn-id", "main", "--output", str(file))
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert run(sim, tmp_path, "check", str(file)).stdout.endswith("9 aliases, 10 sub-accounts wanted.\n")
    file.write_text(text.replace("count: 2", "count: 2\n  expires: 2026-01-01T00:00:00+08:00"))
    assert run(sim, tmp_path, "check", str(file)).stdout.endswith("9 aliases, 8 sub-accounts wanted.\n")


@pytest.mark.parametrize(
    ("field", "raw", "told"),
    [
        ("balance", '"-0.5"', "# Note: 'team-a': balance is -0.5, which a roster cannot have."),
        ("balance", '"1234567890.12345678"', "balance is 1234567890.12345678, which"),
        ("model_pricing", '[{"model":" m","pricing_factor":1}]', "([1]): model_pricing names the model ' m'"),
        ("model_pricing", '[{"model":"m","pricing_factor":-1}]', "([1]): model_pricing['m'] is -1"),
        ("model_pricing", "[]", "([1]): model_pricing is empty"),
    ],
)
def test_what_a_roster_cannot_say_is_a_comment_and_the_file_can_be_read(
    sim: Simulator, field: str, raw: str, told: str
) -> None:
    sim.spoil(sim.add_account("team-a", PRICING)["id"], field, raw)
    sim.add_account("team-b", PRICING)
    client = client_of(sim)
    text = export([each for each in client.iter_listing() if isinstance(each, SubAccount)])
    assert told in text.partition("\n\n")[0]
    roster = read_roster(parse_text("roster", text, is_json=False))
    assert list(roster.entries) == ["team-b"] if "left out" in text else ["team-a", "team-b"]
    assert make_plan(client, roster, Options(), keys=None, books=None).actions == ()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["check", "/nowhere.yaml"], ["export", "--conn-id", "main"]])
def test_a_problem_is_one_message(sim: Simulator, tmp_path: Path, arguments: list[str]) -> None:
    sim.fault("list", "status", status=403, times=None)
    done = run(sim, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "--conn-id", "nope"], "`nope` isn't defined"),
        (["export", "--conn-id", "main", "--output", "/nowhere/roster.yaml"], "/nowhere/roster.yaml"),
    ],
)
def test_a_slip_of_the_command_line_is_one_message(
    sim: Simulator, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run(sim, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    # Airflow 2 logs before it, with a traceback, that this home's database has no tables.
    assert told in done.stderr.splitlines()[-1]
