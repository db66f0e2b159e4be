"""What the tests of the client and of provisioning share: clients, processes, hand-written servers."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.util
import os
import signal
import socket
import ssl
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_closeai import local_state
from airflow_provider_closeai.client import cache
from airflow_provider_closeai.client.client import CloseAIClient
from airflow_provider_closeai.client.config import ClientConfig, config_from
from airflow_provider_closeai.client.models import SubAccount
from airflow_provider_closeai.local_state import folder
from airflow_provider_closeai.provisioning import runner
from airflow_provider_closeai.provisioning.requests import CreateRequest
from airflow_provider_closeai.simulator import Request, Simulator

HANG = 30  # seconds after which a test counts as hanging
KEY = "sk-test-0123456789abcdef"
GPT4 = {"gpt-4": 1}
MAX_LATE = 0.1
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["airflow_provider_closeai.client.client"])
multiprocessing.util.get_temp_dir()  # before a test moves the temporary directory: its path may be too long


class Clock:
    """A clock in seconds that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test caches, locks and an environment of its own, its child processes too."""
    place = str(tmp_path_factory.mktemp("shared"))
    monkeypatch.setattr(tempfile, "tempdir", place)
    monkeypatch.setenv("TMPDIR", place)
    monkeypatch.setattr(cache.Cache, "_unshared", {})
    folder.warn_once.cache_clear()
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def config_of(sim: Simulator, **extra: Any) -> ClientConfig:
    return config_from(password=sim.key, host=sim.discovery_url, extra={"max_late": MAX_LATE, **extra})


def client_of(
    sim: Simulator,
    sleep: Callable[[float], None] | None = None,
    clock: local_state.Clock | None = None,
    **extra: Any,
) -> CloseAIClient:
    return CloseAIClient(config_of(sim, **extra), clock=clock or clock_with(sleep))


def fixed_client(
    *bases: str,
    key: str = KEY,
    sleep: Callable[[float], None] | None = None,
    clock: local_state.Clock | None = None,
    **extra: Any,
) -> CloseAIClient:
    """Make a client of a fixed list of bases: no discovery."""
    config = config_from(password=key, extra={"api_bases": list(bases), "max_late": MAX_LATE, **extra})
    return CloseAIClient(config, clock=clock or clock_with(sleep))


def clock_with(
    sleep: Callable[[float], None] | None = None, now: Callable[[], float] | None = None
) -> local_state.Clock:
    """Make the machine's clock, with a ``sleep`` or a ``now`` of the test's own."""
    given: dict[str, Any] = {"sleep": sleep, "now": now}
    return local_state.Clock(**{name: value for name, value in given.items() if value is not None})


def jumping_clock() -> local_state.Clock:
    """Make the machine's clock, but for its ``sleep``: that takes no time, and moves the clock on."""
    ahead = 0.0

    def jump(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    real = local_state.Clock()
    return local_state.Clock(
        now=lambda: real.now() + ahead, monotonic=lambda: real.monotonic() + ahead, sleep=jump
    )


def run_create(
    client: CloseAIClient,
    request: CreateRequest,
    *,
    first_try: bool = True,
    task: str = "",
    own_journal: local_state.Store | None = None,
    needs_keys: bool = False,
) -> list[SubAccount]:
    """Run one try of a create."""
    this_try = runner.Try(
        task=task,
        is_retry=not first_try,
        own_journal=None if own_journal is None else lambda alias: own_journal,
    )
    return runner.create(client, request, this_try, needs_keys=needs_keys)


class Sleeps:
    """A ``sleep`` that notes how long it was asked to wait, and does not."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)


def examples(quick: int, deep: int) -> int:
    """Say how many examples a test marked ``property`` tries: more of them in ``make test-deep``."""
    return deep if os.environ.get("CLOSEAI_DEEP") else quick


def in_processes(number: int, task: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a task in processes of their own, all begun at the same moment."""
    barrier = _processes.Barrier(number)
    with ProcessPoolExecutor(
        number, mp_context=_processes, initializer=_begin, initargs=(barrier, tempfile.gettempdir())
    ) as pool:
        runs = [pool.submit(_together, task, args) for _ in range(number)]
        return [run.result(timeout=2 * HANG) for run in runs]


def process(task: Callable[..., Any], *args: Any) -> Any:
    """Make one process, not started yet."""
    return _processes.Process(target=_alone, args=(tempfile.gettempdir(), task, args), daemon=True)


def run_and_kill(sim: Simulator, victim: Any, when: Callable[[Request], bool]) -> None:
    """Run a process, and kill it while a request of it is under way; the platform then goes on with it."""
    dead = threading.Event()

    def kill(request: Request) -> None:
        if when(request):
            sim.on_request = None
            victim.kill()
            dead.wait(HANG)

    sim.on_request = kill
    victim.start()
    victim.join(HANG)
    dead.set()
    assert victim.exitcode == -signal.SIGKILL


_barrier: Any = None


def _alone(place: str, task: Callable[..., Any], args: tuple[Any, ...]) -> None:
    tempfile.tempdir = place
    task(*args)


def _begin(barrier: Any, place: str) -> None:
    global _barrier
    _barrier = barrier
    tempfile.tempdir = place


def _together(task: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    _barrier.wait(HANG)  # each process holds one task here, so that none runs two
    return task(*args)


def in_a_fork(task: Callable[[], bool]) -> bool:
    """Run a task in a fork of this process, and say whether it gave true. Whatever it does, it ends."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(int(HANG))  # a fork may hang where a lock of another thread was taken
            os._exit(0 if task() else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def in_threads(number: int, task: Callable[[int], Any]) -> list[Any]:
    """Run a task in threads, all begun at the same moment; raises what one of them raised."""
    barrier = threading.Barrier(number)
    results: list[Any] = [None] * number
    problems: list[BaseException] = []

    def run(index: int) -> None:
        try:
            barrier.wait(HANG)
            results[index] = task(index)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
        assert not thread.is_alive(), "a thread hangs"
    if problems:
        raise problems[0]
    return results


class Asked:
    """One request that a hand-written platform got."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        parts = urlsplit(path)
        self.method, self.path, self.headers = method, parts.path, headers
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.body: Any = json.loads(body) if body else None


Reply = Callable[[Asked], tuple[int, Any] | tuple[int, Any, dict[str, str]]]


@contextlib.contextmanager
def platform(reply: Reply, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """Serve HTTP as ``reply`` says; yields the origin and the requests so far."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append(Asked(self.command, self.path, headers, self.rfile.read(length)))
            status, content, *more = reply(asked[-1])
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_CONNECT = serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign, assignment]
    scheme = "http"
    if tls is not None:
        # Shakes hands in a connection's own thread: else one that says nothing keeps the server from ending.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket, int], None]) -> Iterator[tuple[int, list[int]]]:
    """Hand each connection, and its number from 0, to ``serve``; yields the port and those numbers."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[int] = []
    open_now: list[socket.socket] = []

    def run(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection, number)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_now.append(connection)
                seen.append(len(seen))
                threading.Thread(target=run, args=(connection, seen[-1]), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_now:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """Read one request with its body; empty when the peer has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body


def item(number: int, alias: str = "a", **fields: Any) -> dict[str, Any]:
    """Give a listing's item as the platform's page has it."""
    return {
        "id": number,
        "user_id": 1,
        "token": f"sk-{number:048x}",
        "token_type": "slave",
        "alias": alias,
        "enabled": True,
        "model_pricing": [{"model": "gpt-4", "pricing_factor": 1}],
        "balance": "1",
        "monthly_cost": "0",
        "created_at": "2023-07-09T21:23:16.944115+08:00",
        "updated_at": "2023-07-09T21:23:16.944115+08:00",
        **fields,
    }
