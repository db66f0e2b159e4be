"""Time and peak memory of snapshots and reports of large ledgers, beside polars and DuckDB on the same files.

Makes a ledger of one month, in CSV and in Parquet, then runs every case in a process of its own. Each case
that computes the month must come to the same total, to the last decimal. Run by bench.py.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_provider_closeai.costs import Ledger, run_key
from airflow_provider_closeai.costs.accounting.months import Month, month_of
from airflow_provider_closeai.costs.accounting.observations import Observation
from airflow_provider_closeai.costs.store.kinds import SNAPSHOTS

MONTH = Month("2026-10")
TEAMS = 40
COLUMNS = ["sub_account_id", "alias", "monthly_cost"]
PRICING = '[{"model":"gpt-4","pricing_factor":1},{"model":"gpt-3.5-turbo","pricing_factor":1.2}]'


def observations(accounts: int, days: int) -> Iterator[tuple[datetime, list[Observation]]]:
    """Yield a month of snapshots: the last of the month before, then at 23:55 of each day."""
    draw = random.Random(1)
    # A tenth is idle.
    rates = [draw.randrange(5_000_000_000) if number % 10 else 0 for number in range(accounts)]
    counters = [rate * days for rate in rates]
    balances = [100_000_00000000] * accounts
    for day in range(-1, days):
        if day == 0:
            counters = [0] * accounts
        if day >= 0:
            for number, rate in enumerate(rates):
                spent = rate + draw.randrange(1000) if rate else 0
                counters[number] += spent
                balances[number] -= spent
        yield (
            MONTH.start + timedelta(days=day, hours=23, minutes=55),
            [
                Observation(
                    number + 1,
                    f"team-{number % TEAMS:02d}.app-{number}",
                    Decimal(counter).scaleb(-8),
                    "2026-01-05T10:00:00.000001+08:00",
                    True,
                    Decimal(balance).scaleb(-8),
                    PRICING,
                )
                for number, (counter, balance) in enumerate(zip(counters, balances, strict=True))
            ],
        )


def generate(folder: Path, accounts: int, days: int, extensions: list[str]) -> None:
    """Write the ledgers, one per format."""
    for at, rows in observations(accounts, days):
        for extension in extensions:
            ledger = Ledger(folder / extension)
            ledger.write(SNAPSHOTS, month_of(at).name, at, run_key(at), rows, extension=extension)


def _report(folder: Path, extension: str, formats: list[str]) -> Decimal:
    from airflow_provider_closeai.costs import CloseRequest, ReportRequest, compute, report

    month: dict[str, Any] = {
        "ledger": folder / extension,
        "month": MONTH.name,
        "currency": "CNY",
        "owners": {f"team-{number:02d}.*": f"Team {number:02d}" for number in range(TEAMS)},
        "budgets": {f"Team {number:02d}": 1_000_000 for number in range(TEAMS)},
    }
    if not formats:
        return compute(CloseRequest.parse(**month)).totals.month_to_date
    request = ReportRequest.parse(output=folder / "out", formats=formats, thresholds=(), **month)
    return report(request).report.totals.month_to_date


def _history(folder: Path, extension: str) -> Decimal:
    from airflow_provider_closeai.costs.accounting.aggregate import aggregate
    from airflow_provider_closeai.costs.accounting.money import total
    from airflow_provider_closeai.costs.store.observations import read_month

    history = aggregate(read_month(Ledger(folder / extension), MONTH))
    return total(account.cost for account in history.accounts.values())


def _verified(folder: Path, extension: str) -> list[bytes]:
    """Read a month's files and hold each against the digest in its name, as the ledger does."""
    ledger = Ledger(folder / extension)
    files = {file.name: file.digest for file in ledger.files(SNAPSHOTS, MONTH.name)}
    found = [(ledger.root / name).read_bytes() for name in files]
    assert [hashlib.sha256(data).hexdigest()[:16] for data in found] == list(files.values())  # noqa: S101
    return found


def _polars(folder: Path, extension: str, *, movements: bool) -> Decimal:
    import polars as pl

    frames = []
    for number, data in enumerate(_verified(folder, extension)):
        if extension == "csv":
            frame = pl.read_csv(io.BytesIO(data), columns=COLUMNS, infer_schema=False)
        else:
            frame = pl.read_parquet(io.BytesIO(data), columns=COLUMNS)
        frames.append(
            frame.select(
                pl.lit(number, dtype=pl.Int32).alias("number"),
                pl.col("sub_account_id").cast(pl.Int64),
                "alias",
                pl.col("monthly_cost").cast(pl.Decimal(38, 8)),
            )
        )
    before = {name: pl.col(name).shift(1).over("sub_account_id") for name in ("number", "monthly_cost")}
    moved = (
        pl.concat(frames)
        .sort("sub_account_id", "number")
        .with_columns(
            since=before["number"],
            increase=pl.col("monthly_cost") - before["monthly_cost"].fill_null(Decimal(0)),
            team=pl.col("alias").str.slice(0, 7),
        )
    )
    if movements:
        moved = moved.filter(pl.col("increase") != 0)
        moved.select("sub_account_id", "since", "number").rows()
        return sum(moved["increase"].to_list(), Decimal(0))
    by_day = moved.group_by("team", "number").agg(pl.col("increase").sum())
    return Decimal(by_day["increase"].sum())


def _duckdb(folder: Path, extension: str, *, movements: bool) -> Decimal:
    import duckdb

    _verified(folder, extension)
    connection = duckdb.connect()
    connection.execute("create table seen (number int, id bigint, alias text, cost decimal(38, 8))")
    for number, file in enumerate(Ledger(folder / extension).files(SNAPSHOTS, MONTH.name)):
        path = folder / extension / file.name
        read = f"read_csv('{path}', all_varchar=true)" if extension == "csv" else f"read_parquet('{path}')"
        # The path is ours.
        connection.execute(
            f"insert into seen select {number}, sub_account_id, alias, monthly_cost from {read}"  # noqa: S608
        )
    connection.execute(
        """create table moved as select id, alias[1:7] as team, lag(number) over w as since, number,
            cost - coalesce(lag(cost) over w, 0) as increase
        from seen window w as (partition by id order by number)"""
    )
    asked = (
        "select id, since, number, increase from moved where increase <> 0 order by id, number"
        if movements
        else "select team, number, sum(increase) from moved group by all"
    )
    return sum((row[-1] for row in connection.execute(asked).fetchall()), Decimal(0))


def _snapshot(folder: Path, extension: str) -> Decimal:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import config_from
    from airflow_provider_closeai.costs import SnapshotRequest, snapshot

    origin, key = (folder / "simulator").read_text().split()
    config = config_from(
        password=key, host=origin, schema=None, port=None, extra={"cache": "file", "page_size": 1000}
    )
    request = SnapshotRequest.parse(ledger=folder / f"snapshot-{extension}", file_format=extension)
    return snapshot(request, lambda: CloseAIClient(config)).total


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
        found[f"snapshot, to {extension}"] = functools.partial(_snapshot, extension=extension)
    for extension in extensions:
        every = functools.partial(_report, extension=extension)
        written = functools.partial(every, formats=["html", "csv", "json"])
        found[f"report with html, csv and json files, from {extension}"] = written
        found[f"report, from {extension}"] = functools.partial(every, formats=[])
        found[f"each movement, from {extension}"] = functools.partial(_history, extension=extension)
        for name, library in (("polars", _polars), ("duckdb", _duckdb)):
            asked = functools.partial(library, extension=extension)
            found[f"{name}: each movement, from {extension}"] = functools.partial(asked, movements=True)
            found[f"{name}: sums only, from {extension}"] = functools.partial(asked, movements=False)
    return found


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--case", name, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table_of(accounts: int, days: int = 31) -> list[list[Any]]:
    """Measure every case on a ledger made for it; see the module."""
    extensions = ["csv", "parquet"]
    rows: list[list[Any]] = [["", "seconds", "CPU seconds", "peak MB"]]
    totals = set()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder, accounts, days, extensions)
        command = [sys.executable, __file__, "--simulator", str(accounts), str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as simulator:
            assert simulator.stdin is not None  # noqa: S101
            assert simulator.stdout is not None  # noqa: S101
            simulator.stdout.readline()
            for name in cases(extensions):
                figures = measure(folder, name)
                rows.append([name, figures["seconds"], figures["cpu_seconds"], figures["peak_mb"]])
                if not name.startswith("snapshot"):
                    totals.add(figures["total"])
            simulator.stdin.close()
    if len(totals) != 1:
        raise RuntimeError(f"the totals differ: {sorted(totals)}")
    return rows


def main() -> None:
    what, asked, folder = sys.argv[1:]
    if what == "--simulator":
        _simulator(Path(folder), int(asked))
        return
    start, cpu = time.perf_counter(), time.process_time()
    total = cases(["csv", "parquet"])[asked](Path(folder))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
    figures = {"seconds": f"{seconds:.1f}", "cpu_seconds": f"{cpu:.1f}", "peak_mb": f"{peak:.0f}"}
    print(json.dumps({**figures, "total": format(total, "f")}))


if __name__ == "__main__":
    main()
