"""Where a task is killed, and what may be seen on the wire afterwards."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from deployment import HANG, Deployment, Run, wait_until
from platforms import Platform

from airflow_provider_closeai.simulator import Request

ALIAS = "team-search"


@dataclass(frozen=True)
class Crash:
    """
    One way to crash.

    :param name: what happens.
    :param kills: while which requests of the task its process is killed: (call, how many of them before). A
        ``look`` is a list that comes after a create.
    :param wire: the calls of each try, a letter each: L list, C create.
    :param faults: what the platform does with the creates, in their order.
    :param work_at: the platform works on the first create only when this many lists have come.
    :param wire_without_store: where Airflow has no task state store: every retry must wait.
    """

    name: str
    kills: tuple[tuple[str, int], ...]
    wire: str
    faults: tuple[str, ...] = ()
    work_at: int | None = None
    wire_without_store: str = ""
    count: int = 2
    dag_id: str = "e2e_create"
    tries: int = 2


CRASHES = (
    Crash("before the post", (("list", 0),), "L|LCL", wire_without_store="L|LLL+CL"),
    Crash("the post has come and is never worked on", (("create", 0),), "LC|LL+CL", ("cut_before",),
          wire_without_store="LC|LLL+CL"),
    Crash("the post has come and is worked on at once", (("create", 0),), "LC|L"),
    Crash("the post has come and is worked on late", (("create", 0),), "LC|L+", work_at=2),
    Crash("worked on, not answered", (("worked", 0),), "LC|L", ("hang",)),
    Crash("answered, not yet a success", (("look", 0),), "LCL|L"),
    Crash("two tries: a post that is lost, then the look", (("create", 0), ("look", 0)),
          "LC|L|LL+CL", ("cut_before",), tries=3, wire_without_store="LC|L|LLL+CL"),
    Crash("two tries: a post that works, then the look", (("create", 0), ("look", 0)), "LC|L|L", tries=3),
    Crash("the second of three posts has come", (("create", 1),), "LCC|LL+CL", count=5,
          dag_id="e2e_create_in_batches", wire_without_store="LCC|LLL+CL"),
)  # fmt: skip


@dataclass
class Scene:
    """A crash on a platform of its own; with ``base_dies`` the base talked to dies in that moment."""

    crash: Crash
    base_dies: bool
    platform: Platform
    run: Run | None = None
    _seen: dict[str, Iterator[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    killed: list[int] = field(default_factory=list)
    _workers: list[threading.Thread] = field(default_factory=list)

    def begin(self, airflow: Deployment) -> None:
        self._airflow = airflow
        for kind in self.crash.faults:
            options = {"work": True} if kind == "hang" else {}
            self.platform.simulator.fault("create", kind, **options)
        self.platform.script = self._on_request
        self.run = airflow.trigger(
            self.crash.dag_id,
            connection=self.platform.connection,
            alias=ALIAS,
            count=self.crash.count,
        )

    def _on_request(self, request: Request) -> None:
        with self._lock:
            call = "look" if request.call == "list" and "create" in self._seen else request.call
            number = next(self._seen.setdefault(call, itertools.count()))
        if (call, number) in self.crash.kills:
            self._kill()
        if request.call == "create" and number == 0:
            work_at = self.crash.work_at
            if work_at is not None:
                wait_until(lambda: len(self.platform.requests("list")) >= work_at, "the retry looks")
            if ("worked", 0) in self.crash.kills:
                worker = threading.Thread(target=self._kill_when_worked)
                self._workers.append(worker)
                worker.start()

    def _kill_when_worked(self) -> None:
        try:
            wait_until(lambda: self.platform.simulator.accounts(ALIAS), "the post is worked on")
            self._kill()
        except BaseException as problem:
            self.platform.problems.append(problem)

    def _kill(self) -> None:
        process = self._airflow.client_of(self.platform.base_ports)
        process.kill()
        process.wait(HANG)
        self.killed.append(process.pid)
        if self.base_dies:
            self.platform.simulator.stop_base(0)
