"""Runs a command as on a host of its own: own network, host name and /tmp.

Usage: host.py NAME TMP KEPT PORTS SWALLOWED COMMAND...

TMP takes the place of /tmp, but for the folders in KEPT (separated by colons). PORTS of the loopback
(separated by commas) lead to this machine's loopback, and nothing else leads anywhere: the package sends keys
over plain HTTP to the loopback only. On SWALLOWED ports nobody is accepted or refused, as behind a firewall
that drops packets.

A thread leaves this machine's namespaces, listens, and starts the command. What copies bytes stays in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"


def may_isolate() -> bool:
    """Tell whether this machine lets a process have namespaces of its own."""
    command = ["unshare", "--mount", "--uts", "--net", "mount", "--make-rprivate", "/"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def leave(name: str, tmp: Path, kept: list[Path]) -> None:
    """Give this thread, and what it starts, a network, a host name and a /tmp of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    socket.sethostname(name)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for path in kept:
        if path.is_relative_to("/tmp"):  # noqa: S108
            place = tmp / path.relative_to("/tmp")  # noqa: S108
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--rbind", path, place], check=True)
    subprocess.run(["mount", "--rbind", tmp, "/tmp"], check=True)  # noqa: S108


def full_listener(port: int) -> list[socket.socket]:
    """Give a socket that listens and whose queue is full: the kernel drops who connects."""
    listener = socket.socket()
    listener.bind((LOOPBACK, port))
    listener.listen(0)
    held = [listener]
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect((LOOPBACK, port))
        held.append(filler)
    return held


def die_together() -> None:
    """Let this process be killed when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Host(threading.Thread):
    """The host; the parameters are those of the program."""

    def __init__(self, name: str, tmp: str, kept: str, ports: str, swallowed: str, *command: str) -> None:
        super().__init__(name=name)
        self.tmp, self.kept, self.command = Path(tmp), [Path(path) for path in kept.split(":")], command
        self.swallowed = {int(port) for port in swallowed.split(",") if port}
        self.ports = [port for port in map(int, ports.split(",")) if port not in self.swallowed]
        self.listeners: dict[int, socket.socket] = {}
        self.listens = threading.Event()
        self.code = 1

    def run(self) -> None:
        try:
            leave(self.name, self.tmp, self.kept)
            self.listeners = {
                port: socket.create_server((LOOPBACK, port), backlog=100) for port in self.ports
            }
            held = [full_listener(port) for port in self.swallowed]
            self.listens.set()
            self.code = subprocess.run(self.command, preexec_fn=die_together).returncode
            del held
        finally:
            self.listens.set()

    async def relay(self) -> None:
        """Copy between the ports of this host and those of the machine until the command ends."""
        servers = [
            await asyncio.start_server(lambda *pair, port=port: copy_both(port, *pair), sock=listener)
            for port, listener in self.listeners.items()
        ]
        await asyncio.to_thread(self.join)
        for server in servers:
            server.close()


async def copy_both(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect to the machine's port, and copy both ways; where it refuses, cut at once."""
    try:
        other_reader, other_writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one way, its end too; a connection that is cut is cut on the other side."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def main() -> None:
    host = Host(*sys.argv[1:])
    host.start()
    host.listens.wait()
    asyncio.run(host.relay())
    os._exit(host.code)  # connections that are still open are of no use to anybody


if __name__ == "__main__":
    main()
