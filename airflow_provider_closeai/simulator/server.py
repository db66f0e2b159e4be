"""The HTTP hosts: real sockets that can be closed, cut and stalled."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_closeai.simulator import control
from airflow_provider_closeai.simulator.answers import Answer, Refusal
from airflow_provider_closeai.simulator.api import Api, Incoming, call_of, key_of
from airflow_provider_closeai.simulator.fault_kinds import broken
from airflow_provider_closeai.simulator.faults import Faults
from airflow_provider_closeai.simulator.log import Request

ADDRESS = "127.0.0.1"
_ABORT = struct.pack("ii", 1, 0)


@dataclasses.dataclass
class Backend:
    """What a host works with; ``now`` is the platform's time, also for the ``Date`` header.

    ``requests`` has all requests in order of arrival; ``timers`` holds the delayed work.
    """

    api: Api
    faults: Faults
    controls: control.Control
    now: Callable[[], datetime]
    keep: Callable[[], None]
    call_hook: Callable[[Request], None]
    requests: list[Request] = dataclasses.field(default_factory=list)
    timers: list[threading.Timer] = dataclasses.field(default_factory=list)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do some work after a delay in real seconds."""
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        timer.start()
        self.timers.append(timer)


class Server(ThreadingHTTPServer):
    """A threading server that knows its connections, so that it can cut them."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, name: str, port: int, backend: Backend) -> None:
        self.name, self.backend = name, backend
        self.swallowing = False
        self._open: dict[Any, threading.Thread] = {}
        self._aborted: set[Any] = set()
        self._open_lock = threading.Lock()
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # skips HTTPServer's name lookup, which can take seconds

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.pop(request, None)
            aborted = request in self._aborted
            self._aborted.discard(request)
        if aborted:
            self.close_request(request)  # without an orderly shutdown: the peer gets a reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()

    def abort(self, request: socket.socket) -> None:
        """Make a connection end with a reset."""
        with self._open_lock:
            self._aborted.add(request)
        with contextlib.suppress(OSError):
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)

    def cut_all(self) -> None:
        """Cut all connections and wait for their threads."""
        with self._open_lock:
            threads = dict(self._open)
        for request in threads:
            self.abort(request)
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + 1
        for thread in threads.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    _served = 0

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _serve(self) -> None:
        body = self._read()
        if body is None:
            return
        if self.server.swallowing:
            return self.swallow()
        reused = self._served > 0
        self._served += 1
        backend = self.server.backend
        parts = urlsplit(self.path)
        if self.server.name == "discovery" and f"{parts.path}/".startswith(control.PREFIX):
            answer = backend.controls.answer(self.command, parts.path, body)
            backend.keep()
            return self.send(answer)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        authorization = self.headers.get("Authorization")
        request = Request(
            host=self.server.name,
            call=call_of(self.server.name, self.command, parts.path),
            method=self.command,
            path=parts.path,
            query=dict(pairs),
            body=_json(body),
            authorization=backend.api.who(authorization),
            headers_seen={
                name.lower(): value for name, value in self.headers.items() if name.lower() != "authorization"
            },
        )
        content_type = self.headers.get("Content-Type", "")
        incoming = Incoming(request, pairs, body, content_type, key_of(authorization))
        backend.requests.append(request)
        try:
            backend.call_hook(request)
            fault = backend.faults.take(request.call, request.host, reused)
            exchange = _Exchange(self, incoming)
            if fault:
                request.fault = fault.kind
                fault.how.meet(exchange)
            else:
                exchange.send(exchange.work())
        except OSError:
            request.status = None
            self.cut()
        except Exception:  # print it, and answer as a broken server does
            traceback.print_exc()
            request.status = 500
            self.send(broken(500))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _read(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self.send(Refusal(411, "length_required", "send a Content-Length").answer())
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.cut()
            return None
        return body

    def send(self, answer: Answer, pause: float | None = None) -> None:
        """Write an answer.

        :param pause: Seconds before each byte of the body; None sends it in one piece.
        """
        if self.server.swallowing:
            return self.swallow()
        phrase, _ = self.responses.get(answer.status, ("Status", ""))
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            f"Date: {self.date_time_string(self.server.backend.now().timestamp())}",
            *([f"Content-Type: {answer.content_type}"] if answer.content_type else []),
            f"Content-Length: {len(answer.body)}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            f"Connection: {'close' if self.close_connection else 'keep-alive'}",
        ]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        body = b"" if self.command == "HEAD" else answer.body
        if pause is None:
            self.wfile.write(head + body)
            return None
        self.wfile.write(head)
        for byte in body:
            if not self.wait(pause):
                return self.cut()
            self.wfile.write(bytes([byte]))
        return None

    def swallow(self) -> None:
        """Let the client wait until it leaves or this host changes."""
        self.wait(None)
        self.cut()

    def wait(self, seconds: float | None) -> bool:
        """Wait; return False as soon as the client has gone or this host has stopped.

        :param seconds: How long; None is forever.
        """
        until = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        while True:
            left = 3600.0 if until is None else until - time.monotonic()
            if left <= 0:
                return True
            if not poll.poll(left * 1000):
                continue
            if not self.connection.recv(1, socket.MSG_PEEK):
                return False
            time.sleep(min(left, 0.02))  # the next request is there already: only see if the client leaves

    def cut(self) -> None:
        """End the connection with a reset."""
        self.close_connection = True
        self.server.abort(self.connection)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


class _Exchange:
    """One request being processed, and its log entry."""

    def __init__(self, handler: _Handler, incoming: Incoming) -> None:
        self._handler, self._incoming = handler, incoming
        self._backend = handler.server.backend
        self.cut, self.wait = handler.cut, handler.wait

    def work(self, at_most: int | None = None) -> Answer:
        incoming = dataclasses.replace(self._incoming, at_most=at_most)
        answer = self._backend.api.answer(incoming)
        self._incoming.request.executed = answer.executed
        self._backend.keep()
        return answer

    def send(self, answer: Answer, pause: float | None = None) -> None:
        self._incoming.request.status = answer.status
        self._handler.send(answer, pause)

    def later(self, seconds: float) -> None:
        self._backend.later(seconds, self.work)
