"""The daemon's end of a resident: starts it when it is needed, and tells it everything again when it died.

What a resident is: :mod:`boxship.shim.resident`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from boxship import __version__
from boxship.base.errors import SystemFailure
from boxship.engine.processes.channel import Channel, ChannelClosed
from boxship.shim import resident as process
from boxship.wire.messages import close_all

ANSWER_TIMEOUT = 30.0  # seconds; it answers in milliseconds unless the host is in trouble
_TRIES = 3  # of what the resident's end interrupts
_REVIVAL_PAUSE = 1.0  # seconds between two attempts to start one that does not start
_LOCK_PAUSE = 0.05
_LOCK_TRIES = 200

log = logging.getLogger(__name__)


class Resident:
    """Owns the connection to one resident and, until :meth:`close`, sees to it that one runs while it is needed."""

    def __init__(
        self,
        name: str,
        package: str,
        directory: str,
        *,
        sync: Callable[[Link], Awaitable[None]],
        needed: Callable[[], bool],
    ) -> None:
        """``sync`` tells a resident everything, and raises ConnectionError when it does not take it."""
        self._name = name
        self._package = package
        self._directory = directory
        self._sync_with = sync
        self._needed = needed
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._reviving: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Take over the resident of an earlier daemon, or start one if it is needed. Never raises: a failure is logged."""
        try:
            async with self._connecting:
                await self._take_over(await _connect(self._directory))
            if self._needed():
                await self._connected()
        except (OSError, SystemFailure, subprocess.SubprocessError) as exc:
            log.error("the %s does not work: %s", self._name, exc)

    async def ask(self, op: str, fields: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send a request, to a new resident if there is none, and return its answer; raises SystemFailure."""
        for left in reversed(range(_TRIES)):
            try:
                return await (await self._connected()).ask(op, fields, fds)
            except (OSError, subprocess.SubprocessError) as exc:
                if not left:
                    raise SystemFailure(f"the {self._name} does not answer: {exc}") from exc
        raise AssertionError("unreachable")

    async def ask_if_there(self, op: str, fields: dict[str, Any]) -> None:
        """Send a request and wait until it is done; a resident that is not there has nothing to do."""
        if self._link is not None:
            with contextlib.suppress(ConnectionError):
                await self._link.ask(op, fields)

    def tell(self, op: str, fields: dict[str, Any], fds: Sequence[int] = ()) -> bool:
        """Send a request whose answer says nothing; return False without a resident: the next one is told everything."""
        if self._link is None or not self._link.alive:
            return False
        self._link.tell(op, fields, fds)
        return True

    async def close(self, *, stop: bool) -> None:
        """Let go of the resident; ``stop`` ends it, else it goes on."""
        self._closed = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.gather(self._reviving, return_exceptions=True)
        if self._link is not None:
            if stop:
                with contextlib.suppress(ConnectionError):
                    await self._link.ask("stop", {})
            await self._link.close()

    async def _connected(self) -> Link:
        """Return the connection to a resident that knows everything; start one if need be. Raises OSError."""
        async with self._connecting:
            for _ in range(_LOCK_TRIES):
                if self._link is not None and self._link.alive:
                    return self._link
                sock = await _connect(self._directory)
                if sock is None:
                    done = await self._begin()
                    if done == process.LOCKED:
                        await asyncio.sleep(_LOCK_PAUSE)  # another one is about to end
                    elif done:
                        raise ConnectionError(f"it ended with status {done}")
                    sock = await _connect(self._directory)
                await self._take_over(sock)
            raise ConnectionError("another one is in its place and does not let us in")

    async def _begin(self) -> int:
        """Start a resident; return 0 when its socket is there."""
        done = await asyncio.to_thread(
            subprocess.run,
            process.command(self._package, self._directory),
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_TIMEOUT,
            check=False,
        )
        return done.returncode

    async def _take_over(self, sock: socket.socket | None) -> None:
        """Make the resident at the other end of ``sock`` ours; one of another version is replaced."""
        if sock is None:
            return
        link = Link(sock, self._lost)
        try:
            version = (await link.ask("hello", {})).get("version")
            if version != __version__:
                log.info("replacing the %s of version %s", self._name, version)
                await link.ask("retire", {})
                await self._replace(link)
                return
            await self._sync(link)
        except BaseException:
            await link.close()
            raise

    async def _replace(self, old: Link) -> None:
        """Start a resident of our version, and let the old one go when it has everything."""
        await self._begin()
        sock = await _connect(self._directory)
        if sock is None:
            raise ConnectionError(f"a new {self._name} did not start")
        link = Link(sock, self._lost)
        try:
            await self._sync(link)
        except BaseException:
            await link.close()
            raise
        await old.close()

    async def _sync(self, link: Link) -> None:
        self._link = link  # changes from now on are sent after what is sent here
        await self._sync_with(link)

    def _lost(self, link: Link) -> None:
        if link is self._link and self._needed() and not self._closed:
            log.warning("the %s ended; starting another one", self._name)
            self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        for attempt in itertools.count():
            try:
                await self._connected()
                return
            except (OSError, subprocess.SubprocessError) as exc:
                if not attempt:
                    log.error("the %s does not start: %s", self._name, exc)
            await asyncio.sleep(_REVIVAL_PAUSE)


class Link:
    """One connection: requests go out in the order of the calls."""

    def __init__(self, sock: socket.socket, lost: Callable[[Link], None]) -> None:
        self._lost = lost
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._seq = 0
        self._outgoing: asyncio.Queue[tuple[dict[str, Any], list[int]]] = asyncio.Queue()
        self._channel = Channel(sock, self._message, self._closed)
        self._sender = asyncio.create_task(self._send())

    @property
    def alive(self) -> bool:
        return not self._channel.closed

    def tell(self, op: str, fields: dict[str, Any], fds: Sequence[int] = ()) -> int:
        """Send a request and return its number; the descriptors stay the caller's, who may close them at once."""
        self._seq += 1
        self._outgoing.put_nowait(({"seq": self._seq, "op": op, **fields}, [os.dup(fd) for fd in fds]))
        return self._seq

    async def ask(self, op: str, fields: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Send a request and return its answer; raises ConnectionError."""
        if not self.alive:
            raise ConnectionError("it ended")
        seq = self.tell(op, fields, fds)
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[seq] = answered
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await answered
        except TimeoutError:
            self._channel.close()  # whatever it does, it is of no use
            raise ConnectionError(f"no answer to {op} in {ANSWER_TIMEOUT:.0f} seconds") from None
        finally:
            self._answers.pop(seq, None)

    async def close(self) -> None:
        self._channel.close()
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while True:
                message, fds = await self._outgoing.get()
                try:
                    await self._channel.send(message, fds)
                finally:
                    close_all(fds)
        except ChannelClosed:
            pass
        finally:
            while not self._outgoing.empty():
                close_all(self._outgoing.get_nowait()[1])

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        close_all(fds)  # no message of a resident carries any
        waiting = self._answers.get(int(message.get("seq", 0)))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _closed(self) -> None:
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("it ended"))
        self._sender.cancel()
        self._lost(self)


async def _connect(directory: str) -> socket.socket | None:
    """Connect to the resident in ``directory``; None if there is none."""
    return await asyncio.to_thread(_connect_now, directory)


def _connect_now(directory: str) -> socket.socket | None:
    try:
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{directory_fd}/{process.SOCKET}")  # a socket address holds 107 bytes only
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    finally:
        os.close(directory_fd)
    return sock
