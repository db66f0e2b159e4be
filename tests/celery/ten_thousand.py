"""Ten thousand deferred sensors in a real triggerer: probes, how late its loop is, memory.

Run by `make bench-triggerer`: PostgreSQL, connections and the cache in the database. Time is ten times as
fast as by default (`health_ttl` and `poke_interval` 30 s instead of 300): a minute stands for ten, and the
triggerer has ten times the work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery_deployment import CeleryDeployment
from deployment import wait_until
from sensors import defer, deferred, fired

from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

HERE = Path(__file__).parent
SENSORS, CONNECTIONS, BLACK_HOLES = 10_000, 10, 20
FASTER = 10
TTL = 300 / FASTER
DEAD = 600 / FASTER
LONG = 900  # seconds that anything may take
DAG_ID = "sensors"
PROBE = '''
import asyncio, json, os, time
from airflow.triggers.base import BaseTrigger

class Probe(BaseTrigger):
    """Measures the triggerer that it runs in: how late its loop and its threads are."""

    def serialize(self):
        return "loop_probe.Probe", {}

    async def run(self):
        late, waited = 0.0, 0.0
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.05)
            late = max(late, time.monotonic() - begun - 0.05)
            begun = time.monotonic()
            await asyncio.to_thread(int)
            waited = max(waited, time.monotonic() - begun)
            if os.path.exists("probe.reset"):
                os.unlink("probe.reset")
                late = waited = 0.0
            with open("probe.new", "w") as file:
                json.dump([late, waited], file)
            os.replace("probe.new", "probe.json")
            if late < 0:
                yield  # which makes this a generator
'''


class Triggerer(CeleryDeployment):
    """Nothing but a triggerer and its database."""

    def _parts(self) -> dict[str, list[str]]:
        return {"triggerer": [sys.executable, "-m", "airflow", "triggerer", "--capacity", "20000"]}

    def _is_ready(self, processes: int) -> bool:
        return bool(self.sql("SELECT 1 FROM job WHERE job_type = 'TriggererJob' AND state = 'running'"))

    def command(self, *arguments: str) -> None:
        """Run an Airflow command."""
        command = [sys.executable, "-m", "airflow", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.home, check=True, stdout=subprocess.DEVNULL)

    def memory(self) -> float:
        """Give the megabytes of the triggerer's processes."""
        return float(sum(process.memory_info().rss for process in self.processes())) / 1e6

    def lateness(self) -> tuple[float, float]:
        """Give the longest times since the last call that the loop, and a thread's work, were late."""
        file = self.home / "probe.json"
        wait_until(file.exists, "the probe measures", LONG)
        late, waited = json.loads(file.read_text())
        (self.home / "probe.reset").touch()
        wait_until(lambda: not (self.home / "probe.reset").exists(), "the probe begins anew", LONG)
        return late, waited


def fields_of(simulator: Simulator, number: int) -> dict[str, Any]:
    """Give a connection with a cache of its own."""
    extra = {"cache": "variable", "health_ttl": TTL, "allowed_hosts": ["127.0.0.1", f"number-{number}"]}
    return {**simulator.connection(), "extra": extra}


def measure(home: Path) -> Iterator[tuple[str, str]]:
    """Yield each figure as soon as it is known."""
    up, swallowing = Simulator(bases=2).start(), Simulator(bases=2).start()
    environment = {
        "PYTHONPATH": str(home / "probe"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1000",
    }
    (home / "probe").mkdir()
    (home / "probe" / "loop_probe.py").write_text(PROBE)
    airflow = Triggerer(home / "airflow", environment, (), ())
    shutil.copy(HERE / "dags" / "celery_dags.py", airflow.dags)
    try:
        airflow.start()
        yield from waiting(airflow, up)
        yield from black_holes(airflow, swallowing)
    finally:
        airflow.stop()
        up.stop()
        swallowing.stop()


def waiting(airflow: Triggerer, simulator: Simulator) -> Iterator[tuple[str, str]]:
    """Let them wait while the bases are dead."""
    add_connections(airflow, "up", [fields_of(simulator, number) for number in range(CONNECTIONS)])
    airflow.command("dags", "trigger", DAG_ID, "--run-id", "waiting")
    defer(airflow, "waiting", ("loop_probe.Probe", {}), 1)
    airflow.lateness()
    before = airflow.memory()
    for index in range(2):
        simulator.fault("healthy", "unhealthy", base=index, times=None)
    for number in range(CONNECTIONS):
        trigger = HealthTrigger(f"up_{number}", "any", TTL).serialize()
        defer(airflow, "waiting", trigger, SENSORS // CONNECTIONS)
    begun = time.monotonic()
    taken_over = "SELECT count(*) FROM trigger WHERE triggerer_id IS NULL"
    wait_until(lambda: airflow.sql(taken_over) == [(0,)], "the triggerer has them all", LONG)
    took = time.monotonic() - begun
    late, _ = airflow.lateness()
    yield "the triggerer takes them over; its loop is late by at most", f"{took:.0f} s; {late:.2f} s"
    probes, begun = simulator.count("healthy"), time.monotonic()
    while time.monotonic() - begun < DEAD:
        time.sleep(1)
    probes, seconds = simulator.count("healthy") - probes, time.monotonic() - begun
    late, waited = airflow.lateness()
    yield f"probes of {2 * CONNECTIONS} bases while they are dead for {seconds:.0f} s", str(probes)
    yield "discovery", str(simulator.count("links"))
    yield (
        "its loop is late by at most; other work waits for a thread at most",
        f"{late:.2f} s; {waited:.2f} s",
    )
    yield "memory more", f"{airflow.memory() - before:.0f} MB"
    simulator.clear_faults()
    begun = time.monotonic()
    wait_until(lambda: deferred(airflow, "waiting") == 1, "all have fired", LONG)  # the probe does not
    fire = time.monotonic() - begun
    assert all(any(base in event for base in simulator.base_urls) for event in fired(airflow, "waiting"))
    yield f"all fire after the bases are back (a check every {TTL:.0f} s)", f"{fire:.0f} s"


def black_holes(airflow: Triggerer, simulator: Simulator) -> Iterator[tuple[str, str]]:
    """Let the bases of some connections swallow what comes."""
    add_connections(airflow, "hole", [fields_of(simulator, number) for number in range(BLACK_HOLES)])
    for index in range(2):
        simulator.swallow_base(index)
    airflow.lateness()
    for number in range(BLACK_HOLES):
        defer(airflow, "waiting", HealthTrigger(f"hole_{number}", "any", 1).serialize(), 1)
    time.sleep(30)
    late, waited = airflow.lateness()
    name = f"{BLACK_HOLES} connections swallow everything for 30 s: the loop; other work for a thread"
    yield name, f"{late:.2f} s; {waited:.2f} s"


def add_connections(airflow: Triggerer, prefix: str, every: list[dict[str, Any]]) -> None:
    file = airflow.home / f"{prefix}.json"
    file.write_text(json.dumps({f"{prefix}_{number}": fields for number, fields in enumerate(every)}))
    airflow.command("connections", "import", str(file))


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="closeai-triggerer-"))
    home.chmod(0o711)
    print(f"| {SENSORS:,} deferred sensors | measured |\n|---|---|", flush=True)
    try:
        for name, value in measure(home):
            print(f"| {name} | {value} |", flush=True)
    finally:
        if "CLOSEAI_E2E_KEEP" not in os.environ:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
