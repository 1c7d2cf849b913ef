"""Connections that stop being HTTP: attach and exec start.

    client                      server
      | POST .../attach           |
      |   Upgrade: tcp            |
      | ------------------------> |  hold: nothing more is read by HTTP
      |    101 UPGRADED           |
      | <------------------------ |  release: the transport leaves the server
      | raw bytes both ways       |  detach: a plain socket, to be passed to another process

A connection is always a plain socket here: ``http.tls`` puts the server's end of a socket pair in the place of a TLS
connection, ``http.websocket`` does so for a websocket.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping

from aiohttp import web

from boxship.http.server import Connection, connection_of

_READER_PATIENCE = 1.0  # seconds
_READER_PAUSE = 0.0002  # seconds; a client that waits for the head has it by then


class HijackedSocket:
    """A client's connection after the response head (``api.backend.HijackedStream``)."""

    def __init__(self, transport: asyncio.Transport, leftover: bytes) -> None:
        self._transport: asyncio.Transport | None = transport
        self.leftover = leftover

    @property
    def detached(self) -> bool:
        """Whether somebody else owns the connection already."""
        return self._transport is None

    def detach(self) -> int:
        """Return the connection's socket as a descriptor that the caller owns; it is in non-blocking mode."""
        if self._transport is None:
            raise RuntimeError("the connection was detached already")
        fd = os.dup(self._transport.get_extra_info("socket").fileno())
        self.close()
        return fd

    def write(self, data: bytes) -> None:
        """Send a last word to the client before :meth:`close`."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Let go of the connection; the client sees its end unless it was detached."""
        # asyncio closes its descriptor without shutdown(2), so a duplicate keeps the connection open.
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class Nothing(web.StreamResponse):
    """What a handler returns whose connection was taken over: writes nothing, keeps nothing alive."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        return None


class _Ignore(asyncio.Protocol):
    """The protocol of a transport between release and detach; its reading is paused."""


def hold(request: web.BaseRequest) -> None:
    """Stop reading after this request, whose body was read: call it before anything that awaits."""
    connection_of(request).hold()


async def take_over(request: web.BaseRequest, content_type: str, headers: Mapping[str, str]) -> HijackedSocket:
    """Answer 101, or 200 to a client that asked for no upgrade, and take the connection out of the server.

    ``request`` must be on hold. Raises ConnectionError when the client has left.
    """
    connection = connection_of(request)
    upgrade = "Upgrade" in request.headers
    lines = ["HTTP/1.1 101 UPGRADED" if upgrade else "HTTP/1.1 200 OK", f"Content-Type: {content_type}"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    await connection.write_raw("\r\n".join([*lines, "", ""]).encode("latin-1"))
    await _wait_for_reader(connection)
    transport, leftover = connection.release()
    transport.set_protocol(_Ignore())
    return HijackedSocket(transport, leftover)


async def _wait_for_reader(connection: Connection) -> None:
    """Return when the client has read the response head, or does not within a second.

    Clients on Python's http.client (the Docker SDK) read the head through a buffer and the rest past it: output that arrived
    together with the head would be lost, and a short command's output comes that soon. Only a Unix socket tells.
    """
    sock = connection.transport.get_extra_info("socket") if connection.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + _READER_PATIENCE
    while _unread(sock.fileno()) and loop.time() < end:
        await asyncio.sleep(_READER_PAUSE)


def _unread(fd: int) -> int:
    """Return how much of what was sent the other end has not read: SIOCOUTQ of unix(7), in bytes of kernel memory."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0" * 4))
    return int(count)
