"""Stats streams: samples of one container, one a second, in Docker's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from boxship.engine.container import Container
from boxship.engine.observation import stats
from boxship.engine.start import StartComposer

INTERVAL = 1.0  # seconds, as Docker's clients expect


class StatsSampler:
    """Reads cgroups for clients of the stats API."""

    def __init__(self, composer: StartComposer, *, memory_total: int) -> None:
        self._composer = composer
        self._memory_total = memory_total

    async def stream(self, container: Container, *, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
        """Yield samples; a single one has a previous sample one interval older unless ``one_shot``.

        A container that does not run gives the empty document; a stream ends with its removal, as in Docker it goes on
        with empty documents until then.
        """
        previous = None if one_shot else await self._sample(container)
        if previous is not None and not stream:
            await asyncio.sleep(INTERVAL)
        while True:
            sample = await self._sample(container)
            if sample is None:
                yield stats.stopped(id=container.id, name=f"/{container.spec.name}")
            else:
                yield stats.document(
                    sample, previous, id=container.id, name=f"/{container.spec.name}", memory_total=self._memory_total
                )
            if not stream:
                return
            previous = sample
            await asyncio.sleep(INTERVAL)

    async def _sample(self, container: Container) -> stats.Sample | None:
        status = container.status
        if not status.alive:
            return None
        own_network = container.spec.host_config.network_mode != "host"
        try:
            return await asyncio.to_thread(
                stats.collect, self._composer.cgroup(container), status.pid if own_network else None
            )
        except OSError:
            return None  # it ended between the look at its status and the reading
