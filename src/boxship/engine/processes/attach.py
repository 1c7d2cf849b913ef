"""Attach: a client's connection joins a container's standard streams, before or after its start."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterable
from typing import Protocol

from boxship.base.errors import Conflict, InvalidInput
from boxship.engine.container import Container
from boxship.engine.model import State
from boxship.engine.processes.shims import Client, ShimGone
from boxship.wire import detachkeys

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_WRITE_TIMEOUT_MS = 30_000


class Stream(Protocol):
    """The connection that the API hands over (``api.backend.HijackedStream``)."""

    @property
    def leftover(self) -> bytes: ...

    def detach(self) -> int: ...


class AttachSession:
    """One accepted attach.

    The socket goes to the shim, or waits with the container for its start; this process then has no part in it.
    """

    def __init__(
        self,
        container: Container,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        stream: bool,
        detach_keys: list[int],
        replay: AsyncIterable[bytes] | None,
    ) -> None:
        self._container = container
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self._stream = stream
        self._detach_keys = detach_keys
        self._replay = replay

    @property
    def multiplexed(self) -> bool:
        """Whether output is framed."""
        return not self._container.spec.config.tty

    async def serve(self, stream: Stream) -> None:
        """Replay the log if asked to, then hand the connection over."""
        leftover, fd = stream.leftover, stream.detach()
        try:
            if self._replay is not None:
                async for chunk in self._replay:
                    await asyncio.to_thread(write_all, fd, chunk)
        except OSError:
            os.close(fd)
            return
        if not self._stream:
            os.close(fd)
            return
        client = Client(fd, self._stdin, self._stdout, self._stderr, self._detach_keys, leftover)
        if self._container.shim is None or not self._container.status.alive:
            self._container.attaching.append(client)
            return
        try:
            await self._container.shim.attach(client)
        except ShimGone:
            return  # the container ended in this moment; the client sees its connection close

    async def abandon(self) -> None:
        """Nothing is held before the connection comes."""


def parse_detach_keys(text: str | None) -> list[int]:
    """Return the byte sequence of detach keys as typed; raise InvalidInput in Docker's words."""
    try:
        return list(detachkeys.parse(DEFAULT_DETACH_KEYS if text is None else text)) if text != "" else []
    except ValueError as exc:
        raise InvalidInput(f"Invalid escape keys ({text}) provided: {exc}") from exc


def check_attachable(container: Container) -> None:
    """Raise Conflict for states that Docker refuses to attach to."""
    if container.status.state is State.PAUSED:
        raise Conflict(f"container {container.id} is paused, unpause the container before attach")
    if container.status.state is State.RESTARTING:
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")


def write_all(fd: int, data: bytes) -> None:
    """Write everything to a socket that may be non-blocking; raises OSError, also after half a minute of no progress."""
    view = memoryview(data)
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if not poller.poll(_WRITE_TIMEOUT_MS):
                raise TimeoutError("the client does not read") from None
