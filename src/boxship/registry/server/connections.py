"""What clients may cost that are slow on purpose: how many connect at once, how long heads, bodies and answers may take.

A connection is idle while no request of it is being answered: it rests between two, or the head of the next arrives. When
there are too many, those go that were made first of the idle ones; one with a request under way stays, so that no pull
breaks off because of a stranger. The head's deadline is aiohttp's ``keepalive_timeout``, which counts from the end of the last
answer. Who does not read its answer loses the connection by TCP_USER_TIMEOUT, see tcp(7).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from aiohttp import web

SLOWEST = 64 * 1024  # bytes that a body must bring in ``stall`` seconds, unless it ends
_PER_CONNECTION = 3  # descriptors: its own, a file's, the other registry's
_MOST = 10_000


def most_connections(wanted: int, descriptors: int) -> int:
    """Return how many connections a process with so many descriptors takes; ``wanted`` 0 means 10,000 if it can."""
    return min(wanted or _MOST, max(descriptors // _PER_CONNECTION, 1))


class Connections:
    """Makes the protocols of a listener's connections, at most ``most`` at a time; for ``loop.create_server``."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def __call__(self) -> web.RequestHandler:
        asyncio.get_running_loop().call_soon(self._shrink)
        return self._server()

    def _shrink(self) -> None:
        connections = [each for each in self._server.connections if each.transport is not None]
        over = len(connections) - self._most
        for connection in connections:  # in the order in which they were made
            if over <= 0:
                return
            # aiohttp tells this in no other way: an answer may still be under way when its handler has returned.
            if not connection._request_in_progress:
                connection.force_close()
                over -= 1


def limit_unread_answers(sockets: tuple[socket.socket, ...], stall: float) -> None:
    """Let listening sockets give up connections whose client takes nothing for ``stall`` seconds."""
    for sock in sockets:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))


async def receive(request: web.Request, stall: float) -> AsyncIterator[bytes]:
    """Yield the pieces of a request's body. Raises TimeoutError when it brings less than it must."""
    loop = asyncio.get_running_loop()
    waited, brought = 0.0, 0
    while True:
        begun = loop.time()
        async with asyncio.timeout(stall - waited):
            data = await request.content.readany()
        if not data:
            return
        waited += loop.time() - begun
        brought += len(data)
        if brought >= SLOWEST:
            waited, brought = 0.0, 0
        yield data
