"""Run the example DAGs through three months of the simulated platform, or through four days of one month and
its turn. Prints what came of it, as JSON.

A process of its own: it brings its Airflow home, its DAG folder and a clock that is moved.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHANGHAI = timezone(timedelta(hours=8))
sys.path.insert(0, str(ROOT / "tests" / "airflow"))

from airflow_cell import AIRFLOW, ON_3, Run, sync  # noqa: E402

from airflow_provider_closeai.client.client import CloseAIClient  # noqa: E402
from airflow_provider_closeai.client.config import config_from  # noqa: E402
from airflow_provider_closeai.local_state import Clock  # noqa: E402
from airflow_provider_closeai.operators import _runs  # noqa: E402
from airflow_provider_closeai.simulator import Simulator  # noqa: E402

DAGS = (
    "closeai_costs_daily",
    "closeai_costs_before_turn",
    "closeai_costs_month_close",
    "closeai_costs_report",
)


def load() -> dict[str, Any]:
    if AIRFLOW >= (3, 2):
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    options: dict[str, Any] = {} if AIRFLOW >= (3, 2) else {"include_examples": False}
    found = {}
    for name in DAGS:
        bag = DagBag(ROOT / "example_dags" / f"{name}.py", **options)
        assert not bag.import_errors, bag.import_errors
        found.update(bag.dags)
        sync(bag.dags[name])
    if not ON_3:
        from airflow.models.dag import DAG

        DAG.bulk_write_to_db(list(found.values()))  # noqa: AIR311  # registers the assets
    if (3, 0) <= AIRFLOW < (3, 2):
        from airflow.sdk.execution_time import supervisor

        # As Airflow does it itself since 3.2: these make a new API server for every task, a second each.
        supervisor.in_process_api_server = functools.lru_cache(1)(supervisor.in_process_api_server)
    return found


class World:
    def __init__(self, sim: Simulator, dags: dict[str, Any]) -> None:
        self.sim = sim
        self.dags = dags
        self.seen: dict[tuple[int, str], Decimal] = {}
        self.states: list[tuple[str, str, str]] = []
        self.alerts: list[list[str]] = []

    def at(self, moment: datetime) -> None:
        self.sim.clock.set(moment)

    def run(self, name: str, logical_date: datetime | None = None) -> Run:
        at = (logical_date or self.sim.clock.now()).astimezone(UTC)
        options = {"logical_date": at} if ON_3 else {"execution_date": at}
        done = Run(self.dags[name].test(**options))
        self.states.append((name, f"{self.sim.clock.now():%m-%d %H:%M}", done.state))
        return done

    def snapshot(self, name: str) -> None:
        done = self.run(name)
        if done.task("snapshot").startswith("success"):
            self.remember([account["id"] for account in self.sim.accounts()])

    def remember(self, account_ids: list[int]) -> None:
        month, truth = f"{self.sim.clock.now():%Y-%m}", self.sim.truth.by_month
        self.seen.update({(number, month): truth[number, month] for number in account_ids})

    def report(self) -> None:
        done = self.run("closeai_costs_report")
        self.alerts.append(done.results("tell")[0] if done.task("tell").startswith("success") else [])

    def delete(self, number: int, ledger: str) -> None:
        from airflow_provider_closeai.operators.sub_accounts import DeleteSubAccountsOperator

        class TaskInstance:
            dag_id, run_id, task_id, map_index = "delete", "run", "delete", -1

        operator = DeleteSubAccountsOperator(task_id="delete", sub_accounts=[number], ledger=ledger)
        [gone] = operator.execute({"ti": TaskInstance()})  # type: ignore[typeddict-item]
        assert gone["id"] == number
        self.remember([number])


def main(costs: str, is_short: bool) -> dict[str, Any]:
    from airflow.utils.db import initdb

    initdb()
    dags = load()
    with Simulator(bases=1, seed=5, start=datetime(2026, 10, 31, 23, 50)) as sim:
        _runs.now = lambda: sim.clock.now().astimezone(UTC)
        Clock.utc_now = lambda self: _runs.now()  # type: ignore[method-assign]
        os.environ["AIRFLOW_CONN_CLOSEAI_DEFAULT"] = json.dumps(sim.connection())
        world = World(sim, dags)
        number = {
            alias: sim.add_account(alias, created_at="2026-03-01T00:00:00+08:00")["id"]
            for alias in ("search.web", "trial", "ads.temp", "ops")
        }
        for alias, rate in (("search.web", "0.06"), ("trial", "0.09"), ("ads.temp", "0.012"), ("ops", "0")):
            sim.set_rate(number[alias], rate)
        first = _first_unpause(world)
        if is_short:
            _months(world, number, costs, datetime(2026, 12, 1), days=(31, 1, 15, 30), reports=(15,))
            return {"first": first, **_found(world, number)}
        _months(world, number, costs, datetime(2027, 2, 1), days=range(32), reports=(10, 20, 25))
        late = world.run("closeai_costs_daily", sim.clock.now() - timedelta(days=40))
        # The daily DAG missed this month's last day, and a run just before the turn would be of it.
        lost = world.run("closeai_costs_before_turn", datetime(2026, 12, 31, 23, 58, tzinfo=SHANGHAI))
        again = world.run("closeai_costs_month_close", datetime(2027, 1, 1, 0, 5, tzinfo=SHANGHAI))
        return {
            "first": first,
            "late": [late.state, late.task("snapshot")],
            "lost": [lost.state, lost.task("snapshot")],
            "again": [again.state, again.task("snapshot"), again.task("close")],
            **_found(world, number),
        }


def _found(world: World, number: dict[str, int]) -> dict[str, Any]:
    truth = world.sim.truth.by_month
    return {
        "states": world.states,
        "alerts": world.alerts,
        "seen": [[*key, str(value)] for key, value in sorted(world.seen.items())],
        "truth": [[*key, str(value)] for key, value in sorted(truth.items())],
        "number": number,
        "assets": assets(),
    }


def _first_unpause(world: World) -> dict[str, list[str]]:
    """Run what Airflow runs when the DAGs are unpaused for the first time, in mid-interval."""
    missed = {
        "closeai_costs_daily": (datetime(2026, 10, 30, 23, 55), ["snapshot"]),
        "closeai_costs_before_turn": (datetime(2026, 9, 30, 23, 58), ["snapshot"]),
        "closeai_costs_month_close": (datetime(2026, 10, 1, 0, 5), ["snapshot", "close"]),
        "closeai_costs_report": (datetime(2026, 10, 31, 23, 50), ["report", "tell"]),
    }
    found = {}
    for name, (due, tasks) in missed.items():
        done = world.run(name, due.replace(tzinfo=SHANGHAI))
        found[name] = [done.state, *(done.task(task).split()[0] for task in tasks)]
    world.states.clear()
    return found


def _months(
    world: World,
    number: dict[str, int],
    costs: str,
    end: datetime,
    *,
    days: Collection[int],
    reports: Collection[int],
) -> None:
    day = datetime(2026, 10, 31)
    sim = world.sim
    while day < end:
        evening = day + timedelta(hours=23, minutes=55)
        if (day.month, day.day) == (11, 5):
            world.at(day + timedelta(hours=9))
            number["search.late"] = sim.add_account("search.late")["id"]
            sim.set_rate(number["search.late"], "0.03")
        if (day.month, day.day) == (11, 12):
            world.at(day + timedelta(hours=6))
            sim.correct_cost(number["trial"], "-5.00000001")
        if (day.month, day.day) == (11, 15):
            world.at(day + timedelta(hours=6))
            config = config_from(password=sim.key, host=sim.discovery_url, extra={})
            client = CloseAIClient(config)
            trial = [item for item in client.iter_sub_accounts() if item.id == number["trial"]]
            client.update(trial, "ads.bids", {"gpt-4": Decimal(1)})
        if (day.month, day.day) == (12, 18):
            world.at(day + timedelta(hours=15, minutes=30))
            world.delete(number["ads.temp"], f"{costs}/ledger")
        world.at(evening)
        missed = [(11, 9), (12, 31)]  # a day in the middle, and a month's last one
        if (day.month, day.day) not in missed and day.day in days:
            world.snapshot("closeai_costs_daily")
            if day.day in reports:
                world.report()
        tomorrow = day + timedelta(days=1)
        if tomorrow.day == 1:
            if (day.month, day.day) not in missed:
                world.at(day + timedelta(hours=23, minutes=58))
                world.snapshot("closeai_costs_before_turn")
            world.at(tomorrow + timedelta(minutes=5))
            if day.month != 10:
                world.snapshot("closeai_costs_month_close")
        day = tomorrow


def assets() -> list[Any]:
    """Give the asset events of the snapshots and reports, as Airflow stored them."""
    import sqlalchemy
    from airflow.utils.session import create_session

    columns: list[Any] = [
        sqlalchemy.column(name) for name in ("source_dag_id", "source_task_id", "extra", "id")
    ]
    events = sqlalchemy.table("asset_event" if ON_3 else "dataset_event", *columns)
    with create_session() as session:
        rows = session.execute(sqlalchemy.select(*columns[:3]).select_from(events).order_by(columns[3]))
        return [
            [dag, task, json.loads(extra) if isinstance(extra, str) else extra] for dag, task, extra in rows
        ]


if __name__ == "__main__":
    tempfile.tempdir = sys.argv[1]
    print("result " + json.dumps(main(sys.argv[1], is_short=sys.argv[2] == "short")))
