"""Speed: sensors, imports, and what one call costs beside plain requests."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_closeai.simulator import Simulator


def speed() -> Iterator[list[str]]:
    yield ["", "measured"]
    yield from sensors()
    yield from imports()
    yield from overhead()


def use_connection(simulator: Simulator, **extra: Any) -> None:
    connection = {**simulator.connection(), "extra": extra}
    os.environ["AIRFLOW_CONN_CLOSEAI_DEFAULT"] = json.dumps(connection)


def sensors(number: int = 1000, seconds: float = 10.0) -> Iterator[list[str]]:
    """Let deferred sensors wait for a base that is down."""
    from airflow_provider_closeai.triggers.health import HealthTrigger

    logging.getLogger("airflow_provider_closeai").setLevel(logging.ERROR)
    with Simulator(bases=2) as simulator:
        use_connection(simulator, health_ttl=2)
        simulator.fault("healthy", "unhealthy", base=0, times=None)

        async def wait_all() -> float:
            waiting = [asyncio.ensure_future(anext(HealthTrigger(require="all", poke_interval=1).run()))
                       for _ in range(number)]  # fmt: skip
            await asyncio.sleep(seconds)
            simulator.clear_faults()
            began = time.monotonic()
            events = await asyncio.gather(*waiting)
            if {event.payload["status"] for event in events} != {"healthy"}:
                raise RuntimeError("a sensor did not end well")
            return time.monotonic() - began

        late = asyncio.run(wait_all())
        probes, links = simulator.count("healthy"), simulator.count("links")
    yield [
        f"{number:,} deferred sensors waiting {seconds:.0f} s for one of two bases, looking every second "
        "(health_ttl 2 s)",
        f"{probes} probes of both, {links} discovery; all fired within {late:.1f} s of its recovery",
    ]


def imports(times: int = 7) -> Iterator[list[str]]:
    code = (
        "import time; from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator,"
        " PokeReturnValue, AirflowFailException, conf; began = time.perf_counter();"
        " import airflow_provider_closeai.operators.sub_accounts, airflow_provider_closeai.sensors.health;"
        " print(time.perf_counter() - began)"
    )
    found = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append(1000 * float(done.stdout.split()[-1]))
    yield [
        f"import of operators and sensor in a DAG file, beyond the SDK (median of {times} interpreters)",
        f"{statistics.median(found):.1f} ms",
    ]


def client(simulator: Simulator, **extra: Any) -> Any:
    from airflow_provider_closeai.client.client import CloseAIClient
    from airflow_provider_closeai.client.config import config_from

    return CloseAIClient(config_from(password=simulator.key, host=simulator.discovery_url, extra=extra))


def overhead(number: int = 400) -> Iterator[list[str]]:
    import requests

    with Simulator(bases=1) as simulator:
        ours = client(simulator)
        session = requests.Session()
        url = f"{simulator.base_urls[0]}/api/v1/account/sub-account/list"
        options: dict[str, Any] = {
            "params": {"page": "1", "page_size": "1"},
            "headers": {"Authorization": f"Bearer {simulator.key}"},
            "timeout": (5, 60),
        }

        def plain() -> None:
            answer = session.get(url, **options)
            answer.raise_for_status()
            answer.json()

        ours.page(1, 1)
        plain()
        took = {"ours": [], "plain": []}  # type: dict[str, list[float]]
        for _ in range(5):  # in turns: the machine's moods hit both
            took["ours"].append(rate(lambda: ours.page(1, 1), number // 5))
            took["plain"].append(rate(plain, number // 5))
    fast, raw = (statistics.median(took[name]) for name in ("ours", "plain"))
    yield [
        "calls per second, one after the other (plain requests on a session: same call, same simulator)",
        f"{fast:.0f} against {raw:.0f}: {1000 / fast - 1000 / raw:.2f} ms more for each call",
    ]


def rate(call: Callable[[], Any], number: int) -> float:
    began = time.monotonic()
    for _ in range(number):
        call()
    return number / (time.monotonic() - began)
