"""What a job costs the client: it and the simulator are processes of their own. And the API by hand."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from airflow_provider_closeai.simulator import Simulator

CALLS = ("list", "create", "update", "delete", "links", "healthy")
PRICES = [{"model": "gpt-4", "pricing_factor": 1}]

#: A way of doing a job: prepares it, and returns what is measured.
Way = Callable[["Address"], Callable[[], Any]]


class Address(NamedTuple):
    """How to reach the simulator."""

    key: str
    discovery: str
    base: str


class Cost(NamedTuple):
    """What one way cost."""

    cpu: float
    megabytes: float
    calls: int

    def per(self, number: int) -> str:
        return f"{1000 * self.cpu / number:.1f} ms CPU, {self.calls / number:.3g} calls"

    def __str__(self) -> str:
        calls = f"{self.calls} call{'s' * (self.calls != 1)}"
        return f"{self.cpu:.2f} s CPU, {calls}, {self.megabytes:.0f} MB more"


def _serve(parent: Connection, aliases: list[tuple[str, int]]) -> None:
    with Simulator(bases=1) as simulator:
        for alias, number in aliases:
            for _ in range(number):
                simulator.add_account(alias)
        parent.send(Address(simulator.key, simulator.discovery_url, simulator.base_urls[0]))
        while parent.recv():
            parent.send(sum(simulator.count(call) for call in CALLS))


def _work(parent: Connection, way: Way, address: Address) -> None:
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp()  # a host that knows nothing yet
    logging.disable(logging.CRITICAL)
    job = way(address)
    parent.send(None)
    parent.recv()
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    job()
    took = time.process_time() - began
    parent.send((took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024))


class Bench:
    """A simulator with accounts, and processes that work on it."""

    def __init__(self, aliases: list[tuple[str, int]]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._server, self._process = self._start(_serve, aliases)
        self.address: Address = self._server.recv()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.send(False)
        self._process.join()

    def _start(self, target: Callable[..., None], *arguments: Any) -> tuple[Connection, Any]:
        here, there = self._context.Pipe()
        process = self._context.Process(target=target, args=(there, *arguments))
        process.start()
        there.close()
        return here, process

    def _count(self) -> int:
        self._server.send(True)
        return int(self._server.recv())

    def cost(self, way: Way) -> Cost:
        """Return what a way costs, in a process of its own."""
        worker, process = self._start(_work, way, self.address)
        worker.recv()
        before = self._count()
        worker.send(None)
        took, megabytes = worker.recv()
        process.join()
        return Cost(took, megabytes, self._count() - before)


def new_client(address: Address) -> Any:
    from airflow_provider_closeai.client import CloseAIClient, config_from

    return CloseAIClient(config_from(password=address.key, host=address.discovery))


def connected_client(address: Address) -> Any:
    client = new_client(address)
    client.page(1, 1)  # discovery is not part of what is measured, nor is the first connection
    return client


class Plain:
    """The API by hand: one session, each answer read as JSON, pages until one is empty."""

    def __init__(self, address: Address) -> None:
        import requests

        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {address.key}"
        self._url = f"{address.base}/api/v1/account/sub-account"
        next(self.accounts(page_size=1))

    def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, self._url + path, timeout=(5, 60), **options)
        answer.raise_for_status()
        return json.loads(answer.content)

    def accounts(self, page_size: int = 500, **query: str) -> Iterator[dict[str, Any]]:
        page, seen, total = 1, 0, 1
        while seen < total:
            answer = self._json("GET", "/list", params={"page": page, "page_size": page_size, **query})
            yield from answer["items"]
            page, seen, total = page + 1, seen + len(answer["items"]), answer["total"]

    def ensure(self, aliases: list[str]) -> None:
        for alias in aliases:
            if not [account for account in self.accounts(alias=alias) if account["alias"] == alias]:
                self.create(alias)

    def create(self, alias: str, *, is_fresh: bool = False) -> None:
        if is_fresh:  # a post on a connection that was used before may be lost without a word
            self._session.close()
        body = {"alias": alias, "model_pricing": PRICES, "balance": 10, "count": 1}
        self._json("POST", "/token", json=body)

    def reprice(self, ids: set[int]) -> None:
        left = set(ids)
        for account in self.accounts():
            if account["id"] in left:
                left.discard(account["id"])
                prices = [{"model": "gpt-4", "pricing_factor": 2}]
                body = {"sks": [account["token"]], "alias": account["alias"], "model_pricing": prices}
                self._json("POST", "/token/info", json=body)
            if not left:
                return
