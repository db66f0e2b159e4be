"""Measure: the same provisioning by three means under the same faults, speed, and large ledgers.

--write FILE also writes the tables to a Markdown file (docs/benchmarks.md), between two marks: what people
wrote before and after them stays.
"""

from __future__ import annotations

import argparse
import os
import platform as machine
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_beside import beside
from bench_black_hole import black_hole
from bench_costs import table_of
from bench_roster import roster
from bench_side_by_side import COUNT, SCHEDULE, faults, side_by_side
from bench_speed import speed

ACCOUNTS, SMALL = 100_000, 1_000
PARTS: dict[str, Callable[[], list[list[Any]]]] = {
    "side-by-side": side_by_side,
    "speed": lambda: list(speed()),
    "beside": lambda: list(beside()),
    "roster": lambda: list(roster()),
    "black-hole": lambda: list(black_hole()),
    "costs": lambda: table_of(ACCOUNTS),
    "small-costs": lambda: table_of(SMALL),
}


#: Stands before and after what is measured.
MARK = "<!-- make bench writes what is between these lines -->"


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
    parser.add_argument("--only", choices=PARTS, help="measure only this")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write takes all parts")
    parts = Path(options.write).read_text(encoding="utf-8").split(MARK) if options.write else []
    if options.write and len(parts) != 3:
        parser.error(f"{options.write} has not twice the line {MARK}")
    place = tempfile.mkdtemp(prefix="closeai-bench-")
    os.environ.update(TMPDIR=place, AIRFLOW_HOME=place, AIRFLOW__CORE__LOAD_EXAMPLES="False")
    tempfile.tempdir = place
    tables: dict[str, str] = {}
    try:
        for name, part in PARTS.items():
            if options.only in (None, name):
                tables[name] = table(part())
                print(f"\n{tables[name]}\n", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if options.write:
        parts[1] = f"\n\n{document(tables)}\n"
        Path(options.write).write_text(MARK.join(parts), encoding="utf-8")
    return 0


def document(tables: dict[str, str]) -> str:
    packages = ("apache-airflow", "apache-airflow-providers-http", "requests", "polars", "duckdb")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return DOCUMENT.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip(),
        cores=os.cpu_count(),
        system=f"{machine.system()} {machine.machine()}, Python {machine.python_version()}; {versions}",
        runs=len(SCHEDULE),
        count=COUNT,
        faults=faults(),
        side_by_side=tables["side-by-side"],
        speed=tables["speed"],
        beside=tables["beside"],
        roster=tables["roster"],
        black_hole=tables["black-hole"],
        accounts=ACCOUNTS,
        costs=tables["costs"],
        small=SMALL,
        small_costs=tables["small-costs"],
    )


DOCUMENT = """\
Measured {date} at commit {commit} with `make bench ARGS='--write docs/benchmarks.md'`, {cores} cores
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
- **this package**: `CreateSubAccountsOperator` with `settle=5` (default 30), and `max_late` 8 s in the
  connection (default 60).

All three are in `scripts/bench_dags/closeai_bench.py`. The first two talk to one base: the HTTP
provider knows no discovery.

{side_by_side}

The seconds: the three ways run at the same time and share the cores; most of them are Airflow's own.
This package also waits `max_late` and `settle` seconds before it creates again after a lost post, and
until the listing shows what it made.

## Speed

{speed}

## Single jobs, beside the other way

The simulator is a process of its own, and so is each way of doing each job; CPU seconds and calls are
the client's. *requests and json* is a session that reads each page once and believes it, keeps no note
of what it sends, and does not read back. A listing here is proven whole, and a create exact after any
crash. Most of a task's fixed cost is the import of requests (with urllib3 and charset_normalizer), which
Airflow 3.3 has not loaded when a task's `execute` begins: here it is paid when a task runs, by the HTTP
provider whenever the DAG file is parsed too.

{beside}

## A roster

Processes as above; of each job the best of five times. *Where no lock and no note can be made*: what this
host's locks and notes cost is left out. The two mapped ways are `execute()` of 500 operators, one after the
other in one process: what Airflow itself does for 500 tasks (scheduling, a process and imports for each)
comes on top. `HttpOperator` only posts: it neither looks first nor reads back.

{roster}

## A base that swallows connections

The first of two bases accepts no connection and refuses none; nothing is known of either. Each task is a
process of its own that lists once; a wave of them begins as one. Lost is what all together take longer than
with both bases up; a connect timeout is 5 s. *Plain requests*: each task tries the first, then the second.

{black_hole}

## Large ledgers

{accounts:,} accounts, a snapshot on each of 31 days; each case in a process of its own; every report and
every movement comes to the same total, to the last decimal. *Each movement* is what the report reads
first: files verified by their SHA-256, then every increase of every account, exact, in Python's memory.
polars and DuckDB do that from the same files, without openings, renames, deletions and resets (DuckDB
reads each file twice: once for its SHA-256). *Sums only* leaves the movements inside the library.

{costs}

The same with {small:,} accounts:

{small_costs}
"""


if __name__ == "__main__":
    sys.exit(main())
