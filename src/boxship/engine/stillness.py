"""Containers that are kept still for a moment, so that what they write to can be copied as it is at one moment.

A container's status says so before it is frozen and until it is thawed: a daemon that dies in between leaves the next one
word that nobody wants it frozen.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from boxship.base import failpoints
from boxship.base.errors import Conflict, NotFound
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import State


class Stillness:
    """Pauses containers and lets them go on."""

    def __init__(self, index: ContainerIndex, lifecycle: Lifecycle) -> None:
        self._index = index
        self._lifecycle = lifecycle

    @contextlib.asynccontextmanager
    async def still(self, ids: Sequence[str]) -> AsyncIterator[None]:
        """Keep containers still that run; those that are paused or have ended are as they were. Raises SystemFailure."""
        async with contextlib.AsyncExitStack() as undo:
            for id in sorted(ids):  # in one order: two of these never wait for each other
                try:
                    container = self._index.find(id)
                except NotFound:
                    continue
                await undo.enter_async_context(container.lock)
                await undo.enter_async_context(kept_still(self._lifecycle, container))
            yield


@contextlib.asynccontextmanager
async def kept_still(lifecycle: Lifecycle, container: Container) -> AsyncIterator[None]:
    """Pause a container, if it runs, whose lock the caller holds. Raises SystemFailure."""
    if container.status.state is not State.RUNNING:
        yield
        return
    lifecycle.set_status(container, held_still=True)
    await lifecycle.save(container)
    try:
        await lifecycle.pause(container)
        failpoints.hit("still.frozen")
        yield
    finally:
        lifecycle.set_status(container, held_still=False)
        try:
            await lifecycle.unpause(container)
        except Conflict:  # it never was frozen, or it was thawed or ended meanwhile
            await lifecycle.save(container)
