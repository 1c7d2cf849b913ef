"""One container's probe: a process in the container whose exit code tells its health, and whose output explains it.

The process is an exec whose client is one end of a socket pair; the daemon reads the other. It keeps 4 KiB and then closes
its end, so that a chatty probe costs the shim's time and not the daemon's.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import NamedTuple

from boxship.base.errors import BoxshipError
from boxship.base.moments import format_duration
from boxship.engine.container import Container
from boxship.engine.health.policy import FAILED, MAX_OUTPUT, HealthPlan
from boxship.engine.processes.execs import Exec, ExecService
from boxship.engine.processes.shims import Client
from boxship.wire import frames

KILL_DEADLINE = 10.0  # seconds after SIGKILL until a probe counts as stuck
END_GRACE = 1.0  # seconds that a container's end may come after that of its probe

_KILLED = 128 + signal.SIGKILL
_READ_SIZE = 65536


class Outcome(NamedTuple):
    """How a probe ended."""

    exit_code: int
    output: str


class Probe:
    """Runs the health check of one container, one process at a time."""

    def __init__(self, execs: ExecService, container: Container, plan: HealthPlan) -> None:
        self._execs = execs
        self._container = container
        self._plan = plan
        self._last: Exec | None = None

    async def run(self) -> Outcome:
        """Run the probe once. Cancelling this kills its process."""
        if self._last is not None and self._last.running:
            return Outcome(FAILED, "the last health check is still running and cannot be killed")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            client = Client(theirs.detach(), stdin=False, stdout=True, stderr=True, detach_keys=[], leftover=b"")
            try:
                execution = self._last = await self._start(client)
            except BoxshipError as exc:
                return Outcome(FAILED, str(exc))
            output = _Output()
            try:
                async with asyncio.timeout(self._plan.timeout):
                    await output.read(ours)
                    await execution.ended.wait()
            except TimeoutError:
                said = f": {output.text}" if output.text else ""
                limit = format_duration(round(self._plan.timeout * 1e9))
                return Outcome(FAILED, f"Health check exceeded timeout ({limit}){said}")
            finally:
                await self._end(execution)
        assert execution.exit_code is not None
        if execution.exit_code == _KILLED:
            # A container's end takes its probe along, and is told after that; then this is cancelled.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_GRACE):
                    await self._container.ended.wait()
        return Outcome(execution.exit_code, output.text)

    async def _start(self, client: Client) -> Exec:
        starting = asyncio.ensure_future(self._execs.run(self._container, self._plan.command, client))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The shim may have it by now: wait, or nobody would end the process.
            with contextlib.suppress(BoxshipError):
                await self._end(await starting)
            raise

    async def _end(self, execution: Exec) -> None:
        """Kill the process if it still runs, and see it end: probes must not pile up."""
        if not execution.running or not self._container.status.alive:
            return
        with contextlib.suppress(BoxshipError, TimeoutError):
            async with asyncio.timeout(KILL_DEADLINE):
                await self._execs.kill(execution, signal.SIGKILL)
                await execution.ended.wait()


class _Output:
    """The beginning of what a process wrote to both of its streams."""

    def __init__(self) -> None:
        self._kept = b""
        self._decoder = frames.Decoder()

    async def read(self, sock: socket.socket) -> None:
        """Read until the end, or until there is more than will be kept; then ``sock`` is closed."""
        loop = asyncio.get_running_loop()
        while len(self._kept) <= MAX_OUTPUT:
            data = await loop.sock_recv(sock, _READ_SIZE)
            if not data:
                break
            self._kept += b"".join(payload for _, payload in self._decoder.feed(data))
        sock.close()

    @property
    def text(self) -> str:
        """What was read, with dots where the rest is missing."""
        dots = "..." if len(self._kept) > MAX_OUTPUT else ""
        return self._kept[:MAX_OUTPUT].decode(errors="replace") + dots
