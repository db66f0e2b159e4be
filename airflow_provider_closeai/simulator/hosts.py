"""The simulator's addresses: up, down, or swallowing connections."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from errno import EADDRINUSE

from airflow_provider_closeai.simulator.server import ADDRESS, Backend, Server

_FILLERS = 4
_LASTING = range(20_000, 32_768)  # below the ports that systems use for outgoing connections


class Host:
    """One address that keeps its port until it is moved.

    :param name: ``discovery``, ``base-0`` ...
    :param port: 0 is any free one.
    :param lasting: Choose a port that a later process will still find free.
    """

    def __init__(self, name: str, backend: Backend, port: int = 0, *, lasting: bool = False) -> None:
        self.name, self.port = name, port
        self._backend, self._lasting = backend, lasting
        self._server: Server | None = None
        self._held: list[socket.socket] = []  # hold the port while no server listens on it
        self._left: list[socket.socket] = []  # keep others off the earlier ports
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The origin; known after the first start."""
        if not self.port:
            raise RuntimeError("the simulator was not started")
        return f"http://{ADDRESS}:{self.port}"

    def start(self) -> None:
        """Listen, unless it already does."""
        with self._lock:
            if self._server and not self._server.swallowing:
                return
            before = self._leave()
            self._listen()
        if before:
            before.cut_all()

    def stop(self, *, reserve: bool = True) -> None:
        """Close the listening socket and cut all connections.

        :param reserve: Keep others off the port with a socket that does not listen.
        """
        with self._lock:
            before = self._leave()
            if not reserve:
                _close(self._left)
            elif self.port:
                self._held = _bound(self.port)
        if before:
            before.cut_all()

    def swallow(self) -> None:
        """Answer nobody: new connections are neither accepted nor refused, open ones get no more data."""
        with self._lock:
            if not self.port:
                raise RuntimeError("the simulator was not started")
            if self._server and self._server.swallowing:
                return
            before = self._leave()
            self._held = _full_listener(self.port)
            if before:
                before.swallowing = True
                self._server = before

    def move(self) -> None:
        """Listen on another port; the old one refuses connections."""
        with self._lock:
            before = self._leave()
            if self.port:
                self._left += _bound(self.port)
            self.port = 0
            self._listen()
        if before:
            before.cut_all()

    def _listen(self) -> None:
        port = self.port or (_lasting_port() if self._lasting else 0)
        try:
            self._server = Server(self.name, port, self._backend)
        except OSError as error:
            hint = (
                "; end the program that has it, or choose another port" if error.errno == EADDRINUSE else ""
            )
            message = f"{ADDRESS}:{port} ({self.name}): {error.strerror}{hint}"
            raise OSError(error.errno, message) from None
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name=self.name, daemon=True).start()

    def _leave(self) -> Server | None:
        """Free the port; return the server whose connections are still open."""
        server, self._server = self._server, None
        if server and not server.swallowing:
            server.shutdown()
            server.server_close()
        _close(self._held)
        return server


def _lasting_port() -> int:
    while True:
        port = random.choice(_LASTING)
        with socket.socket() as asked, contextlib.suppress(OSError):
            # Without SO_REUSEADDR, which would share a port that a host merely reserves.
            asked.bind((ADDRESS, port))
            return port


def _bound(port: int) -> list[socket.socket]:
    """Return a socket that holds a port without listening, so that connections are refused."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((ADDRESS, port))
    except OSError:  # some systems refuse while old connections linger: then it is not reserved
        holder.close()
        return []
    return [holder]


def _full_listener(port: int) -> list[socket.socket]:
    """Return a listening socket with a full queue, so that the kernel drops new connections."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ADDRESS, port))
    listener.listen(0)
    held = [listener]
    for _ in range(_FILLERS):
        filler = socket.socket()
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect((ADDRESS, port))
        held.append(filler)
    return held


def _close(sockets: list[socket.socket]) -> None:
    while sockets:
        sockets.pop().close()
