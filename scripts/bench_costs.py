"""Time and peak memory of snapshots and reports of large ledgers, beside polars and DuckDB on the same files.

Usage: bench_costs.py [--accounts 100000] [--days 31] [--ledger FOLDER] [--json]

Makes a ledger of one month (CSV, and Parquet where pyarrow is installed), then runs every case in a process
of its own. Each case that computes the month must come to the same total, to the last decimal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_closeai.costs.ledger import SNAPSHOTS, Ledger, run_key
from airflow_provider_closeai.costs.months import Month, month_of

MONTH = Month("2026-10")
TEAMS = 40
PRICING = '[{"model":"gpt-4","pricing_factor":1},{"model":"gpt-3.5-turbo","pricing_factor":1.2}]'


def observations(accounts: int, days: int) -> Iterator[tuple[datetime, list[tuple[Any, ...]]]]:
    """Yield a month of snapshots: at 23:55 of each day, the counters of all accounts."""
    draw = random.Random(1)
    rates = [draw.randrange(0, 5_000_000_000) for _ in range(accounts)]
    counters = [0] * accounts
    for day in range(days):
        at = MONTH.start + timedelta(days=day, hours=23, minutes=55)
        for number in range(accounts):
            if number % 10:  # every tenth account is idle
                counters[number] += rates[number] + draw.randrange(1000)
        yield (
            at,
            [
                (
                    at,
                    MONTH.name,
                    number + 1,
                    f"team-{number % TEAMS:02d}.app-{number}",
                    True,
                    Decimal(100_000_00000000 - counter).scaleb(-8),
                    Decimal(counter).scaleb(-8),
                    PRICING,
                    "2026-01-05T10:00:00.000001+08:00",
                )
                for number, counter in enumerate(counters)
            ],
        )


def generate(folder: Path, accounts: int, days: int, extensions: list[str]) -> None:
    """Write the ledgers, one per format, with the last snapshot of the month before."""
    before = MONTH.end - timedelta(days=31, minutes=5)
    for at, rows in observations(accounts, days):
        if at == MONTH.start + timedelta(hours=23, minutes=55):
            _write(folder, before, [(before, month_of(before).name, *row[2:]) for row in rows], extensions)
        _write(folder, at, rows, extensions)


def _write(folder: Path, at: datetime, rows: list[tuple[Any, ...]], extensions: list[str]) -> None:
    for extension in extensions:
        ledger = Ledger(folder / extension)
        ledger.write(SNAPSHOTS, month_of(at).name, at, run_key(at), rows, extension=extension)


def _report(folder: Path, extension: str, formats: list[str]) -> Decimal:
    from airflow_provider_closeai.costs.owners import budgets_of, owners_of
    from airflow_provider_closeai.costs.publish import publish
    from airflow_provider_closeai.costs.report import build_report

    owners = owners_of({f"team-{number:02d}.*": f"Team {number:02d}" for number in range(TEAMS)})
    budgets = budgets_of({f"Team {number:02d}": 1_000_000 for number in range(TEAMS)}, "CNY")
    ledger = Ledger(folder / extension)
    report = build_report(ledger, MONTH, currency="CNY", owners=owners, budgets=budgets)
    if formats:
        publish(report, ledger, folder / "out", formats, account="bench")
    return report.totals.month_to_date


def _polars(folder: Path, extension: str) -> Decimal:
    import polars as pl

    pattern = folder / extension / SNAPSHOTS / f"billing_month={MONTH.name}" / f"*.{extension}"
    scan = pl.scan_csv(pattern, infer_schema=False) if extension == "csv" else pl.scan_parquet(pattern)
    rows = scan.select(
        pl.col("sub_account_id").cast(pl.Int64),
        "alias",
        pl.col("observed_at").str.to_datetime(time_zone="UTC")
        if extension == "csv"
        else pl.col("observed_at"),
        pl.col("monthly_cost").cast(pl.Decimal(38, 8)),
    ).sort("sub_account_id", "observed_at")
    moved = rows.with_columns(
        increase=pl.col("monthly_cost")
        - pl.col("monthly_cost").shift(1, fill_value=Decimal(0)).over("sub_account_id"),
        team=pl.col("alias").str.slice(0, 7),
        day=pl.col("observed_at").dt.convert_time_zone("Asia/Shanghai").dt.date(),
    )
    # Everything is collected: the report needs each account's days as well.
    days = moved.collect()
    by_day = days.group_by("team", "day").agg(pl.col("increase").sum())
    return Decimal(by_day["increase"].sum())


def _duckdb(folder: Path, extension: str) -> Decimal:
    import duckdb

    pattern = folder / extension / SNAPSHOTS / f"billing_month={MONTH.name}" / f"*.{extension}"
    read = f"read_csv('{pattern}', all_varchar=true)" if extension == "csv" else f"read_parquet('{pattern}')"
    # The path is ours.
    query = f"""
        create table days as select sub_account_id::bigint as id, alias[1:7] as team,
            (observed_at::timestamptz at time zone 'Asia/Shanghai')::date as day,
            monthly_cost::decimal(38, 8) as cost,
            monthly_cost::decimal(38, 8) - coalesce(lag(monthly_cost::decimal(38, 8)) over
                (partition by sub_account_id order by observed_at), 0) as increase
        from {read}"""  # noqa: S608
    connection = duckdb.connect()
    connection.execute(query)
    by_day = connection.execute("select team, day, sum(increase) from days group by all").fetchall()
    return sum((Decimal(amount) for _, _, amount in by_day), Decimal(0))


def _snapshot(folder: Path, extension: str) -> Decimal:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import config_from
    from airflow_provider_closeai.costs.snapshot import take_snapshot

    origin, key = (folder / "simulator").read_text().split()
    config = config_from(
        password=key, host=origin, schema=None, port=None, extra={"cache": "file", "page_size": 1000}
    )
    ledger = Ledger(folder / f"snapshot-{extension}")
    return take_snapshot(CloseAIClient(config), ledger, run=run_key("bench"), extension=extension).total


def _simulator(folder: Path, accounts: int) -> None:
    from airflow_provider_closeai.simulator import Simulator

    with Simulator(bases=1, seed=1) as simulator:
        for number in range(accounts):
            simulator.add_account(f"team-{number % TEAMS:02d}.app-{number}", monthly_cost="1.00000001")
        (folder / "simulator").write_text(f"{simulator.discovery_url} {simulator.key}")
        print("ready", flush=True)
        sys.stdin.read()


def cases(extensions: list[str]) -> dict[str, Callable[[Path], Decimal]]:
    """Name what is measured."""
    found: dict[str, Callable[[Path], Decimal]] = {}
    for extension in extensions:
        found[f"snapshot {extension}"] = lambda folder, extension=extension: _snapshot(folder, extension)
    for extension in extensions:
        found[f"report figures {extension}"] = lambda folder, extension=extension: _report(
            folder, extension, []
        )
        found[f"report html+csv+json {extension}"] = lambda folder, extension=extension: _report(
            folder, extension, ["html", "csv", "json"]
        )
        if importlib.util.find_spec("polars"):
            found[f"polars {extension}"] = lambda folder, extension=extension: _polars(folder, extension)
        if importlib.util.find_spec("duckdb"):
            found[f"duckdb {extension}"] = lambda folder, extension=extension: _duckdb(folder, extension)
    return found


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--ledger", str(folder), "--case", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--ledger", type=Path, help="keep the ledgers here, and use those that are there")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--simulator", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    extensions = ["csv", "parquet"] if importlib.util.find_spec("pyarrow") else ["csv"]
    if asked.simulator:
        _simulator(asked.ledger, asked.accounts)
        return 0
    if asked.case:
        start, cpu = time.perf_counter(), time.process_time()
        total = cases(extensions)[asked.case](asked.ledger)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "peak_mb": round(peak)}
        print(json.dumps({**figures, "total": format(total, "f")}))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        return _all(asked.ledger or Path(temporary), asked.accounts, asked.days, extensions, asked.json)


def _all(folder: Path, accounts: int, days: int, extensions: list[str], as_json: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / extension).exists() for extension in extensions):
        generate(folder, accounts, days, extensions)
    command = [sys.executable, __file__, "--ledger", str(folder), "--simulator", "--accounts", str(accounts)]
    figures: dict[str, dict[str, Any]] = {}
    line = "{:<28} {seconds:>7.2f} s {cpu_seconds:>7.2f} s CPU {peak_mb:>6} MB   total {total}"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdin is not None  # noqa: S101
        assert simulator.stdout is not None  # noqa: S101
        simulator.stdout.readline()
        for name in cases(extensions):
            figures[name] = measure(folder, name)
            if not as_json:
                print(line.format(name, **figures[name]), flush=True)
        simulator.stdin.close()
    if as_json:
        print(json.dumps(figures, indent=1))
    totals = {figure["total"] for name, figure in figures.items() if not name.startswith("snapshot")}
    if len(totals) != 1:
        print(f"the totals differ: {sorted(totals)}", file=sys.stderr)
        return 1
    if not as_json:
        print(f"{accounts} accounts, {days} days, at {datetime.now(UTC):%Y-%m-%d}: all totals are equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
