"""Containers that are kept still for a moment, so that what they write to can be copied as it is at one moment."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from boxship.base.errors import Conflict, NotFound
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.lifecycle import Lifecycle
from boxship.engine.model import State


class Stillness:
    """Pauses containers and lets them go on, as ``commit --pause`` does."""

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
                if container.status.state is State.RUNNING:
                    await self._lifecycle.pause(container)
                    undo.push_async_callback(self._go_on, container)
            yield

    async def _go_on(self, container: Container) -> None:
        with contextlib.suppress(Conflict):  # it was thawed or ended meanwhile
            await self._lifecycle.unpause(container)
