"""What single jobs cost the client, beside the other way of doing each: CPU time, calls, memory.

The simulator runs in a process of its own, and so does each way. One row alone, smaller:
``python scripts/bench_beside.py listing --accounts 2000``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from bench_work import PRICES, Address, Bench, Plain, connected_client, new_client

ACCOUNTS = 100_000
MANY = 500
PLAIN = "requests and json"


def list_ours(address: Address) -> Callable[[], Any]:
    client = connected_client(address)
    return lambda: sum(1 for _ in client.iter_sub_accounts())


def list_plain(address: Address) -> Callable[[], Any]:
    plain = Plain(address)
    return lambda: sum(1 for _ in plain.accounts())


def alias_ours(address: Address) -> Callable[[], Any]:
    client = connected_client(address)
    return lambda: sum(1 for _ in client.iter_sub_accounts(alias="big"))


def alias_plain(address: Address) -> Callable[[], Any]:
    plain = Plain(address)
    return lambda: sum(account["alias"] == "big" for account in plain.accounts(alias="big"))


class Reprice:
    """Change the prices of some accounts, the last of all, that are given in one form or another."""

    def __init__(self, ids: list[int], form: str) -> None:
        self._ids, self._form = ids, form

    def __call__(self, address: Address) -> Callable[[], Any]:
        if self._form == "plain":
            plain = Plain(address)
            return lambda: plain.reprice(set(self._ids))
        from airflow_provider_closeai.provisioning import RepriceRequest, runner

        client = connected_client(address)
        given = [
            {"id": each, "alias": f"team-{each}"} if self._form == "record" else each for each in self._ids
        ]
        factor = Decimal(3 if self._form == "record" else 4)
        request = RepriceRequest.parse({"gpt-4": factor}, given, mode="replace")
        return lambda: runner.reprice(client, request)


class Ensure:
    """Make it so that aliases have one account each: in one task, or in a task for each alias."""

    def __init__(self, aliases: list[str], how: str) -> None:
        self._aliases, self._how = aliases, how

    def __call__(self, address: Address) -> Callable[[], Any]:
        if self._how == "plain":
            plain = Plain(address)
            return lambda: plain.ensure(self._aliases)
        from airflow_provider_closeai.provisioning import CreateRequest, runner

        client = connected_client(address)
        requests = [CreateRequest.parse(alias, PRICES, 10) for alias in self._aliases]
        if self._how == "one task":
            return lambda: runner.create_all(client, requests)
        return lambda: [runner.create(new_client(address), request) for request in requests]


LOOKS = 300


def look_ours(address: Address) -> Callable[[], Any]:
    connection = {"conn_type": "closeai", "password": address.key, "host": address.discovery}
    os.environ["AIRFLOW_CONN_CLOSEAI_DEFAULT"] = json.dumps(connection)
    from airflow_provider_closeai.triggers.health import HealthTrigger

    async def looks(number: int) -> None:
        for _ in range(number):
            await anext(HealthTrigger().run())

    asyncio.run(looks(2))
    return lambda: asyncio.run(looks(LOOKS))


def look_plain(address: Address) -> Callable[[], Any]:
    import requests

    session = requests.Session()

    def looks(number: int) -> None:
        for _ in range(number):
            answer = session.get(f"{address.base}/api/v1/healthy", timeout=(5, 60))
            answer.raise_for_status()
            if answer.content != b"healthy":
                raise RuntimeError(answer.text)

    looks(1)
    return lambda: looks(LOOKS)


EXECUTE = """
import airflow.sdk.execution_time.supervisor, airflow.sdk.execution_time.task_runner  # the fork has both
import logging, os, time
from airflow.providers.common.compat.sdk import BaseOperator
logging.disable(logging.CRITICAL)
began = time.process_time()
{imports}
imported = time.process_time()
task = {task}
made = time.process_time()
task.execute({{}})
first = time.process_time()
task.execute({{}})
print()
print(imported - began, first - made, time.process_time() - first)
"""
OURS = (
    "from airflow_provider_closeai.operators.sub_accounts import ListSubAccountsOperator",
    "ListSubAccountsOperator(task_id='list', alias='team-1')",
)
HTTP = (
    "from airflow.providers.http.operators.http import HttpOperator",
    "HttpOperator(task_id='list', http_conn_id='bench', method='GET', log_response=False,"
    " endpoint='/api/v1/account/sub-account/list?alias=team-1',"
    " response_filter=lambda answer: len(answer.json()))",
)


def execute(address: Address, imports: str, task: str, times: int = 5) -> str:
    """Say what the operator's import and its first and second ``execute`` cost in a fresh process."""
    header = {"Authorization": f"Bearer {address.key}"}
    connections = {
        "CLOSEAI_DEFAULT": {"conn_type": "closeai", "password": address.key, "host": address.discovery},
        "BENCH": {"conn_type": "http", "host": address.base, "extra": header},
    }
    environment = {f"AIRFLOW_CONN_{name}": json.dumps(fields) for name, fields in connections.items()}
    code = EXECUTE.format(imports=imports, task=task)
    seen = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, env={**os.environ, **environment},
        )  # fmt: skip
        seen.append([1000 * float(line) for line in done.stdout.split()[-3:]])
    imported, first, second = (statistics.median(column) for column in zip(*seen, strict=True))
    return f"{imported:.0f} + {first:.0f} ms CPU, the second {second:.1f}"


# --- The rows ------------------------------------------------------------------------------------------


def unique(number: int) -> list[tuple[str, int]]:
    """Name the alias of each account as its id says."""
    return [(f"team-{index + 1}", 1) for index in range(number)]


def listing(accounts: int) -> Iterator[list[str]]:
    with Bench(unique(accounts)) as bench:
        ours, plain = bench.cost(list_ours), bench.cost(list_plain)
    yield [f"list {accounts:,} accounts, 500 on a page", str(ours), f"{PLAIN}: {plain}"]


def changed(accounts: int) -> Iterator[list[str]]:
    one, ten = [accounts - 1], [accounts - 10 * index for index in range(1, 11)]
    with Bench(unique(accounts)) as bench:
        for ids, what in ((one, "one account"), (ten, "ten accounts of ten aliases")):
            plain = bench.cost(Reprice(ids, "plain"))
            for form in ("id", "record"):
                ours = bench.cost(Reprice(ids, form))
                yield [
                    f"reprice {what} among {accounts:,}, by {form}",
                    str(ours),
                    f"{PLAIN}, by id, not read back: {plain}",
                ]


def aliases(accounts: int) -> Iterator[list[str]]:
    with Bench([*unique(accounts), ("big", 501)]) as bench:
        ours, plain = bench.cost(alias_ours), bench.cost(alias_plain)
    yield [
        f"list an alias of 501 accounts among {accounts:,}",
        str(ours),
        f"{PLAIN}, if the platform's filter is right: {plain}",
    ]


def creates(accounts: int) -> Iterator[list[str]]:
    names = {
        "plain aliases": "group-{}",
        "Chinese aliases": "每日报告 {}",
        "aliases such as R&D (1)": "R&D ({})",
    }
    among = f"among {accounts:,}"
    with Bench([*unique(accounts), ("每日报告", 1), ("R&D (0)", 1)]) as bench:
        for what, name in names.items():
            ours = bench.cost(Ensure([name.format(index) for index in range(1, 21)], "a task each"))
            plain = bench.cost(Ensure([name.format(index) for index in range(101, 121)], "plain"))
            yield [
                f"create under 20 {what} {among}, a client for each",
                f"{ours.per(20)} each",
                f"{PLAIN}, look and create: {plain.per(20)} each",
            ]
        ours = bench.cost(Ensure([f"new-{index}" for index in range(MANY)], "one task"))
        plain = bench.cost(Ensure([f"other-{index}" for index in range(MANY)], "plain"))
        yield [
            f"create under {MANY} aliases {among}, in one task",
            f"{ours.per(MANY)} each",
            f"{PLAIN}, look and create: {plain.per(MANY)} each",
        ]


def sensor(accounts: int) -> Iterator[list[str]]:
    with Bench(unique(1)) as bench:
        ours, plain = bench.cost(look_ours), bench.cost(look_plain)
    yield [
        "a deferred sensor's look, health known",
        f"{ours.per(LOOKS)}",
        f"requests, asking the base: {plain.per(LOOKS)}",
    ]


def fixed(accounts: int) -> Iterator[list[str]]:
    with Bench(unique(10)) as bench:
        execute(bench.address, *OURS, times=1)  # discovery is known to this host then
        ours, http = execute(bench.address, *OURS), execute(bench.address, *HTTP)
    yield [
        "a listing task in a fresh process: import of the operator + first `execute`",
        ours,
        f"HttpOperator: {http}",
    ]


ROWS: dict[str, Callable[[int], Iterator[list[str]]]] = {
    "listing": listing,
    "changed": changed,
    "aliases": aliases,
    "creates": lambda accounts: creates(min(accounts, 10_000)),
    "sensor": sensor,
    "fixed": fixed,
}


def beside(accounts: int = ACCOUNTS, only: str | None = None) -> Iterator[list[str]]:
    """Yield a row for each job."""
    yield ["", "this package", "the other way"]
    for name, rows in ROWS.items():
        if only in (None, name):
            yield from rows(accounts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="closeai-bench-") as place:
        os.environ.update(TMPDIR=place, AIRFLOW_HOME=place, AIRFLOW__CORE__LOAD_EXAMPLES="False")
        tempfile.tempdir = place
        for line in beside(options.accounts, options.row):
            print(*line, sep=" | ", flush=True)
