"""Steps that failed and wait for their user (``build --debug``).

A build with ``debug`` does not end when a program fails: the step keeps its container and its mounts, says so (``Stopped``), and
waits. Its user looks around in shells, one at a time, each on a new layer upon what the program left, and then decides: the step
runs again from its beginning, or the build ends. What is changed in a shell is never part of a result, since no cache key could tell.
A step waits as long as its build has a client; with it go the shell, the container and the mounts.
"""

from __future__ import annotations

import asyncio
import enum
from contextlib import AsyncExitStack

from boxship.base.errors import Conflict, NotFound
from boxship.build.steps.runner import RunningStep


class Decision(enum.Enum):
    """What becomes of a stopped step."""

    RETRY = "retry"
    KEEP = "keep"  # the build fails; the container stays as one without debugging would
    DROP = "drop"  # the build fails; nothing stays


class StoppedStep:
    """One failed program whose user has not decided yet."""

    def __init__(self, running: RunningStep) -> None:
        self._running = running
        self._decision: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._shells = AsyncExitStack()
        self._lock = asyncio.Lock()

    async def shell(self, height: int, width: int) -> str:
        """Make a shell and return its container's id, which is to be attached to and started; the one before goes.

        Raises Conflict when it was decided meanwhile.
        """
        async with self._lock:
            if self._decision.done():
                raise Conflict("the build step goes on already")
            await self._shells.aclose()
            return await self._shells.enter_async_context(self._running.shell(height, width))

    def decide(self, decision: Decision) -> None:
        """Let the build go on. Raises Conflict when it was decided before."""
        if self._decision.done():
            raise Conflict("the build step goes on already")
        self._decision.set_result(decision)

    async def decided(self) -> Decision:
        """Return what the user decided, when no shell is left; also a cancelled wait leaves none."""
        try:
            return await self._decision
        finally:
            self._decision.cancel()
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        async with self._lock:
            await self._shells.aclose()


class StoppedSteps:
    """The stopped steps of all builds, by the id of the container that failed."""

    def __init__(self) -> None:
        self._by_id: dict[str, StoppedStep] = {}

    def find(self, id: str) -> StoppedStep:
        """Raises NotFound."""
        try:
            return self._by_id[id]
        except KeyError:
            raise NotFound(f"No such stopped build step: {id}") from None

    def stop(self, running: RunningStep) -> StoppedStep:
        """Make a failed program known; :meth:`wait` is to follow."""
        stopped = self._by_id[running.id] = StoppedStep(running)
        return stopped

    async def wait(self, running: RunningStep) -> Decision:
        """Return what the user of a stopped program decides."""
        try:
            return await self._by_id[running.id].decided()
        finally:
            del self._by_id[running.id]
