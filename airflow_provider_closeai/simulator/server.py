"""The HTTP hosts: real sockets that can be closed, cut and kept waiting."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_closeai.simulator import control
from airflow_provider_closeai.simulator.answers import Answer, Refusal
from airflow_provider_closeai.simulator.api import Api, Incoming, call_of
from airflow_provider_closeai.simulator.faults import Fault, Faults, broken, instead
from airflow_provider_closeai.simulator.log import Request, RequestLog

ADDRESS = "127.0.0.1"
_ABORT = struct.pack("ii", 1, 0)


class Backend:
    """What a host works with.

    :param api: The calls.
    :param faults: The planned faults.
    :param log: Where requests are noted.
    :param controls: The control interface of the discovery host.
    """

    def __init__(self, api: Api, faults: Faults, log: RequestLog, controls: control.Control) -> None:
        self.api, self.faults, self.log, self.controls = api, faults, log, controls
        self.on_request: Callable[[Request], None] | None = None


class _Server(ThreadingHTTPServer):
    """A threading server that knows its connections, so that it can cut them."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, name: str, port: int, backend: Backend) -> None:
        self.name, self.backend = name, backend
        self._open: dict[Any, threading.Thread] = {}
        self._aborted: set[Any] = set()
        self._open_lock = threading.Lock()
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without the name lookup of HTTPServer, which can take seconds

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
            self.close_request(request)  # without an orderly end: the peer gets a reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()

    def abort(self, request: socket.socket) -> None:
        """Make the end of a connection a reset."""
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


class Host:
    """One address that can be up or down and keeps its port.

    :param name: ``discovery``, ``base-0`` ...
    :param backend: What it works with.
    :param port: 0 is any free one.
    """

    def __init__(self, name: str, backend: Backend, port: int = 0) -> None:
        self.name, self.port = name, port
        self._backend = backend
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._reserved: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The origin; only after the first start."""
        if not self.port:
            raise RuntimeError("the simulator was not started")
        return f"http://{ADDRESS}:{self.port}"

    def start(self) -> None:
        """Listen; nothing to do when it does."""
        with self._lock:
            if self._server:
                return
            self._free()
            self._server = _Server(self.name, self.port, self._backend)
            self.port = int(self._server.server_address[1])
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.01,), name=self.name, daemon=True
            )
            self._thread.start()

    def stop(self, *, reserve: bool = True) -> None:
        """Close the listening socket and cut all connections.

        :param reserve: Keep the port from others by a socket that does not listen.
        """
        with self._lock:
            server, self._server = self._server, None
            if server:
                server.shutdown()
                server.server_close()
            self._free()
            if reserve and self.port:
                self._reserve()
        if server:
            server.cut_all()

    def _reserve(self) -> None:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((ADDRESS, self.port))
        except OSError:  # some systems refuse while old connections linger: then it is not kept
            holder.close()
        else:
            self._reserved = holder

    def _free(self) -> None:
        if self._reserved:
            self._reserved.close()
            self._reserved = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def _serve(self) -> None:
        body = self._read()
        if body is None:
            return
        backend = self.server.backend
        parts = urlsplit(self.path)
        if self.server.name == "discovery" and parts.path.startswith(control.PREFIX):
            self._send(backend.controls.answer(self.command, parts.path, body))
            return
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        incoming = Incoming(
            host=self.server.name,
            call=call_of(self.server.name, self.command, parts.path),
            method=self.command,
            path=parts.path,
            pairs=pairs,
            body=body,
            content_type=self.headers.get("Content-Type", ""),
            who=backend.api.who(self.headers.get("Authorization")),
        )
        request = self._request(incoming)
        number = backend.log.add(request)
        try:
            self._call_hook(request)
            fault = backend.faults.take(incoming.call, incoming.host)
            backend.log.change(number, fault=fault.kind if fault else None)
            self._perform(incoming, number, fault)
        except OSError:
            backend.log.change(number, status=None)
            self._cut()
        except Exception:  # show it, and answer as a broken server does
            traceback.print_exc()
            backend.log.change(number, status=500)
            self._send(broken(Fault("*", "error_before", None, 1, 0, {"status": 500})))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _call_hook(self, request: Request) -> None:
        hook = self.server.backend.on_request
        if hook:
            try:
                hook(request)
            except OSError as error:  # not to be taken for one of this connection
                raise RuntimeError("on_request failed") from error

    def _perform(self, incoming: Incoming, number: int, fault: Fault | None) -> None:
        log = self.server.backend.log
        kind = fault.kind if fault else None
        options = fault.options if fault else {}
        if kind == "cut_before":
            return self._cut()
        if kind == "hang" and not options["work"]:
            return self._hang(options["seconds"])
        answer = instead(fault) if fault else None
        if answer is None:
            answer = self.server.backend.api.answer(incoming)
            log.change(number, executed=answer.executed)
        if kind == "cut_after":
            return self._cut()
        if kind == "hang":
            return self._hang(options["seconds"])
        if fault and kind == "error_after":
            answer = broken(fault)
        elif kind == "garbage":
            answer = Answer(200, answer.body[: len(answer.body) // 2], answer.content_type)
        elif kind == "slow" and not self._wait(options["seconds"]):
            return self._cut()
        log.change(number, status=answer.status)
        self._send(answer, options["seconds"] if kind == "drip" else None)

    def _request(self, incoming: Incoming) -> Request:
        try:
            body = json.loads(incoming.body)
        except (ValueError, RecursionError):
            body = None
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers.pop("authorization", None)
        return Request(
            host=incoming.host,
            call=incoming.call,
            method=incoming.method,
            path=incoming.path,
            query=dict(incoming.pairs),
            body=body,
            authorization=incoming.who,
            headers_seen=headers,
            status=None,
            executed=False,
            fault=None,
            at=time.monotonic(),
        )

    def _read(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self.close_connection = True
            self._send(Refusal(411, "length_required", "send a Content-Length").answer())
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self._cut()
            return None
        return body

    def _send(self, answer: Answer, pause: float | None = None) -> None:
        """Write an answer in one piece; with a pause its body byte by byte."""
        phrase = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else "Status"
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            f"Connection: {'close' if self.close_connection else 'keep-alive'}",
        ]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        body = b"" if self.command == "HEAD" else answer.body
        if pause is None:
            self.wfile.write(head + body)
            return
        self.wfile.write(head)
        for byte in body:
            if not self._wait(pause):
                return self._cut()
            self.wfile.write(bytes([byte]))

    def _hang(self, seconds: float | None) -> None:
        self._wait(seconds)
        self._cut()

    def _wait(self, seconds: float | None) -> bool:
        """Wait; False as soon as the client has gone or this host has stopped."""
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
            time.sleep(min(left, 0.02))  # the next request waits already: only look whether it goes

    def _cut(self) -> None:
        self.close_connection = True
        self.server.abort(self.connection)
