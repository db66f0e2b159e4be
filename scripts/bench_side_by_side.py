"""The same provisioning by three means under the same faults, in a real Airflow."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from deployment import HANG, Deployment, Run  # noqa: E402
from hunt import Hunt  # noqa: E402
from platforms import Platform  # noqa: E402

from airflow_provider_closeai.simulator import Request  # noqa: E402

COUNT = 3
WAYS = {
    "bench_http_operator": "HttpOperator",
    "bench_http_hook": "HttpHook, looks again",
    "bench_closeai": "this package",
}
LATE = 4.0
#: What happens to the first post of each run. "base down": the best base is dead during this run.
SCHEDULE = (
    "",
    "answer lost",
    "429",
    "",
    "cut before work",
    "answer lost",
    "killed, worked on at once",
    "",
    "answer lost",
    "429",
    "killed, worked on late",
    "",
    "base down",
    "base down",
    "base down",
    "",
    "answer lost",
    "cut before work",
    "killed, worked on late",
    "",
)


class Way:
    """One way of doing the job: its DAG, on a platform of its own."""

    def __init__(self, dag_id: str) -> None:
        self.dag_id = dag_id
        self.platform = Platform(dag_id, {"max_late": 2 * LATE})
        self.runs: dict[str, Run] = {}
        self.tasks: list[dict[str, Any]] = []
        self.known: set[int] = set()
        self.seconds = 0.0

    def environment(self) -> dict[str, str]:
        if self.dag_id == "bench_closeai":
            return self.platform.environment
        simulator = self.platform.simulator
        key = {"Authorization": f"Bearer {simulator.key}"}
        fields = {"conn_type": "http", "host": simulator.base_urls[0], "extra": key}
        return {f"AIRFLOW_CONN_{self.dag_id.upper()}": json.dumps(fields)}

    def work(self, airflow: Deployment) -> None:
        started = time.monotonic()
        for number, trouble in enumerate(SCHEDULE):
            alias = f"team-{number:02}"
            self._prepare(airflow, trouble)
            run = self.runs[alias] = airflow.trigger(self.dag_id, alias=alias)
            run.ended()
            self.tasks += run.tasks()
            self.known |= known_ids(run)
            self.platform.simulator.clear_faults()
            self.platform.script = None
        self.seconds = time.monotonic() - started

    def _prepare(self, airflow: Deployment, trouble: str) -> None:
        simulator = self.platform.simulator
        simulator.start_base(0)
        if trouble == "answer lost":
            simulator.fault("create", "cut_after")
        elif trouble == "cut before work":
            simulator.fault("create", "cut_before")
        elif trouble == "429":
            simulator.fault("create", "rate_limit", retry_after=2)
        elif trouble == "base down":
            simulator.stop_base(0)
        elif trouble:
            self._kill_at_the_first_post(airflow, LATE if "late" in trouble else 0.0)

    def _kill_at_the_first_post(self, airflow: Deployment, then_wait: float) -> None:
        once = threading.Lock()

        def kill(request: Request) -> None:
            if request.call == "create" and once.acquire(blocking=False):
                process = airflow.client_of(self.platform.base_ports)
                process.kill()
                process.wait(HANG)
                time.sleep(then_wait)  # how late the platform is: part of what is measured

        self.platform.script = kill


def known_ids(run: Run) -> set[int]:
    """Give the accounts that the run's results name."""
    found: set[int] = set()
    for task in run.tasks():
        path = f"{run.path}/taskInstances/{task['task_id']}/xcomEntries/return_value"
        answer = run.airflow.call("GET", path)
        if answer.ok:
            value = answer.json()["value"]
            items = json.loads(value) if isinstance(value, str) and value[:1] == "[" else value
            for item in items if isinstance(items, list) else ():
                found.add(item["id"] if isinstance(item, dict) else int(item))
    return found


def side_by_side() -> list[list[Any]]:
    home = Path(tempfile.mkdtemp(prefix="closeai-bench-"))
    ways = [Way(dag_id) for dag_id in WAYS]
    for way in ways:
        way.platform.simulator.start()
    environment = {name: text for way in ways for name, text in way.environment().items()}
    airflow = Deployment(home / "airflow", {**environment, "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO"})
    shutil.copy(ROOT / "scripts" / "bench_dags" / "closeai_bench.py", airflow.dags)
    try:
        airflow.start()
        with ThreadPoolExecutor(len(ways)) as pool:
            list(pool.map(lambda way: way.work(airflow), ways))
        leaks = Hunt(airflow, [key for way in ways for key in way.platform.secrets]).run()
        leaked = {way.dag_id: {one.key for one in leaks if one.key in way.platform.secrets} for way in ways}
        for way in ways:
            if way.platform.problems:
                raise way.platform.problems[0]
        return [["", *WAYS.values()], *rows(ways, leaked)]
    finally:
        airflow.stop()
        for way in ways:
            way.platform.simulator.stop()
        shutil.rmtree(home, ignore_errors=True)


def rows(ways: list[Way], leaked: dict[str, set[str]]) -> Iterator[list[Any]]:
    wanted = len(SCHEDULE) * COUNT
    there = [[len(way.platform.simulator.accounts(alias)) for alias in way.runs] for way in ways]
    yield ["accounts wanted", *[wanted] * len(ways)]
    yield ["accounts there", *(sum(numbers) for numbers in there)]
    yield ["duplicates", *(sum(max(0, number - COUNT) for number in numbers) for numbers in there)]
    yield ["missing", *(sum(max(0, COUNT - number) for number in numbers) for numbers in there)]
    ids = [{account["id"] for account in way.platform.simulator.accounts()} for way in ways]
    lost = (len(found - way.known) for way, found in zip(ways, ids, strict=True))
    yield ["keys that exist and no task result names", *lost]
    yield ["keys leaked into database, logs, files, REST", *(len(leaked[way.dag_id]) for way in ways)]
    failed = (sum(run.state == "failed" for run in way.runs.values()) for way in ways)
    yield [f"failed runs of {len(SCHEDULE)}", *failed]
    yield ["tries of tasks", *(sum(task["try_number"] for task in way.tasks) for way in ways)]
    for call in ("create", "list", "links", "healthy"):
        yield [f"calls: {call}", *(way.platform.simulator.count(call) for way in ways)]
    yield ["seconds, all runs one after the other", *(f"{way.seconds:.0f}" for way in ways)]


def faults() -> str:
    meaning = {
        "": "none",
        "answer lost": "worked on, the connection is cut before the answer",
        "cut before work": "the connection is cut, it is never worked on",
        "429": "429 with `Retry-After: 2`",
        "killed, worked on at once": "the task's process is killed (SIGKILL); the platform works on it",
        "killed, worked on late": f"the same, and the platform works on it {LATE:g} s later",
        "base down": "the best base is dead for the whole run",
    }
    return "\n".join(
        f"- {SCHEDULE.count(kind)} run{'s' * (SCHEDULE.count(kind) > 1)}: {text}"
        for kind, text in meaning.items()
    )
