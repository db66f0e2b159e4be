"""A little SOCKS proxy, versions 4, 4a and 5, that notes what it was asked."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from support import raw_server


class Tunnel(NamedTuple):
    """What a client asked for: the target as it was written, and as whom."""

    version: int
    host: str
    port: int
    user: str = ""
    password: str = ""


def take(connection: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        more = connection.recv(number - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def until_zero(connection: socket.socket) -> str:
    text = b""
    while (byte := take(connection, 1)) != b"\0":
        text += byte
    return text.decode()


def ask_for_4(connection: socket.socket) -> tuple[Tunnel, bytes, bytes]:
    _, port, address = struct.unpack(">BH4s", take(connection, 7))
    user, host = until_zero(connection), socket.inet_ntoa(address)
    if address[:3] == b"\0\0\0":
        host = until_zero(connection)
    return Tunnel(4, host, port, user), b"\0\x5a" + 6 * b"\0", b"\0\x5b" + 6 * b"\0"


def ask_for_5(connection: socket.socket, password: str | None) -> tuple[Tunnel, bytes, bytes]:
    methods = take(connection, take(connection, 1)[0])
    user = given = ""
    if password is None:
        connection.sendall(b"\x05\x00")
    elif 2 not in methods:
        connection.sendall(b"\x05\xff")
        raise OSError("no password")
    else:
        connection.sendall(b"\x05\x02")
        take(connection, 1)
        user = take(connection, take(connection, 1)[0]).decode()
        given = take(connection, take(connection, 1)[0]).decode()
        connection.sendall(b"\x01\x00" if given == password else b"\x01\x01")
        if given != password:
            raise OSError("wrong password")
    kind = take(connection, 4)[3]
    if kind == 3:
        host = take(connection, take(connection, 1)[0]).decode()
    else:
        family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, take(connection, length))
    (port,) = struct.unpack(">H", take(connection, 2))
    reply = b"\x05%c\x00\x01" + 6 * b"\0"
    return Tunnel(5, host, port, user, given), reply % 0, reply % 5


def pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def socks_server(
    password: str | None = None, connect: Callable[[Tunnel], socket.socket] | None = None
) -> Iterator[tuple[str, list[Tunnel]]]:
    """
    Serve SOCKS; yields ``host:port`` and the tunnels that were asked for.

    :param password: the one that SOCKS 5 clients need.
    :param connect: makes the connection to the target; what it raises is told as a refusal.
    """
    tunnels: list[Tunnel] = []

    def serve(client: socket.socket, number: int) -> None:
        version = take(client, 1)[0]
        tunnel, yes, no = ask_for_4(client) if version == 4 else ask_for_5(client, password)
        tunnels.append(tunnel)
        try:
            there = connect(tunnel) if connect else socket.create_connection(("127.0.0.1", tunnel.port))
        except OSError:
            client.sendall(no)
            return
        client.sendall(yes)
        with there:
            back = threading.Thread(target=pipe, args=(there, client), daemon=True)
            back.start()
            pipe(client, there)
            back.join()

    with raw_server(serve) as (port, _):
        yield f"127.0.0.1:{port}", tunnels
