"""The daemon's end of the launcher: shims, network namespaces and mount trees, made without forking here."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from boxship.base.errors import SystemFailure
from boxship.engine.processes.channel import Channel, ChannelClosed
from boxship.networks import UserNamespace
from boxship.shim import launcher as launcher_process
from boxship.wire.messages import close_all


class UnattachedMount(NamedTuple):
    """A mount without a place yet, and where it belongs."""

    tree_fd: int
    path: str  # absolute, in the container
    directory: bool  # what it needs as mount point: a directory, or a file


class Launcher:
    """Owns the launcher process; restarts it when it has died.

    Answers come in the order of the requests, so a queue of futures is all the bookkeeping there is.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._answers: deque[asyncio.Future[tuple[dict[str, Any], int]]] = deque()
        self._sending = asyncio.Lock()

    @property
    def pid(self) -> int:
        """The launcher's process id, 0 before the first start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the process; raises SystemFailure when it does not answer."""
        await self._spawn()
        await self._ask({"op": "ping"})

    async def create(self, path: str, owner: UserNamespace | None = None) -> int:
        """Make a network namespace, bound at ``path``; return a route netlink socket opened inside it.

        ``owner`` is the user namespace that owns it, and is bound beside it.
        """
        user = None if owner is None else owner.message()
        _, fd = await self._ask({"op": "netns", "path": path, "user": user})
        if fd < 0:
            raise SystemFailure(f"no socket came with the network namespace {path}")
        return fd

    async def open(self, path: str, *, ipv6: bool) -> int:
        """Return a route netlink socket opened in the network namespace at ``path``.

        ``ipv6`` says whether interfaces that are made there from now on have IPv6.
        """
        _, fd = await self._ask({"op": "enter", "path": path, "ipv6": ipv6})
        if fd < 0:
            raise SystemFailure(f"no socket came from the network namespace {path}")
        return fd

    async def shim(self, start: dict[str, Any], fds: list[int]) -> int:
        """Start a shim; ``fds`` are its control socket and the sockets of clients attached already. Return its pid."""
        answer, _ = await self._ask({"op": "shim", "start": start}, fds)
        return int(answer["pid"])

    async def assemble(self, root_fd: int, mounts: Sequence[UnattachedMount]) -> socket.socket:
        """Attach mounts below an unattached root, in a namespace that lives until the returned socket is closed."""
        ours, theirs = socket.socketpair()
        targets = [{"path": each.path, "directory": each.directory} for each in mounts]
        with theirs:
            try:
                await self._ask(
                    {"op": "assemble", "targets": targets},
                    [theirs.fileno(), root_fd, *(each.tree_fd for each in mounts)],
                )
            except BaseException:
                ours.close()
                raise
        return ours

    async def close(self) -> None:
        """End the launcher; shims and namespaces live on."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    async def _ask(self, message: dict[str, Any], fds: list[int] | None = None) -> tuple[dict[str, Any], int]:
        async with self._sending:
            if self._process is None or self._channel is None:
                raise SystemFailure("the launcher is not started")
            if self._channel.closed:
                await asyncio.to_thread(self._process.wait)
                await self._spawn()
            answered: asyncio.Future[tuple[dict[str, Any], int]] = asyncio.get_running_loop().create_future()
            self._answers.append(answered)
            try:
                await self._channel.send(message, fds or [])
            except ChannelClosed as exc:
                raise SystemFailure(f"the launcher is gone: {exc}") from exc
        answer, fd = await answered
        if not answer.get("ok"):
            raise SystemFailure(str(answer.get("error", "the launcher refused")))
        return answer, fd

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # It leaves our session itself; close_fds keeps our sockets out of it.
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                launcher_process.command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._channel = Channel(ours, self._answered, self._lost)

    def _answered(self, message: dict[str, Any], fds: list[int]) -> None:
        fd = fds.pop(0) if fds else -1
        close_all(fds)
        waiting = self._answers.popleft()
        if not waiting.done():
            waiting.set_result((message, fd))
        elif fd >= 0:
            os.close(fd)

    def _lost(self) -> None:
        while self._answers:
            waiting = self._answers.popleft()
            if not waiting.done():
                waiting.set_exception(SystemFailure("the launcher ended"))
