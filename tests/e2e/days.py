"""An Airflow, and a simulated platform, that live in a time which the test moves."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deployment import Deployment, Run, wait_until
from platforms import Platform

from airflow_provider_closeai.simulator.values import ZONE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = sorted((ROOT / "example_dags").glob("*.py"))
# Those of the roster own the README's aliases: they live on a platform of their own.
OF_THE_ROSTER = [path for path in EXAMPLES if re.search("roster|team", path.stem)]
EXAMPLES = [path for path in EXAMPLES if path not in OF_THE_ROSTER]
ENDED = ("success", "failed")


def compiler() -> str:
    """Find a C compiler; without one the tests are skipped, or fail where nothing may be skipped."""
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("CLOSEAI_SKIP_NOTHING") else pytest.skip
        give_up("no C compiler on this machine (looked for cc, gcc and clang), and it takes one to move time")
    return str(found)


def moment(text: str) -> datetime:
    """Read a time of the platform's zone: ``2026-11-26 14:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


class ShiftedClock:
    """
    The time of day of the processes that have its environment.

    :param folder: where the library and the offset are.
    """

    def __init__(self, folder: Path) -> None:
        library, offset = folder / "shifted_clock.so", folder / "shifted_clock"
        source = str(HERE / "shifted_clock.c")
        subprocess.run([compiler(), "-shared", "-fPIC", "-O2", source, "-o", str(library)], check=True)
        offset.write_bytes(bytes(8))
        with open(offset, "r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(offset)}

    @property
    def _nanoseconds(self) -> int:
        return int.from_bytes(self._offset[:], sys.byteorder, signed=True)

    def now(self) -> datetime:
        """Tell the time in those processes."""
        return datetime.now(ZONE) + timedelta(microseconds=self._nanoseconds // 1000)

    def set(self, to: datetime) -> None:
        """Move all of them to a time, from which it goes on at its usual pace."""
        shift = round(to.timestamp() * 1e6) * 1000 - time.time_ns()
        self._offset[:] = shift.to_bytes(8, sys.byteorder, signed=True)


class Days:
    """
    DAGs, paused as a user finds them, from a given time on.

    :param home: an empty folder.
    :param start: the first moment, in the platform's zone.
    :param dags: their files.
    :param environment: what they need besides.
    """

    def __init__(
        self, home: Path, start: datetime, dags: Iterable[Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self.clock = ShiftedClock(home)
        self.clock.set(start)
        self.platform = Platform("closeai_default", start=start, speed=1)
        self.simulator = self.platform.simulator.start()
        self.costs = home / "costs"
        environment = {
            **self.clock.environment,
            **self.platform.environment,
            **(environment or {}),
            "CLOSEAI_COSTS": str(self.costs),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        }
        self.airflow = Deployment(home / "airflow", environment)
        for path in dags:
            shutil.copy(path, self.airflow.dags)

    def start(self) -> None:
        self.airflow.start()

    def stop(self) -> None:
        self.airflow.stop()
        self.simulator.stop()

    def go(self, to: str | datetime, *starts: str) -> None:
        """
        Move to a time and stay until all that it starts has ended.

        :param to: the time.
        :param starts: the DAGs that must start a run; one that is named twice must start two.
        """
        at = moment(to) if isinstance(to, str) else to
        before = self.rows()
        assert all(row["state"] in ENDED for row in before), "a task that runs would lose its heartbeats"
        self.simulator.clock.set(at)
        self.clock.set(at)
        self.airflow.wait_until_ready()
        self.wait_for(before, *starts)

    def wait_for(self, before: list[dict[str, Any]], *starts: str) -> None:
        """Wait until these runs have started since, and nothing runs any more."""
        expected = Counter(row["dag_id"] for row in before) + Counter(starts)

        def is_done() -> bool:
            rows = self.rows()
            is_there = not expected - Counter(row["dag_id"] for row in rows)
            return is_there and all(row["state"] in ENDED for row in rows)

        try:
            wait_until(is_done, f"{self.clock.now():%m-%d %H:%M}: {starts} have started and ended")
        except AssertionError as problem:
            problem.add_note("\n".join(f"{row['dag_run_id']}: {row['state']}" for row in self.rows()))
            raise

    def wait_for_run_at(self, dag_id: str, at: str) -> None:
        """Wait until the scheduled run of a time has ended, also where Airflow starts an older one first."""

        def is_done() -> bool:
            found = [
                row
                for row in self.rows()
                if row["dag_id"] == dag_id and datetime.fromisoformat(row["run_after"]) == moment(at)
            ]
            return any(row["run_type"] == "scheduled" and row["state"] in ENDED for row in found)

        wait_until(is_done, f"the run of {dag_id} at {at}")

    def rows(self) -> list[dict[str, Any]]:
        """Give all DAG runs, as the API has them."""
        found: list[dict[str, Any]] = self.airflow.get("dags/~/dagRuns?limit=1000")["dag_runs"]
        return found

    def unpause(self, *dag_ids: str, is_paused: bool = False) -> None:
        """Unpause DAGs, or pause them."""
        for dag_id in dag_ids:
            answer = self.airflow.call("PATCH", f"dags/{dag_id}", {"is_paused": is_paused})
            assert answer.ok, f"{dag_id}: {answer.status_code} {answer.text[:500]}"

    def runs(self, dag_id: str) -> list[Run]:
        """Give the runs of a DAG, oldest first."""
        rows = [row for row in self.rows() if row["dag_id"] == dag_id]
        rows.sort(key=lambda row: str(row["run_after"]))
        return [Run(self.airflow, dag_id, row["dag_run_id"]) for row in rows]

    def told(self, dag_id: str) -> list[str]:
        """
        Give what became of every run of a DAG, oldest first: ``11-27 08:00 success: create success 1, ...``.

        The time is the platform's; of a run that no schedule started it is its kind.
        """
        found = []
        for run in self.runs(dag_id):
            row = self.airflow.get(run.path)
            at = f"{datetime.fromisoformat(row['run_after']).astimezone(ZONE):%m-%d %H:%M}"
            name = at if row["run_type"] == "scheduled" else row["run_type"]
            found.append(f"{name} {row['state']}: {self.outcomes(run)}")
        return found

    def run_at(self, dag_id: str, at: str) -> Run:
        """Give the scheduled run of a time of the platform's zone."""
        rows = [row for row in self.rows() if row["dag_id"] == dag_id and row["run_type"] == "scheduled"]
        (row,) = [row for row in rows if datetime.fromisoformat(row["run_after"]) == moment(at)]
        return Run(self.airflow, dag_id, row["dag_run_id"])

    def outcomes(self, run: Run) -> str:
        """Give the state of each task of a run and the number of its tries: ``create success 1, ...``."""
        tasks = sorted(run.tasks(), key=lambda task: str(task["task_id"]))
        return ", ".join(f"{task['task_id']} {task['state']} {task['try_number']}" for task in tasks)

    def clear(self, run: Run) -> None:
        """Let a run's tasks run once more."""
        body = {"dry_run": False, "dag_run_id": run.run_id, "only_failed": False, "reset_dag_runs": True}
        answer = self.airflow.call("POST", f"dags/{run.dag_id}/clearTaskInstances", body)
        assert answer.ok, f"{run.run_id}: {answer.status_code} {answer.text[:500]}"

    def knows_its_next_run(self, dag_id: str) -> bool:
        """
        Tell whether a DAG's next run lies ahead.

        When an old run that was cleared ends, Airflow 3.1 goes through the times after it once more; a run by
        hand just then would leave the DAG without a next one until its file is parsed again.
        """
        at = self.airflow.get(f"dags/{dag_id}")["next_dagrun_run_after"]
        return at is not None and datetime.fromisoformat(at) > self.clock.now()

    def marked(self, dag_id: str, task_id: str, **conf: Any) -> Run:
        """Start a run whose task was marked as success before it ran, and wait for its end."""
        before = self.rows()
        self.unpause(dag_id, is_paused=True)  # its tasks wait
        run = self.airflow.trigger(dag_id, **conf)
        answer = self.airflow.call("PATCH", f"{run.path}/taskInstances/{task_id}", {"new_state": "success"})
        assert answer.ok, f"{run.run_id}: {answer.status_code} {answer.text[:500]}"
        self.unpause(dag_id)
        self.wait_for(before, dag_id)
        return run

    def backfill(self, dag_id: str, start: str, end: str, runs: int) -> None:
        """Run a DAG for a time that is past, two runs at once, and wait for the end of all."""
        body = {
            "dag_id": dag_id,
            "from_date": moment(start).isoformat(),
            "to_date": moment(end).isoformat(),
            "reprocess_behavior": "none",
            "max_active_runs": 2,
        }

        def is_done() -> bool:
            rows = [row for row in self.rows() if row["dag_id"] == dag_id and row["run_type"] == "backfill"]
            if len(rows) < runs:  # Airflow says that SQLite may lock it out in the middle of this
                answer = self.airflow.call("POST", "backfills", body)
                assert answer.status_code in (200, 409, 500, 503), f"{answer.status_code} {answer.text[:500]}"
                return False
            return all(row["state"] in ENDED for row in rows)

        wait_until(is_done, f"the backfill of {dag_id}")

    def ledger(self) -> dict[str, bytes]:
        """Give all files of the ledger."""
        return {str(path): path.read_bytes() for path in (self.costs / "ledger").rglob("*.csv")}

    def calls_since(self, before: Counter[str]) -> dict[str, int]:
        """Give the calls on the wire since a count."""
        return dict(Counter(self.simulator.counts()) - before)

    def writes_since(self, before: Counter[str]) -> dict[str, int]:
        """Give those among them that may change something."""
        calls = self.calls_since(before)
        return {call: number for call, number in calls.items() if call in ("create", "update", "delete")}

    def factors(self, alias: str) -> list[dict[str, float]]:
        """Give the prices of an alias's accounts, as they are on the platform."""
        return [
            {entry["model"]: float(entry["pricing_factor"]) for entry in account["model_pricing"]}
            for account in self.simulator.accounts(alias)
        ]


def dag_of_readme() -> str:
    """Give the DAG that users copy from the README."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "DAG(" in block]
    return str(found)
