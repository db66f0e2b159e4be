"""Ten thousand deferred sensors in a real triggerer: probes, how late its loop is, memory.

Run by `make bench-triggerer` (fewer: `ARGS=500`): PostgreSQL, connections and the cache in the database. The
bases are dead for ten minutes, in which every sensor looks twenty times (`health_ttl` and `poke_interval` are
30 s, not 300).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from celery_deployment import CeleryDeployment
from deployment import wait_until
from sensors import defer, deferred, fired
from worlds import new_home

from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.triggers.health import HealthTrigger

HERE = Path(__file__).parent
SENSORS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
CONNECTIONS, BLACK_HOLES = 10, 20
TTL = 30
DEAD = 600
LONG = 900  # seconds that anything may take
DAG_ID = "sensors"
PROBE = '''
import asyncio, json, os, threading, time
from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

WAYS = {  # what is waited for, each again and again
    "loop": lambda: asyncio.sleep(0),
    "thread": lambda: asyncio.to_thread(int),
    "thread of asgiref": lambda: sync_to_async(int, thread_sensitive=False)(),
    "sensitive thread": lambda: sync_to_async(int)(),
}

class Probe(BaseTrigger):
    """Measures how late the triggerer is. What is still waited for counts, too: a thread of its own looks."""

    def serialize(self):
        return "loop_probe.Probe", {}

    async def run(self):
        begun, longest = {}, dict.fromkeys(WAYS, 0.0)

        async def measure(name):
            while True:
                begun[name] = time.monotonic()
                await WAYS[name]()
                longest[name] = max(longest[name], time.monotonic() - begun[name])
                begun[name] = time.monotonic() + 0.05
                await asyncio.sleep(0.05)

        def write():
            while True:
                time.sleep(0.02)
                for name, at in list(begun.items()):
                    longest[name] = max(longest[name], time.monotonic() - at)
                with open("probe.new", "w") as file:
                    json.dump(longest, file)
                os.replace("probe.new", "probe.json")
                if os.path.exists("probe.reset"):
                    longest.update(dict.fromkeys(WAYS, 0.0))
                    os.unlink("probe.reset")

        threading.Thread(target=write, daemon=True).start()
        await asyncio.gather(*map(measure, WAYS))
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

    def lateness(self) -> dict[str, float]:
        """Give the longest times since the last call for which the loop, and work for a thread, waited."""
        file = self.home / "probe.json"
        wait_until(file.exists, "the probe measures", LONG)
        longest: dict[str, float] = json.loads(file.read_text())
        (self.home / "probe.reset").touch()
        wait_until(lambda: not (self.home / "probe.reset").exists(), "the probe begins anew", LONG)
        return longest

    def connecting(self, simulator: Simulator) -> int:
        """Count the connections to a simulator that nobody accepts or refuses."""
        ports = {port_of(base) for base in simulator.base_urls}
        connections = [each for process in self.processes() for each in connections_of(process)]
        return sum(each.status == psutil.CONN_SYN_SENT and each.raddr.port in ports for each in connections)

    def stopped_within(self) -> tuple[float, float]:
        """Stop the triggerer; gives the seconds until the process of the triggers ends, and until all end."""
        there = self.processes()
        (main,) = (each for each in there if "triggerer" in each.cmdline() and each.parent() not in there)
        runners = [each for each in main.children() if "serve-logs" not in each.name()]
        begun = time.monotonic()
        main.terminate()
        psutil.wait_procs(runners, LONG)
        ran = time.monotonic() - begun
        psutil.wait_procs([main], LONG)
        return ran, time.monotonic() - begun


def connections_of(process: psutil.Process) -> list[Any]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.net_connections("tcp"))
    return []


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def shown(longest: dict[str, float]) -> str:
    return "; ".join(f"{name} {seconds:.2f} s" for name, seconds in longest.items())


def fields_of(simulator: Simulator, number: int, health_ttl: float = TTL) -> dict[str, Any]:
    """Give a connection with a cache of its own."""
    allowed = ["127.0.0.1", f"number-{number}"]
    extra = {"cache": "variable", "health_ttl": health_ttl, "allowed_hosts": allowed}
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
    yield "the triggerer takes them over", f"{took:.0f} s"
    yield "meanwhile wait at most", shown(airflow.lateness())
    probes, begun = simulator.count("healthy"), time.monotonic()
    while time.monotonic() - begun < DEAD:
        time.sleep(1)
    probes, seconds = simulator.count("healthy") - probes, time.monotonic() - begun
    longest = airflow.lateness()
    yield f"probes of {2 * CONNECTIONS} bases while they are dead for {seconds:.0f} s", str(probes)
    yield "discovery", str(simulator.count("links"))
    yield "meanwhile wait at most", shown(longest)
    yield "memory more", f"{airflow.memory() - before:.0f} MB"
    simulator.clear_faults()
    begun = time.monotonic()
    wait_until(lambda: deferred(airflow, "waiting") == 1, "all have fired", LONG)  # the probe does not
    fire = time.monotonic() - begun
    assert all(any(base in event for base in simulator.base_urls) for event in fired(airflow, "waiting"))
    yield f"all fire after the bases are back (a check every {TTL} s)", f"{fire:.0f} s"


def black_holes(airflow: Triggerer, simulator: Simulator) -> Iterator[tuple[str, str]]:
    """Let the bases of some connections swallow what comes; each is tried again as soon as it was."""
    fields = [fields_of(simulator, number, health_ttl=1) for number in range(BLACK_HOLES)]
    add_connections(airflow, "hole", fields)
    for index in range(2):
        simulator.swallow_base(index)
    airflow.lateness()
    for number in range(BLACK_HOLES):
        defer(airflow, "waiting", HealthTrigger(f"hole_{number}", "any", 1).serialize(), 1)
    wait_until(lambda: airflow.connecting(simulator), "a connection is swallowed", LONG)
    swallowed, end = [], time.monotonic() + 30
    while time.monotonic() < end:
        swallowed.append(airflow.connecting(simulator))
        time.sleep(0.2)
    longest = airflow.lateness()
    known = airflow.sql("SELECT count(*) FROM variable WHERE key LIKE 'closeai_bases_%%'")
    assert known == [(CONNECTIONS + BLACK_HOLES,)], "not each of them was checked"
    often = sorted(swallowed)[len(swallowed) // 2]
    yield f"{BLACK_HOLES} connections swallow everything for 30 s: under way at once (median)", str(often)
    yield "meanwhile wait at most", shown(longest)
    wait_until(lambda: airflow.connecting(simulator) >= often, "they are under way", LONG)
    ran, took = airflow.stopped_within()
    yield "it stops meanwhile: its triggers; all of it (Airflow's own end)", f"{ran:.1f} s; {took:.1f} s"


def add_connections(airflow: Triggerer, prefix: str, every: list[dict[str, Any]]) -> None:
    file = airflow.home / f"{prefix}.json"
    file.write_text(json.dumps({f"{prefix}_{number}": fields for number, fields in enumerate(every)}))
    airflow.command("connections", "import", str(file))


def main() -> None:
    print(f"| {SENSORS:,} deferred sensors | measured |\n|---|---|", flush=True)
    with new_home("triggerer") as home:
        for name, value in measure(home):
            print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
