"""The example DAGs, run for real, and compared with what was true: for one month, and (e2e) for three."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run_example_dags(tmp_path_factory: pytest.TempPathFactory, span: str) -> tuple[Path, dict[str, Any]]:
    costs = tmp_path_factory.mktemp("costs")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/costs/run_example_dags.py"), str(costs), span],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path_factory.mktemp("home")),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
            "CLOSEAI_COSTS": str(costs),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("result ")]
    assert lines, done.stdout[-5000:]
    return costs, json.loads(lines[-1].removeprefix("result "))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return run_example_dags(tmp_path_factory, "long")


def report(costs: Path, month: str) -> dict[str, Any]:
    return dict(json.loads((costs / "reports" / f"closeai-costs-{month}.json").read_text()))


@pytest.mark.slow  # every cell has parts of it, and tests/e2e/test_days.py a real week
def test_a_month_from_the_first_unpause_to_its_close(tmp_path_factory: pytest.TempPathFactory) -> None:
    costs, result = run_example_dags(tmp_path_factory, "short")
    assert {state for _, _, state in result["states"]} == {"success"}
    assert len(result["states"]) == 4 + 2 + 1 + 1
    assert result["first"] == {
        "closeai_costs_daily": ["success", "skipped"],
        "closeai_costs_before_turn": ["success", "skipped"],
        "closeai_costs_month_close": ["success", "skipped", "skipped"],
        "closeai_costs_report": ["success", "skipped", "skipped"],
    }
    november = report(costs, "2026-11")
    assert (november["status"], november["gap_minutes"]) == ("final", 2)
    assert len(november["missed_days"]) == 27
    ours = {line["sub_account_id"]: Decimal(line["month_to_date"]) for line in november["accounts"]}
    assert ours == {number: Decimal(amount) for number, when, amount in result["seen"] if when == "2026-11"}
    assert Decimal(november["closed"]["total"]) == sum(ours.values())
    assert [len(texts) for texts in result["alerts"]] == [2]


@pytest.mark.e2e
def test_every_run_succeeded(world: tuple[Path, dict[str, Any]]) -> None:
    _, result = world
    assert {state for _, _, state in result["states"][:-3]} == {"success"}
    runs = Counter(name for name, _, _ in result["states"][:-3])
    assert runs == {
        "closeai_costs_daily": 91,
        "closeai_costs_before_turn": 3,
        "closeai_costs_month_close": 3,
        "closeai_costs_report": 9,
    }


@pytest.mark.e2e
def test_late_runs_record_nothing_and_fail_only_where_an_amount_is_lost(
    world: tuple[Path, dict[str, Any]],
) -> None:
    costs, result = world
    assert result["late"][0] == "success"
    assert result["late"][1].startswith("skipped")
    assert result["lost"][0] == "failed"
    assert result["lost"][1] == "failed 1", "no retry could help"
    assert [text.split()[0] for text in result["again"]] == ["success", "skipped", "success"]
    files = list((costs / "ledger" / "snapshots").rglob("*.csv"))
    assert len(files) == 91 + 3 + 3


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("month", "status", "gap"),
    [("2026-11", "final", 2), ("2026-12", "estimated", 1445), ("2027-01", "final", 2)],
)
def test_each_month_ties_out(world: tuple[Path, dict[str, Any]], month: str, status: str, gap: int) -> None:
    costs, result = world
    found = report(costs, month)
    assert (found["status"], found["gap_minutes"]) == (status, gap)
    assert found["closed"]["status"] == status
    assert Decimal(found["closed"]["total"]) == Decimal(found["totals"]["month_to_date"])
    ours = {line["sub_account_id"]: Decimal(line["month_to_date"]) for line in found["accounts"]}
    seen = {number: Decimal(amount) for number, when, amount in result["seen"] if when == month}
    assert ours == seen
    by_owner = [Decimal(line["month_to_date"]) for line in found["owners"]]
    assert sum(by_owner) == sum(ours.values()) == Decimal(found["totals"]["month_to_date"])
    truth = {number: Decimal(amount) for number, when, amount in result["truth"] if when == month}
    number = result["number"]
    rates = {"search.web": "0.06", "trial": "0.09", "search.late": "0.03", "ads.temp": "0.012"}
    for alias, rate in rates.items():
        if alias == "ads.temp" and month != "2026-11":
            continue  # deleted, with its last record
        missing = truth[number[alias]] - ours[number[alias]]
        assert missing == Decimal(rate) * gap / 60, alias
    assert truth.get(number["ads.temp"]) == ours.get(number["ads.temp"]) or month == "2026-11"


@pytest.mark.e2e
def test_the_months_tell_what_happened(world: tuple[Path, dict[str, Any]]) -> None:
    costs, result = world
    number = result["number"]
    november, december, january = (report(costs, month) for month in ("2026-11", "2026-12", "2027-01"))
    lines = {line["sub_account_id"]: line for line in november["accounts"]}
    assert lines[number["trial"]]["former_aliases"] == ["trial"]
    assert lines[number["trial"]]["team"] == "Ads"
    assert Decimal(november["totals"]["corrections"]) == Decimal("-5.00000001") + Decimal("0.09") * 24
    assert november["missed_days"] == ["2026-11-09"]
    states = {line["sub_account_id"]: line["state"] for line in december["accounts"]}
    assert states[number["ads.temp"]] == "deleted"
    assert number["ads.temp"] not in {line["sub_account_id"] for line in january["accounts"]}
    assert any("1445 minutes" in warning for warning in december["warnings"])
    assert january["warnings"] == []


@pytest.mark.e2e
def test_alerts_come_once(world: tuple[Path, dict[str, Any]]) -> None:
    _, result = world
    told = result["alerts"]
    assert len(told) == 9  # three reports in each of three months
    assert [len(texts) for texts in told] == [1, 1, 2, 2, 1, 1, 2, 0, 2]
    every = [
        text.split(" CNY in ")[1][:7] + text.split(" ")[0] + text.split("threshold ")[1]
        for texts in told
        for text in texts
    ]
    assert len(every) == len(set(every))
    assert "Search is forecast to spend" in " ".join(told[6])


@pytest.mark.e2e
def test_assets_tell_what_is_in_them(world: tuple[Path, dict[str, Any]]) -> None:
    _, result = world
    snapshots = [
        extra for dag, task, extra in result["assets"] if (dag, task) == ("closeai_costs_daily", "snapshot")
    ]
    assert len(snapshots) == 91
    assert snapshots[0]["billing_month"] == "2026-10"
    assert (snapshots[0]["sub_accounts"], snapshots[0]["total"]) == (4, "0.0135")
    reports = [
        extra for dag, task, extra in result["assets"] if (dag, task) == ("closeai_costs_report", "report")
    ]
    assert [extra["status"] for extra in reports] == ["open"] * 9
    closes = [extra for dag, task, extra in result["assets"] if task == "close"]
    assert [(extra["billing_month"], extra["closed"], extra["currency"]) for extra in closes] == [
        ("2026-11", True, "CNY"),
        ("2026-12", True, "CNY"),
        ("2027-01", True, "CNY"),
        ("2026-12", True, "CNY"),  # once more: a run that was cleared later
    ]


@pytest.mark.e2e
def test_no_key_is_in_any_file(world: tuple[Path, dict[str, Any]]) -> None:
    costs, _ = world
    files = [path for path in costs.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if b"sk-" in path.read_bytes() and "closeai-costs" in str(path)]
