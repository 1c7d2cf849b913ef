"""``RUN --mount=type=ssh``: agents' sockets as steps may use them.

A step gets a socket of its own, with the owner and mode that its mount asks for, so that also a user other than root can use an
agent that lets in nobody else. Of the agent protocol only two requests go through: which keys there are, and a signature. A program
of a build that would add, remove or lock keys of its user's agent is told that it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

from boxship.base.whole import in_thread
from boxship.build.steps.scratch import Scratch

_LENGTH = struct.Struct(">I")
_LARGEST = 256 * 1024  # bytes of a message, as OpenSSH has it
_AT_ONCE = 64  # connections
_FAILURE = b"\x05"  # SSH_AGENT_FAILURE
_ALLOWED = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST


@contextlib.asynccontextmanager
async def forwarded(agent: str, scratch: Scratch, *, mode: int, owner: tuple[int, int]) -> AsyncIterator[str]:
    """Give the path of a socket that leads to the socket ``agent``; ``owner`` is uid and gid on the host. Raises OSError."""
    place = scratch.place()
    forwarder = _Forwarder(agent)
    try:
        listening = await in_thread(lambda: _listen(place, mode, owner))
        server = await asyncio.start_unix_server(forwarder.serve, sock=listening)
        try:
            yield os.path.join(place, "agent")
        finally:
            server.close()
            await forwarder.close()
    finally:
        await asyncio.shield(asyncio.to_thread(scratch.remove, place))


def _listen(place: str, mode: int, owner: tuple[int, int]) -> socket.socket:
    os.mkdir(place, 0o700)
    directory = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = f"/proc/self/fd/{directory}/agent"  # the real one may be longer than an address can be
        listening.bind(path)
        os.chown(path, *owner)
        os.chmod(path, mode)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(directory)
    return listening


class _Forwarder:
    """Serves one socket; each connection has one to the agent."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry requests and answers until one side leaves."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._serving) >= _AT_ONCE:
            writer.close()
            return
        self._serving.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_unix_connection(self._agent)
            while True:
                request = await _message(reader)
                if request[:1] and request[0] in _ALLOWED:
                    _send(upstream, request)
                    await upstream.drain()
                    _send(writer, await _message(answers))
                else:
                    _send(writer, _FAILURE)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # one of them is gone, or speaks another protocol
        finally:
            self._serving.discard(task)
            for each in (writer, upstream):
                if each is not None:
                    each.close()

    async def close(self) -> None:
        """End all connections."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one message. Raises IncompleteReadError at the end, ValueError for one that is too long."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _LARGEST:
        raise ValueError("an agent's message is too long")
    return await reader.readexactly(length)


def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(_LENGTH.pack(len(message)) + message)
