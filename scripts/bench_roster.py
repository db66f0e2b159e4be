"""What a roster costs in CPU time and calls: applying 500 aliases among 10,000 accounts, planning 5,000.

Smaller: ``python scripts/bench_roster.py --aliases 50``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from bench_work import PRICES, Address, Bench, Cost, Plain, Way, connected_client

ALIASES, ACCOUNTS, ENTRIES = 500, 10_000, 5_000
#: Whatever the machine is busy with, each way gets its best of so many.
TIMES = 5


def tree(aliases: list[str]) -> dict[str, Any]:
    """Make a roster of aliases."""
    defaults = {"balance": 10, "model_pricing": {"gpt-4": 1}}
    accounts = [{"alias": alias} for alias in aliases]
    return {"version": 1, "owns": ["new-*"], "defaults": defaults, "accounts": accounts}


class Apply:
    """Make it so that aliases have an account each, in one of several ways."""

    def __init__(self, aliases: list[str], how: str) -> None:
        self._aliases, self._how = aliases, how

    def __call__(self, address: Address) -> Callable[[], Any]:
        ways: dict[str, Way] = {
            "kept": lambda address: self._least(address, is_fresh=False),
            "least": lambda address: self._least(address, is_fresh=True),
            "roster": self._roster,
            "apart": self._without_locks,
            "creates": self._creates,
            "http": self._http,
        }
        return ways[self._how](address)

    def _roster(self, address: Address) -> Callable[[], Any]:
        from airflow_provider_closeai.roster import Options, apply, read_roster

        client, roster = connected_client(address), tree(self._aliases)
        return lambda: apply(client, read_roster(roster), Options())

    def _without_locks(self, address: Address) -> Callable[[], Any]:
        job = self._roster(address)
        nowhere = tempfile.mkstemp()[1]  # not a folder: no lock and no note can be made there
        os.environ["TMPDIR"] = tempfile.tempdir = nowhere
        return job

    def _least(self, address: Address, *, is_fresh: bool) -> Callable[[], Any]:
        plain = Plain(address)

        def least() -> None:
            there = {account["alias"] for account in plain.accounts()}
            for alias in self._aliases:
                if alias not in there:
                    plain.create(alias, is_fresh=is_fresh)
            listed = {account["alias"] for account in plain.accounts()}
            if not listed.issuperset(self._aliases):
                raise RuntimeError("some are missing")

        return least

    def _creates(self, address: Address) -> Callable[[], Any]:
        _connect(address)
        from airflow_provider_closeai.operators.sub_accounts import CreateSubAccountsOperator

        tasks = [
            CreateSubAccountsOperator(
                task_id=f"create_{number}", alias=alias, model_pricing={"gpt-4": 1}, balance=10
            )
            for number, alias in enumerate(self._aliases)
        ]
        return lambda: [task.execute({}) for task in tasks]

    def _http(self, address: Address) -> Callable[[], Any]:
        _connect(address)
        from airflow.providers.http.operators.http import HttpOperator

        tasks = [
            HttpOperator(
                task_id=f"create_{number}",
                http_conn_id="bench",
                endpoint="/api/v1/account/sub-account/token",
                headers={"Content-Type": "application/json"},
                data=json.dumps({"alias": alias, "model_pricing": PRICES, "balance": 10, "count": 1}),
                log_response=False,
                response_filter=lambda answer: len(answer.json()),
            )
            for number, alias in enumerate(self._aliases)
        ]
        return lambda: [task.execute({}) for task in tasks]


def _connect(address: Address) -> None:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    import airflow.sdk.execution_time.task_runner  # noqa: F401  # as a task's process has it
    from airflow.sdk.bases.operator import ExecutorSafeguard

    ExecutorSafeguard.test_mode = True  # or each `execute` warns

    header = {"Authorization": f"Bearer {address.key}"}
    connections = {
        "CLOSEAI_DEFAULT": {"conn_type": "closeai", "password": address.key, "host": address.discovery},
        "BENCH": {"conn_type": "http", "host": address.base, "extra": header},
    }
    os.environ |= {f"AIRFLOW_CONN_{name}": json.dumps(fields) for name, fields in connections.items()}


class Plan:
    """Plan a file of many entries, all of which are there with other prices."""

    def __init__(self, entries: int) -> None:
        self._entries = entries

    def __call__(self, address: Address) -> Callable[[], Any]:
        from airflow_provider_closeai.roster import Options, make_plan, markdown, read_roster

        client, path = connected_client(address), os.path.join(tempfile.mkdtemp(), "roster.yaml")
        head = 'version: 1\nowns: ["team-*"]\ndefaults: {balance: 10, model_pricing: {gpt-4: 1}}\naccounts:\n'
        body = (
            f"  - alias: team-{number + 1}\n    team: Team {number % 50}\n    budget: 60\n"
            '    model_pricing: {gpt-4: "0.5", gpt-4o-mini: 1}\n'
            for number in range(self._entries)
        )
        with open(path, "w") as file:
            file.write(head + "".join(body))

        def plan() -> None:
            made = make_plan(client, read_roster(path), Options(), keys=None, books=None)
            if len(made.record()["actions"]) != self._entries or not markdown(made):
                raise RuntimeError("the plan is wrong")

        return plan


def best(costs: list[Cost]) -> Cost:
    """Return the cheapest."""
    return min(costs, key=lambda cost: cost.cpu)


def roster(aliases: int = ALIASES, accounts: int = ACCOUNTS, entries: int = ENTRIES) -> Iterator[list[str]]:
    """Yield a row for each job."""
    yield ["", "CPU seconds of the client", "calls", "of the least"]
    ways = {
        "requests and json: a listing, a post for each on a connection of its own, a listing": "least",
        "the same, all on one connection": "kept",
        "this package: one roster": "roster",
        "the same, where no lock and no note can be made": "apart",
        "`CreateSubAccountsOperator`, mapped: `execute()` of each, in one process": "creates",
        "`HttpOperator`, mapped, the post alone: `execute()` of each, in one process": "http",
    }
    costs: dict[str, list[Cost]] = {how: [] for how in ways.values()}
    there = [(f"team-{number + 1}", 1) for number in range(accounts)]
    names = [f"new-{number}" for number in range(aliases)]
    for how in list(ways.values()) * TIMES:
        with Bench(there) as bench:  # one for each: what one way made the next would have to list
            costs[how].append(bench.cost(Apply(names, how)))
    least = best(costs["least"])
    for what, how in ways.items():
        cost = best(costs[how])
        of_least = f"{cost.cpu / least.cpu:.2f} x CPU, {cost.calls / least.calls:.2f} x calls"
        yield [
            f"{aliases} aliases among {accounts:,} accounts. {what}",
            f"{cost.cpu:.2f}",
            str(cost.calls),
            of_least,
        ]
    with Bench([(f"team-{number + 1}", 1) for number in range(entries)]) as bench:
        cost = best([bench.cost(Plan(entries)) for _ in range(TIMES)])
    yield [
        f"plan a YAML file of {entries:,} entries, each with a change",
        f"{cost.cpu:.2f}",
        str(cost.calls),
        "",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aliases", type=int, default=ALIASES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="closeai-bench-") as place:
        os.environ.update(TMPDIR=place, AIRFLOW_HOME=place, AIRFLOW__CORE__LOAD_EXAMPLES="False")
        tempfile.tempdir = place
        for line in roster(options.aliases):
            print(*line, sep=" | ", flush=True)
