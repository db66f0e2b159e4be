"""Measure: the same provisioning by three means under the same faults, in a real Airflow; then speed.

--write FILE also writes the tables to a Markdown file (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform as machine
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from deployment import HANG, Deployment, Run  # noqa: E402
from hunt import Hunt  # noqa: E402
from platforms import Platform  # noqa: E402

from airflow_provider_closeai.simulator import Request, Simulator  # noqa: E402

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
        self.platform = Platform(dag_id)
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


def speed() -> Iterator[list[str]]:
    yield ["", "measured"]
    yield from sensors()
    yield from imports()
    yield from listing()
    yield from overhead()


def use_connection(simulator: Simulator, **extra: Any) -> None:
    connection = {**simulator.connection(), "extra": extra}
    os.environ["AIRFLOW_CONN_CLOSEAI_DEFAULT"] = json.dumps(connection)


def sensors(number: int = 1000, seconds: float = 10.0) -> Iterator[list[str]]:
    """Let deferred sensors wait for a base that is down."""
    from airflow_provider_closeai.triggers.health import HealthTrigger

    logging.getLogger("airflow_provider_closeai").setLevel(logging.ERROR)
    with Simulator(bases=2) as simulator:
        use_connection(simulator, health_ttl=2)
        simulator.fault("healthy", "unhealthy", base=0, times=None)

        async def wait_all() -> float:
            waiting = [asyncio.ensure_future(anext(HealthTrigger(require="all", poke_interval=1).run()))
                       for _ in range(number)]  # fmt: skip
            await asyncio.sleep(seconds)
            simulator.clear_faults()
            began = time.monotonic()
            events = await asyncio.gather(*waiting)
            if {event.payload["status"] for event in events} != {"healthy"}:
                raise RuntimeError("a sensor did not end well")
            return time.monotonic() - began

        late = asyncio.run(wait_all())
        probes, links = simulator.count("healthy"), simulator.count("links")
    yield [
        f"{number:,} deferred sensors waiting {seconds:.0f} s for one of two bases, looking every second "
        "(health_ttl 2 s)",
        f"{probes} probes of both, {links} discovery; all fired within {late:.1f} s of its recovery",
    ]


def imports(times: int = 7) -> Iterator[list[str]]:
    code = (
        "import time; from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator,"
        " PokeReturnValue, AirflowFailException, conf; began = time.perf_counter();"
        " import airflow_provider_closeai.operators.sub_accounts, airflow_provider_closeai.sensors.health;"
        " print(time.perf_counter() - began)"
    )
    found = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(1000 * float(done.stdout.split()[-1]))
    yield [
        f"import of operators and sensor in a DAG file, beyond the SDK (median of {times} interpreters)",
        f"{statistics.median(found):.1f} ms",
    ]


def client(simulator: Simulator, **extra: Any) -> Any:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import config_from

    return CloseAIClient(config_from(password=simulator.key, host=simulator.discovery_url, extra=extra))


def listing(number: int = 10_000) -> Iterator[list[str]]:
    with Simulator(bases=1) as simulator:
        for index in range(number):
            simulator.add_account(f"team-{index % 100}")
        lister = client(simulator)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        found = sum(1 for _ in lister.iter_sub_accounts())
        took = time.monotonic() - began
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        if found != number:
            raise RuntimeError(f"{found} accounts listed")
        pages = simulator.count("list")
    yield [
        f"listing {number:,} accounts, simulator in the same process",
        f"{took:.2f} s, {pages} pages, {more:.0f} MB more",
    ]


def overhead(number: int = 400) -> Iterator[list[str]]:
    import requests

    with Simulator(bases=1) as simulator:
        ours = client(simulator)
        session = requests.Session()
        url = f"{simulator.base_urls[0]}/api/v1/account/sub-account/list"
        options: dict[str, Any] = {
            "params": {"page": "1", "page_size": "1"},
            "headers": {"Authorization": f"Bearer {simulator.key}"},
            "timeout": (5, 60),
        }

        def plain() -> None:
            answer = session.get(url, **options)
            answer.raise_for_status()
            answer.json()

        ours.page(1, 1)
        plain()
        took = {"ours": [], "plain": []}  # type: dict[str, list[float]]
        for _ in range(5):  # in turns: the machine's moods hit both
            took["ours"].append(rate(lambda: ours.page(1, 1), number // 5))
            took["plain"].append(rate(plain, number // 5))
    fast, raw = (statistics.median(took[name]) for name in ("ours", "plain"))
    yield [
        "calls per second, one after the other (plain requests on a session: same call, same simulator)",
        f"{fast:.0f} against {raw:.0f}: {1000 / fast - 1000 / raw:.2f} ms more for each call",
    ]


def rate(call: Callable[[], Any], number: int) -> float:
    began = time.monotonic()
    for _ in range(number):
        call()
    return number / (time.monotonic() - began)


def table(lines: list[list[Any]]) -> str:
    """Make a Markdown table."""
    first, *others = [[str(cell) for cell in line] for line in lines]
    widths = [max(len(line[index]) for line in (first, *others)) for index in range(len(first))]

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([row(first), row(["-" * width for width in widths]), *map(row, others)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="also write the tables to this Markdown file")
    parser.add_argument("--only", choices=("side-by-side", "speed"), help="measure only this")
    options = parser.parse_args()
    parts: dict[str, str] = {}
    place = tempfile.mkdtemp(prefix="closeai-bench-")
    os.environ.update(TMPDIR=place, AIRFLOW_HOME=place, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    tempfile.tempdir = place
    try:
        if options.only != "speed":
            parts["Side by side"] = table(side_by_side())
            print(f"\n{parts['Side by side']}\n", flush=True)
        if options.only != "side-by-side":
            parts["Speed"] = table(list(speed()))
            print(f"\n{parts['Speed']}\n", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if options.write:
        Path(options.write).write_text(document(parts), encoding="utf-8")
    costs = ROOT / "scripts" / "bench_costs.py"
    if options.only is None and costs.exists():
        return subprocess.run([sys.executable, costs], check=False).returncode
    return 0


def document(parts: dict[str, str]) -> str:
    packages = ("apache-airflow", "apache-airflow-providers-http", "requests")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return DOCUMENT.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=os.cpu_count(),
        system=f"{machine.system()} {machine.machine()}, Python {machine.python_version()}; {versions}",
        runs=len(SCHEDULE),
        count=COUNT,
        faults=faults(),
        side_by_side=parts.get("Side by side", ""),
        speed=parts.get("Speed", ""),
    )


DOCUMENT = """# Benchmarks

Measured {date} with `make bench ARGS='--write docs/benchmarks.md'`, {cores} cores
({system}).

## Side by side

{runs} runs, one after the other, each to make it so that an alias has {count} accounts; a real
scheduler (LocalExecutor), three retries, `retry_delay` 1 s; a simulator for each way, with the same
faults for the first post of each run:

{faults}

- **HttpOperator**: look, then create what is missing; `log_response=False`, and `response_filter` keeps
  ids only (without it the answers, keys included, would be in XCom). Two tasks: a retry of the second
  posts again what may have worked.
- **HttpHook, looks again**: both in one task of the user's own, so that every try looks first. It still
  repeats what the platform works on late.
- **this package**: `CreateSubAccountsOperator` with `settle=5` (default 30).

All three are in `scripts/bench_dags/closeai_bench.py`. The first two talk to one base: the HTTP
provider knows no discovery.

{side_by_side}

The seconds: the three ways run at the same time and share the cores; most of them are Airflow's own.
This package also waits `settle` seconds before it creates again after a lost post, and until the
listing shows what it made.

## Speed

{speed}
"""


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


if __name__ == "__main__":
    sys.exit(main())
