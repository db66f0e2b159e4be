"""What a base that swallows connections costs: many tasks at once, the first of two bases silent."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from airflow_provider_closeai.simulator import Simulator

TASKS = 200
_CONNECT_TIMEOUT = 5.0  # the connection's default

_barrier: Any = None


def black_hole() -> Iterator[list[str]]:
    """Yield a row for each number of tasks at once."""
    yield [
        "200 tasks, each a listing; the first of two bases swallows connections",
        "this package",
        "plain requests",
    ]
    for at_once in (16, 32):
        ours, plain = (lost(way, at_once) for way in (_with_this_package, _with_requests))
        yield [f"{at_once} at once: seconds lost by all of them together", f"{ours:.1f}", f"{plain:.1f}"]


def lost(way: Callable[[str, str, list[str]], None], at_once: int) -> float:
    """Return the seconds that all tasks together take longer than with both bases up."""
    took = {}
    for is_down in (False, True):
        place = tempfile.mkdtemp()  # a cache that knows nothing
        with Simulator(bases=2) as simulator:
            if is_down:
                simulator.swallow_base(0)
            took[is_down] = _run(way, at_once, place, simulator)
    usual = statistics.median(took[False])
    # What takes no longer than the slowest task of the quiet run is the machine's mood.
    return sum(seconds - usual for seconds in took[True] if seconds > max(took[False]))


def _run(way: Callable[..., None], at_once: int, place: str, simulator: Simulator) -> list[float]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(at_once)
    arguments = (simulator.key, simulator.discovery_url, simulator.base_urls)
    with ProcessPoolExecutor(
        at_once, mp_context=context, initializer=_begin, initargs=(barrier, place)
    ) as pool:
        waves, rest = divmod(TASKS, at_once)
        runs = [
            pool.submit(_task, way, arguments, wave < waves) for wave in range(waves) for _ in range(at_once)
        ]
        runs += [pool.submit(_task, way, arguments, False) for _ in range(rest)]
        return [run.result(timeout=600) for run in runs]


def _begin(barrier: Any, place: str) -> None:
    global _barrier
    _barrier = barrier
    os.environ["TMPDIR"] = tempfile.tempdir = place
    import airflow_provider_closeai.client.client  # noqa: F401  # not part of a task's time


def _task(way: Callable[..., None], arguments: tuple[Any, ...], together: bool) -> float:
    if together:
        _barrier.wait(600)  # a wave begins as one
    began = time.monotonic()
    way(*arguments)
    return time.monotonic() - began


def _with_this_package(key: str, discovery: str, bases: list[str]) -> None:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import config_from

    list(CloseAIClient(config_from(password=key, host=discovery)).iter_sub_accounts())


def _with_requests(key: str, discovery: str, bases: list[str]) -> None:
    """Try each base in turn, as a careful author would."""
    import requests

    for base in bases:
        try:
            answer = requests.get(
                f"{base}/api/v1/account/sub-account/list",
                headers={"Authorization": f"Bearer {key}"},
                timeout=(_CONNECT_TIMEOUT, 60),
            )
        except requests.ConnectionError:
            continue
        answer.raise_for_status()
        return
    raise RuntimeError("no base serves")


if __name__ == "__main__":
    for line in black_hole():
        print(*line, sep=" | ", flush=True)
