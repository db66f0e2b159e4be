"""Run a real DAG against the simulator, offline, and tell what happened.

Everything lives in a temporary folder: nothing of this machine's Airflow is read or changed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import demo_roster

from airflow_provider_closeai.simulator import Request, Simulator

AIRFLOW = Path(sys.executable).with_name("airflow")
DAGS = Path(__file__).resolve().parent / "demo_dags"


def main() -> int:
    started = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="closeai-demo-"))
    try:
        with Simulator(bases=2) as simulator:
            return demo(simulator, home, started)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def demo(simulator: Simulator, home: Path, started: float) -> int:
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "TMPDIR": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW_CONN_CLOSEAI_DEFAULT": json.dumps(simulator.connection()),
        "CLOSEAI_DEMO_CONTROL": simulator.discovery_url,
    }
    say(
        "A platform on loopback",
        f"discovery {simulator.discovery_url}, bases {', '.join(simulator.base_urls)}",
    )
    say("A new Airflow", "airflow db migrate")
    airflow(env, home, "db", "migrate")
    say("A real DAG run", "airflow dags test closeai_demo")
    tokens: set[str] = set()
    simulator.on_request = lambda _: tokens.update(account["token"] for account in simulator.accounts())
    clock = time.monotonic() - time.time()
    airflow(env, home, "dags", "test", "closeai_demo")

    say("And a roster of teams", f"airflow dags test {demo_roster.DAG}")
    roster = demo_roster.RosterDemo(home, env)
    with roster.running() as its_env:
        airflow(its_env, home, "dags", "test", demo_roster.DAG)
    tokens |= roster.tokens | {roster.simulator.key}

    tasks = list(finished_tasks(home))
    say("What happened", "")
    requests = [*simulator.requests, *roster.simulator.requests]
    for name, begin, end in tasks:
        calls = [each for each in requests if begin <= each.at - clock < end and each.call != "chat"]
        if name in STORY:
            print(f"  {name:<13} {STORY[name]:<65} {wire(calls)}")
    print()
    found = [*checks(simulator, tokens, home), *roster.checks(returned(home, demo_roster.DAG))]
    bad = [check for check in found if not print_check(*check)]
    print(f"\n  {time.monotonic() - started:.0f} s. Next: the README's DAG to copy, and docs/.")
    return 1 if bad or not set(STORY) <= {name for name, *_ in tasks} else 0


STORY = {
    "health": "both bases are healthy",
    "create": "3 keys wanted; the answer of the post is lost on the way",
    "create_again": "the same task once more: there is nothing to do",
    "reprice": "the best base is dead now; gpt-4o 1.5 -> 1.2, gpt-4 kept",
    "list": "five days later: what has each key cost?",
    "delete": "deleted, after their last cost was recorded",
    **demo_roster.STORY,
}


def wire(requests: list[Request]) -> str:
    counts = Counter(request.call for request in requests)
    return ", ".join(f"{count} {call}" for call, count in counts.items()) or "-"


def checks(simulator: Simulator, tokens: set[str], home: Path) -> Iterator[tuple[str, bool, str]]:
    posts = [request for request in simulator.requests if request.call == "create"]
    made = sum(request.executed for request in posts)
    total = sum(request.body["count"] for request in posts if request.executed)
    yield "exactly once", total == 3, f"3 keys wanted, {total} made, by {made} post; 0 duplicates"
    links = simulator.count("links")
    yield "discovery", links == 1, f"asked {links} time for {len(simulator.requests)} calls of all tasks"
    reported, true = str(returned(home, "closeai_demo")["report"]), sum(simulator.truth.by_month.values())
    yield (
        "cost",
        reported == f"{true:f}",
        f"{reported} reported for five days, {true:f} in the platform's own books",
    )
    left = len(simulator.accounts())
    yield "clean up", left == 0, f"{left} keys left on the platform"
    secrets = [simulator.key.encode(), *(token.encode() for token in tokens)]
    files = [path for path in home.rglob("*") if path.is_file()]
    leaks = [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
    searched = sum(path.stat().st_size for path in files) / 1e6
    text = f"{len(secrets)} keys searched for in {searched:.1f} MB of database, logs and cache: "
    yield "no key leaked", not leaks and len(secrets) == 9, f"{text}{len(leaks)} found"


def print_check(name: str, good: bool, words: str) -> bool:
    print(f"  {'ok ' if good else 'BAD'} {name:<15} {words}")
    return good


def finished_tasks(home: Path) -> Iterator[tuple[str, float, float]]:
    """Give the tasks that succeeded, with the epoch seconds between which they ran."""
    query = (
        "SELECT task_id, start_date, end_date FROM task_instance WHERE state = 'success' ORDER BY start_date"
    )
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        for name, *times in database.execute(query):
            begin, end = (datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in times)
            yield name, begin, end


def returned(home: Path, dag_id: str) -> dict[str, Any]:
    """Give what the tasks of a DAG returned."""
    query = "SELECT task_id, value FROM xcom WHERE dag_id = ? AND key = 'return_value'"
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        found = list(database.execute(query, (dag_id,)))
    return {name: _value(json.loads(value)) for name, value in found}


def _value(stored: Any) -> Any:
    """Read what Airflow stores: JSON, mostly in JSON."""
    return json.loads(stored) if isinstance(stored, str) and stored[:1] in '[{"' else stored


def airflow(env: dict[str, str], home: Path, *arguments: str) -> str:
    done = subprocess.run([AIRFLOW, *arguments], env=env, capture_output=True, text=True)
    with open(home / "demo.log", "a", encoding="utf-8") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"airflow {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def say(title: str, text: str) -> None:
    print(f"\n{title}" + (f": {text}" if text else ""), flush=True)


if __name__ == "__main__":
    sys.exit(main())
