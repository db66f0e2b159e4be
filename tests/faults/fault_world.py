"""A platform, its clock and its network, all under control: time is virtual, sockets are real.

Everything that waits (``client.sleep``, deadlines, the settling of a listing, a listing's lag, locks between
tasks) goes by one virtual clock. Concurrent tasks are threads of which one runs at a time: at each request
and each wait a seeded choice says who goes on. So hours take milliseconds, and take the same course again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import random
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec.structs import replace

from airflow_provider_closeai.client import cache, retry
from airflow_provider_closeai.client.answers import Attempt
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import config_from
from airflow_provider_closeai.client.transport import Call, Transport
from airflow_provider_closeai.local_state import Clock as ClientClock
from airflow_provider_closeai.local_state import folder
from airflow_provider_closeai.simulator import Simulator
from airflow_provider_closeai.simulator import state as simulator_state

HANG = 60  # real seconds after which something counts as hanging
_MOMENT = 0.1  # real seconds for which it is waited where nothing will come
_EPOCH = 1_800_000_000.0


class Killed(BaseException):
    """The process ends here, as by SIGKILL: no code of the package may run on because of it."""


class _Worker:
    """One task; ``crash_in``: how many more events it lives."""

    def __init__(self, run: Callable[[], Any], wake: float, crash_in: int | None) -> None:
        self.run, self.wake, self.crash_in = run, wake, crash_in
        self.dies_at = float("inf")
        self.go = threading.Event()
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Clock:
    """Virtual time, and who runs."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._workers: list[_Worker] = []
        self._mine = threading.local()
        self._random = random.Random(0)
        self._idle = threading.Event()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()
        self._due_lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return _EPOCH + self.now

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time; others may run meanwhile."""
        self.event(max(seconds, 1e-6))  # as on a machine: less may be too little to move the time at all

    def event(self, seconds: float = 0.0) -> None:
        """Let the others run, or die, if that is this task's lot."""
        me: _Worker | None = getattr(self._mine, "worker", None)
        if me is None:
            self.advance(seconds)
            return
        me.wake = self.now + seconds
        self._hand_over(me)
        if self.now >= me.dies_at:
            raise Killed
        if me.crash_in is not None:
            me.crash_in -= 1
            if me.crash_in < 0:
                raise Killed

    def die_at(self, moment: float) -> None:
        """Let this task be killed at a moment, if it still runs then."""
        self._mine.worker.dies_at = moment

    def advance(self, seconds: float) -> None:
        self._go_to(self.now + seconds)

    def run(
        self, tasks: Sequence[tuple[Callable[[], Any], int | None]], schedule: int = 0
    ) -> list[tuple[Any, BaseException | None]]:
        """
        Run tasks side by side, one at a time.

        :param tasks: each with the number of events after which it is killed, ``None``: never.
        :param schedule: which of all interleavings.
        :returns: what each returned, or raised.
        """
        self._random = random.Random(schedule)
        self._idle.clear()
        self._workers = [_Worker(run, self.now, crash_in) for run, crash_in in tasks]
        threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in self._workers]
        for thread in threads:
            thread.start()
        self._choose().go.set()
        assert self._idle.wait(HANG), "a task hangs"
        for thread in threads:
            thread.join(HANG)
        return [(worker.result, worker.error) for worker in self._workers]

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do work of the platform so much later, whatever its client does. For the platform's thread."""
        with self._due_lock:
            heapq.heappush(self._due, (self.now + seconds, next(self._number), work))

    def _work(self, me: _Worker) -> None:
        self._mine.worker = me
        assert me.go.wait(HANG), "never begun"
        me.go.clear()
        try:
            me.result = me.run()
        except BaseException as error:
            me.error = error
        me.done = True
        if all(worker.done for worker in self._workers):
            self._idle.set()
        else:
            self._choose().go.set()

    def _hand_over(self, me: _Worker) -> None:
        following = self._choose()
        if following is not me:
            following.go.set()
            assert me.go.wait(HANG), "a task hangs"
            me.go.clear()

    def _choose(self) -> _Worker:
        waiting = [worker for worker in self._workers if not worker.done]
        earliest = min(worker.wake for worker in waiting)
        if earliest > self.now:
            self._go_to(earliest)
        return self._random.choice([worker for worker in waiting if worker.wake <= self.now])

    def _go_to(self, moment: float) -> None:
        while True:
            with self._due_lock:
                if not self._due or self._due[0][0] > moment:
                    break
                at, _, work = heapq.heappop(self._due)
            self.now = max(self.now, at)
            work()
        self.now = max(self.now, moment)


class Sent:
    """One attempt as the client made it, whether it reached the platform or not."""

    def __init__(self, call: str, base: str, attempt: Attempt) -> None:
        self.call, self.base, self.attempt = call, base, attempt


class World(contextlib.ExitStack):
    """
    The platform and everything around it. Use it as a context.

    :param bases: how many.
    :param settings: of the simulator; ``list_lag`` is virtual seconds here.
    """

    def __init__(self, bases: int = 2, **settings: Any) -> None:
        super().__init__()
        self.clock = Clock()
        self.sim = Simulator(bases, seed=7, **settings)
        self.wire: list[Sent] = []
        self.log: list[str] = []
        self.before: Callable[[str, str], None] | None = None  # called before each attempt
        self.after: Callable[[str, str], None] | None = None  # called after each attempt
        self.unresolved: set[int] = set()  # ports whose names do not resolve now
        self.lags: dict[str, float] = {}  # a base's name -> seconds by which its listing lags
        self.impatient: Callable[[str, str], bool] = lambda call, base: False  # waits for a moment only
        self._names: dict[str, str] = {}  # short ones, by origin
        self._sessions: list[Any] = []

    def __enter__(self) -> World:
        super().__enter__()
        self._directory = self.enter_context(tempfile.TemporaryDirectory(prefix="closeai-world-"))
        self.enter_context(mock.patch.object(tempfile, "tempdir", self._directory))
        self.use_host(0)
        self.enter_context(mock.patch.object(cache.Cache, "_unshared", {}))
        folder.warn_once.cache_clear()
        self._take_the_clocks()
        self._take_the_wire()
        self._keep_the_log()
        self.enter_context(self.sim)
        self._watch_the_platform()
        self.callback(self.clock.advance, 3600.0)  # nothing late is left behind
        self.callback(self.close_sessions)
        return self

    def client(self, **extra: Any) -> CloseAIClient:
        """Make a client as a new process would."""
        settings = {"connect_timeout": 5, "read_timeout": HANG, **extra}
        config = config_from(password=self.sim.key, host=self.sim.discovery_url, extra=settings)
        clock = ClientClock(now=self.clock.time, monotonic=self.clock.monotonic, sleep=self.clock.sleep)
        client = CloseAIClient(config, clock=clock)
        self._sessions.append(client.pool._transport._adapter(fresh=False))
        return client

    def use_host(self, number: int) -> None:
        """Run what follows on another host: with other locks, notes and caches."""
        host = Path(self._directory, f"host-{number}")
        host.mkdir(exist_ok=True)
        tempfile.tempdir = str(host)

    def close_sessions(self) -> None:
        """Close all connections of all clients, as their processes' end would."""
        while self._sessions:
            self._sessions.pop().close()

    def place(self, base: str) -> str:
        """Name a base in short: A, B ...; D is the discovery host, A' is where A has moved."""
        return self._names.get(base) or self._named()[base]

    def _named(self) -> dict[str, str]:
        for origin, name in zip([self.sim.discovery_url, *self.sim.base_urls], "DABCEFGH", strict=False):
            self._names.setdefault(origin, name + "'" * (name in self._names.values()))
        return self._names

    def move_bases(self) -> None:
        """Open every base on another port; the old ones refuse."""
        self._named()
        self.sim.move_bases()

    def secrets(self) -> list[str]:
        """Return the main key and all tokens that were ever issued."""
        state = self.sim._state
        return [self.sim.key, *(account.token for account in [*state.live.values(), *state._dead])]

    def assert_no_key(self, *errors: BaseException | None) -> None:
        """Fail where a key shows in the log, or in an error with all that hangs on it."""
        texts = list(self.log)
        for error in errors:
            if error is not None:
                texts += [repr(error), str(error), repr(error.__dict__), *traceback.format_exception(error)]
        whole = "\n".join(texts)
        leaked = [secret[:7] for secret in self.secrets() if secret in whole]
        assert not leaked, f"keys in logs or errors: {leaked}"

    def _take_the_clocks(self) -> None:
        shim = SimpleNamespace(monotonic=self.clock.monotonic, time=self.clock.time, sleep=self.clock.sleep)
        self.enter_context(mock.patch.object(simulator_state, "time", shim))
        self.enter_context(mock.patch.object(retry, "random", SimpleNamespace(random=lambda: 0.5)))

    def _take_the_wire(self) -> None:
        real = Transport.attempt

        def attempt(transport: Transport, asked: Call, base: str, **options: Any) -> Attempt:
            call = asked.name
            self.clock.event()
            if self.before:
                self.before(call, base)
            config = transport._config
            if self.impatient(call, base):
                transport._config = replace(config, connect_timeout=_MOMENT, read_timeout=_MOMENT)
            answer = real(transport, asked, base, **options)
            transport._config = config
            self.wire.append(Sent(call, base, answer))
            if self.after:
                self.after(call, base)
            self.clock.event()
            return answer

        self.enter_context(mock.patch.object(Transport, "attempt", attempt))
        resolve = socket.getaddrinfo

        def steered(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if port in self.unresolved:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return resolve(host, port, *args, **options)

        self.enter_context(mock.patch.object(socket, "getaddrinfo", steered))

    def _keep_the_log(self) -> None:
        world = self

        class Keeper(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                world.log.append(self.format(record))

        for name in ("airflow_provider_closeai", "urllib3", "requests"):
            logger = logging.getLogger(name)
            keeper, level = Keeper(), logger.level
            logger.addHandler(keeper)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False  # pytest would keep the lines of thousands of examples
            self.callback(setattr, logger, "propagate", True)
            self.callback(logger.setLevel, level)
            self.callback(logger.removeHandler, keeper)

    def _watch_the_platform(self) -> None:
        api = self.sim._backend.api
        answer = api.answer

        def answered(incoming: Any) -> Any:
            if incoming.request.call == "list" and self.lags:
                self.sim.settings.list_lag = self.lags[incoming.request.host]
            return answer(incoming)

        self.enter_context(mock.patch.object(api, "answer", answered))
        self.enter_context(mock.patch.object(self.sim._backend, "later", self.clock.later))
