"""Two hosts, one platform: random schedules of tasks, retries, kills and a store that fails, in virtual time.

Of creates: tasks that share an alias. Of merges: tasks that each give the same accounts a model of its own.
Of rosters: two that own aliases of their own, applied at the same time, perhaps one of them twice.
``make hosts-table`` prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_names import Process, SharedNames, States
from fault_world import HANG, Killed, World

from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.errors import CloseAIError
from airflow_provider_closeai.local_state import Clock as ClientClock
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.errors import TooManyAccounts
from airflow_provider_closeai.provisioning.requests import CreateRequest, RepriceRequest
from airflow_provider_closeai.roster import Options, apply, read_roster

ALIAS = "team"
SETTLE, MAX_LATE = 15.0, 20.0
_here = threading.local()


class HostPlace(os.PathLike[str]):
    """The temporary directory of the host that this thread is on."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __fspath__(self) -> str:
        place = Path(self._root, f"host-{getattr(_here, 'host', 0)}")
        place.mkdir(exist_ok=True)
        return str(place)


@dataclass
class Outcome:
    """What came of one schedule: accounts that are there, or models that tasks merged and that are lost."""

    live: int
    wanted: int
    untold: bool
    errors: list[BaseException] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_wrong(self) -> bool:
        return self.live != self.wanted or bool(self.lost)


Act = Callable[[CloseAIClient, runner.Try], Any]


def run_schedule(seed: int, *, guarded: bool) -> Outcome:
    """
    Run one schedule of creates, then everything again until nothing fails.

    :param seed: which one.
    :param guarded: with the lock over all hosts and the rule for absence; else with locks of a host, and
        a platform that is taken to execute at once.
    """
    dice = random.Random(seed)
    count = dice.randint(1, 3)
    request = CreateRequest.parse(ALIAS, {"m": 1}, 1, count, settle=SETTLE)

    def create(client: CloseAIClient, this_try: runner.Try) -> Any:
        return runner.create(client, request, this_try)

    with World(bases=2) as world:
        shared = _trouble(dice, world, seed, "create")
        jobs, errors = _jobs(dice, world, shared, [create] * dice.randint(2, 4), guarded=guarded)
        world.clock.run(jobs, seed)
        _calm(world, shared)
        told = len(world.sim.accounts(ALIAS)) <= count or any(isinstance(e, TooManyAccounts) for e in errors)
        last = _one_try(world, shared, Process(0), States(), create, guarded=guarded, number=99)
        try:
            last()
        except TooManyAccounts as error:
            errors.append(error)
        world.close_sessions()
        world.assert_no_key(*errors)
        return Outcome(len(world.sim.accounts(ALIAS)), count, not told, errors)


def run_merges(seed: int, *, guarded: bool) -> Outcome:
    """
    Run one schedule of merges.

    :param seed: which one.
    :param guarded: with the lock over all hosts; else with locks of a host.
    """
    dice = random.Random(seed)
    count = dice.randint(1, 3)

    def merging(model: str) -> Act:
        request = RepriceRequest.parse({model: 1}, alias=ALIAS)
        return lambda client, this_try: runner.reprice(client, request, this_try.names)

    with World(bases=2) as world:
        for _ in range(count):
            world.sim.add_account(ALIAS, [{"model": "m", "pricing_factor": 1}])
        world.clock.advance(SETTLE)
        shared = _trouble(dice, world, seed, "update")
        acts = [merging(f"m-{number}") for number in range(dice.randint(2, 4))]
        jobs, errors = _jobs(dice, world, shared, acts, guarded=guarded)
        ends = world.clock.run(jobs, seed)
        _calm(world, shared)
        merged = {f"m-{at // 2}" for at, (result, _) in enumerate(ends) if result is not None}
        there = [{each["model"] for each in one["model_pricing"]} for one in world.sim.accounts(ALIAS)]
        lost = sorted(merged - set.intersection(*there))
        world.close_sessions()
        world.assert_no_key(*errors)
        return Outcome(len(there), count, False, errors, lost)


def run_rosters(seed: int) -> list[tuple[str, float]]:
    """
    Run one schedule of two rosters, then both again; returns what is there and should not be, or is missing.

    :param seed: which one.
    """
    dice = random.Random(seed)
    options = Options(prune=True, max_delete="100%", settle=SETTLE)
    wanted = {"a": {"number": 3, "count": 2, "price": 1}, "b": {"number": 2, "count": 1, "price": 2}}

    def applying(prefix: str, number: int, count: int, price: int) -> Act:
        accounts = [{"alias": f"{prefix}-{each}", "count": count} for each in range(number)]
        defaults = {"balance": 1, "model_pricing": {"m": price}}
        tree = {"version": 1, "owns": [f"{prefix}-*"], "defaults": defaults, "accounts": accounts}
        return lambda client, this_try: apply(client, read_roster(tree), options, this_try=this_try)

    with World(bases=2) as world:
        for alias in ("a-0", "a-1", "a-old"):
            world.sim.add_account(alias, [{"model": "m", "pricing_factor": 9}])
        world.clock.advance(SETTLE)
        shared = _trouble(dice, world, seed, dice.choice(("create", "update", "delete")))
        acts = [applying(prefix, **how) for prefix, how in wanted.items()]
        jobs, errors = _jobs(dice, world, shared, acts + acts[: dice.randint(0, 1)], guarded=True)
        world.clock.run(jobs, seed)
        _calm(world, shared)
        world.clock.advance(MAX_LATE + SETTLE)
        for act in acts:
            _one_try(world, shared, Process(0), States(), act, guarded=True, number=99)()
        world.close_sessions()
        world.assert_no_key(*errors)
        there = Counter(
            (one["alias"], float(one["model_pricing"][0]["pricing_factor"])) for one in world.sim.accounts()
        )
        for prefix, how in wanted.items():
            for each in range(how["number"]):
                there[f"{prefix}-{each}", float(how["price"])] -= how["count"]
        return [key for key, number in there.items() if number]


def _trouble(dice: random.Random, world: World, seed: int, call: str) -> SharedNames:
    """Choose what goes wrong with the platform, and with the store."""
    tempfile.tempdir = HostPlace(world._directory)  # type: ignore[assignment]
    world.lags = {
        f"base-{number}": dice.choice((0.0, dice.uniform(0, 0.9 * SETTLE), dice.uniform(0, 0.9 * SETTLE)))
        for number in (0, 1)
    }
    for _ in range(dice.randint(0, 3)):
        kind = dice.choice(("late", "late", "cut_after", "cut_before", "rate_limit", "error_after"))
        options: dict[str, Any] = {}
        if kind == "late":
            options = {"seconds": dice.uniform(0, 0.9 * MAX_LATE)}
        elif kind == "rate_limit":
            options = {"retry_after": dice.choice((3, 20, 50))}
        world.sim.fault(call, kind, skip=dice.randint(0, 2), **options)
    shared = SharedNames(world, seed, trouble=dice.choice((0.0, 0.0, 0.05)))
    if dice.random() < 0.2:
        began = world.clock.now + dice.uniform(0, 40)
        shared.down = (began, began + dice.uniform(5, 60))
    return shared


def _calm(world: World, shared: SharedNames) -> None:
    """Let all end that goes wrong, and all come that is late."""
    world.close_sessions()
    world.sim.clear_faults()
    world.clock.advance(MAX_LATE)
    shared.down = (0.0, 0.0)
    shared._trouble = 0.0


def _jobs(
    dice: random.Random, world: World, shared: SharedNames, acts: Sequence[Act], *, guarded: bool
) -> tuple[list[tuple[Callable[[], Any], int | None]], list[BaseException]]:
    """Make tasks: each with a start, maybe a kill of its own or of its host, and a retry on any host."""
    jobs: list[tuple[Callable[[], Any], int | None]] = []
    errors: list[BaseException] = []
    killed_host = dice.choice((None, None, 0, 1))  # with all that runs on it then
    killed_at = world.clock.now + dice.uniform(0, 40)
    for number, act in enumerate(acts):
        states, start = States(), dice.choice((0.0, dice.uniform(0, 3), dice.uniform(0, 30)))
        dead = threading.Event()
        ends = dice.choice(("killed", "orphaned", "lives", "lives"))
        process = Process(dice.randint(0, 1), world=world)
        if ends == "orphaned":
            process.orphaned_at = world.clock.now + start + dice.uniform(0, 3)
        options: dict[str, Any] = {"guarded": guarded, "number": number}
        first = _one_try(world, shared, process, states, act, **options)
        again = _one_try(world, shared, Process(dice.randint(0, 1)), states, act, **options, is_retry=True)

        def begin(
            first: Callable[[], Any] = first,
            start: float = start,
            dead: threading.Event = dead,
            host: int = process.host,
        ) -> Any:
            world.clock.sleep(start)
            if host == killed_host and world.clock.now < killed_at:
                world.clock.die_at(killed_at)
            try:
                return first()
            except CloseAIError as error:
                errors.append(error)
                dead.set()
                raise
            except Killed:
                dead.set()
                raise

        def retry(
            again: Callable[[], Any] = again,
            dead: threading.Event = dead,
            process: Process = process,
            wait: float = dice.uniform(0, 8),
        ) -> Any:
            for _ in range(200):
                if dead.is_set() or world.clock.now >= process.orphaned_at:
                    break
                world.clock.sleep(1)
            else:
                return None
            world.clock.sleep(wait)
            try:
                return again()
            except CloseAIError as error:
                errors.append(error)
                raise

        jobs.append((begin, dice.randint(2, 40) if ends == "killed" else None))
        jobs.append((retry, None))
    return jobs, errors


def _one_try(
    world: World,
    shared: SharedNames,
    process: Process,
    states: States,
    act: Act,
    *,
    guarded: bool,
    number: int,
    is_retry: bool = False,
) -> Callable[[], Any]:
    host, clock = process.host, world.clock
    bases = world.sim.base_urls if host == 0 else world.sim.base_urls[::-1]
    extra = {
        "api_bases": bases,
        "connect_timeout": 5,
        "read_timeout": HANG,
        "max_late": MAX_LATE if guarded else 0.001,
        "lock": "auto" if guarded else "host",
    }
    config = config_from(password=world.sim.key, extra=extra)
    this_try = runner.Try(
        task=f"task-{number}",
        is_retry=is_retry,
        own_journal=lambda alias: states.of(process, heeds=guarded),
        names=shared.of(process),
    )

    def run() -> Any:
        _here.host = host
        own = ClientClock(
            now=lambda: clock.time() + 600 * host,
            monotonic=lambda: clock.monotonic() + 5000 * host,
            sleep=clock.sleep,
            counter=f"host-{host}",
        )
        client = CloseAIClient(config, clock=own)
        world._sessions.append(client.pool._transport._adapter(fresh=False))
        return act(client, this_try)

    return run


def main(number: int) -> None:
    """Print the table."""
    print("| | schedules | wrong | not told |")
    print("|---|---|---|---|")
    for what, run in (("creates", run_schedule), ("merges", run_merges)):
        for name, guarded in (("with the lock and the rule for absence", True), ("without them", False)):
            outcomes = [run(seed, guarded=guarded) for seed in range(number)]
            wrong = [seed for seed, outcome in enumerate(outcomes) if outcome.is_wrong]
            untold = "-" if run is run_merges else sum(outcome.untold for outcome in outcomes)
            print(f"| {what}, {name} | {number} | {len(wrong)} | {untold} |", flush=True)
            if guarded and wrong:
                print("wrong seeds:", wrong, file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
