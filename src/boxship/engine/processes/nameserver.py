"""The daemon's end of the nameserver: starts it when the first sandbox needs it, and tells it everything again when it died."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from boxship import __version__
from boxship.base.errors import SystemFailure
from boxship.engine.processes.channel import Channel, ChannelClosed
from boxship.nameserver import control
from boxship.nameserver import main as process
from boxship.networks.names import EndpointNames, Resolver
from boxship.wire.messages import close_all

ANSWER_TIMEOUT = 30.0  # seconds; it answers in milliseconds unless the host is in trouble
_TRIES = 3  # of what the nameserver's end interrupts
_REVIVAL_PAUSE = 1.0  # seconds between two attempts to start a nameserver that does not start
_LOCK_PAUSE = 0.05
_LOCK_TRIES = 200

log = logging.getLogger(__name__)


class Nameserver:
    """A :class:`boxship.networks.names.NameTable` whose answers come from a process that outlives this one.

    Owns the connection to it and, until :meth:`close`, sees to it that one runs while there are sandboxes.
    """

    def __init__(self, directory: str) -> None:
        """``directory`` is where the nameserver of this engine has its control socket."""
        self._directory = directory
        self._resolvers: dict[str, Resolver] = {}
        self._endpoints: dict[str, EndpointNames] = {}
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._reviving: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self, resolvers: Sequence[Resolver], endpoints: Sequence[EndpointNames]) -> None:
        """Say all there is; a nameserver of an earlier daemon is taken over, one is started if there are sandboxes."""
        self._resolvers = {resolver.sandbox_id: resolver for resolver in resolvers}
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in endpoints}
        try:
            async with self._connecting:
                await self._take_over(await _connect(self._directory))
            if self._resolvers:
                await self._connected()
        except (OSError, SystemFailure) as exc:
            log.error("the nameserver does not work: %s", exc)

    async def attach(self, resolver: Resolver) -> None:
        """Have names answered in a sandbox, or change what is answered; raises SystemFailure with nothing left."""
        self._resolvers[resolver.sandbox_id] = resolver
        try:
            answer = await self._ask("attach", {"resolver": msgspec.to_builtins(resolver)})
            if not answer.get("ok"):
                raise SystemFailure(f"failed to start the resolver of a sandbox: {answer.get('error')}")
        except BaseException:
            self._resolvers.pop(resolver.sandbox_id, None)
            self._tell("detach", {"sandbox_id": resolver.sandbox_id})
            raise

    async def detach(self, sandbox_id: str) -> None:
        """Free what the nameserver holds of a sandbox; an unknown one is no error."""
        if self._resolvers.pop(sandbox_id, None) is not None and self._link is not None:
            with contextlib.suppress(ConnectionError):
                await self._link.ask("detach", {"sandbox_id": sandbox_id})

    def publish(self, endpoint: EndpointNames) -> None:
        """Add an endpoint's names, or replace those of the same id."""
        self._endpoints[endpoint.endpoint_id] = endpoint
        self._tell("publish", {"endpoint": msgspec.to_builtins(endpoint)})

    def withdraw(self, endpoint_id: str) -> None:
        """Take an endpoint's names away; unknown ones are no error."""
        if self._endpoints.pop(endpoint_id, None) is not None:
            self._tell("withdraw", {"endpoint_id": endpoint_id})

    async def close(self, *, stop: bool) -> None:
        """Let go of the nameserver; ``stop`` ends it, else it goes on answering."""
        self._closed = True
        if self._reviving is not None:
            self._reviving.cancel()
            await asyncio.gather(self._reviving, return_exceptions=True)
        if self._link is not None:
            if stop:
                with contextlib.suppress(ConnectionError):
                    await self._link.ask("stop", {})
            await self._link.close()

    async def status(self) -> dict[str, Any]:
        """Return the nameserver's counts; raises SystemFailure."""
        return await self._ask("status", {})

    def _tell(self, op: str, fields: dict[str, Any]) -> None:
        """Send a request whose answer says nothing; without a nameserver the next one is told everything."""
        if self._link is not None and self._link.alive:
            self._link.tell(op, fields)

    async def _ask(self, op: str, fields: dict[str, Any]) -> dict[str, Any]:
        for left in reversed(range(_TRIES)):
            try:
                return await (await self._connected()).ask(op, fields)
            except (OSError, subprocess.SubprocessError) as exc:
                if not left:
                    raise SystemFailure(f"the nameserver does not answer: {exc}") from exc
        raise AssertionError("unreachable")

    async def _connected(self) -> _Link:
        """Return the connection to a nameserver that knows everything; start one if need be. Raises OSError."""
        async with self._connecting:
            for _ in range(_LOCK_TRIES):
                if self._link is not None and self._link.alive:
                    return self._link
                sock = await _connect(self._directory)
                if sock is None:
                    done = await asyncio.to_thread(
                        subprocess.run,
                        process.command(self._directory),
                        stdin=subprocess.DEVNULL,
                        timeout=ANSWER_TIMEOUT,
                        check=False,
                    )
                    if done.returncode == process.LOCKED:
                        await asyncio.sleep(_LOCK_PAUSE)  # another one is about to end
                    elif done.returncode:
                        raise ConnectionError(f"it ended with status {done.returncode}")
                    sock = await _connect(self._directory)
                await self._take_over(sock)
            raise ConnectionError("another one is in its place and does not let us in")

    async def _take_over(self, sock: socket.socket | None) -> None:
        """Make the nameserver at the other end of ``sock`` ours; one of another version is replaced."""
        if sock is None:
            return
        link = _Link(sock, self._lost)
        try:
            version = (await link.ask("hello", {})).get("version")
            if version != __version__:
                log.info("replacing the nameserver of version %s", version)
                await link.ask("retire", {})
                await self._replace(link)
                return
            await self._sync(link)
        except BaseException:
            await link.close()
            raise

    async def _replace(self, old: _Link) -> None:
        """Start a nameserver of our version, and let the old one go when it has everything."""
        await asyncio.to_thread(
            subprocess.run,
            process.command(self._directory),
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_TIMEOUT,
            check=False,
        )
        sock = await _connect(self._directory)
        if sock is None:
            raise ConnectionError("a new nameserver did not start")
        link = _Link(sock, self._lost)
        try:
            await self._sync(link)
        except BaseException:
            await link.close()
            raise
        await old.close()

    async def _sync(self, link: _Link) -> None:
        self._link = link  # changes from now on are sent after what is sent here
        answer = await link.ask(
            "sync",
            {
                "resolvers": [msgspec.to_builtins(resolver) for resolver in self._resolvers.values()],
                "endpoints": [msgspec.to_builtins(endpoint) for endpoint in self._endpoints.values()],
            },
        )
        if not answer.get("ok"):
            raise ConnectionError(str(answer.get("error")))
        for id, error in answer["failed"].items():
            log.error("names are not resolved in sandbox %s: %s", id, error)

    def _lost(self, link: _Link) -> None:
        if link is self._link and self._resolvers and not self._closed:
            log.warning("the nameserver ended; starting another one")
            self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        for attempt in itertools.count():
            try:
                await self._connected()
                return
            except (OSError, subprocess.SubprocessError) as exc:
                if not attempt:
                    log.error("the nameserver does not start: %s", exc)
            await asyncio.sleep(_REVIVAL_PAUSE)


class _Link:
    """One connection: requests go out in the order of the calls."""

    def __init__(self, sock: socket.socket, lost: Callable[[_Link], None]) -> None:
        self._lost = lost
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._seq = 0
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._channel = Channel(sock, self._message, self._closed)
        self._sender = asyncio.create_task(self._send())

    @property
    def alive(self) -> bool:
        return not self._channel.closed

    def tell(self, op: str, fields: dict[str, Any]) -> int:
        """Send a request and return its number."""
        self._seq += 1
        self._outgoing.put_nowait({"seq": self._seq, "op": op, **fields})
        return self._seq

    async def ask(self, op: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer; raises ConnectionError."""
        if not self.alive:
            raise ConnectionError("it ended")
        seq = self.tell(op, fields)
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
        with contextlib.suppress(ChannelClosed):
            while True:
                await self._channel.send(await self._outgoing.get())

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        close_all(fds)  # no message of the nameserver carries any
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
    """Connect to the nameserver in ``directory``; None if there is none."""
    return await asyncio.to_thread(_connect_now, directory)


def _connect_now(directory: str) -> socket.socket | None:
    try:
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{directory_fd}/{control.SOCKET}")  # a socket address holds 107 bytes only
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    finally:
        os.close(directory_fd)
    return sock
