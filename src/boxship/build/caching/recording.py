"""Keeps results while their build goes on: a daemon that is killed loses at most those of the last moment.

To write each result when it is finished would let builds of many short steps wait for the disk; so results are gathered for
PAUSE seconds and then written together, beside the steps that follow.
"""

from __future__ import annotations

import asyncio

from boxship.base.errors import BoxshipError
from boxship.base.whole import whole
from boxship.build.caching.cache import Cache, Record
from boxship.build.caching.keys import Key
from boxship.images.layers import Addition

PAUSE = 0.3  # seconds


class Recorder:
    """Writes what one build learns. Other builds find it as soon as it is added."""

    def __init__(self, addition: Addition, cache: Cache) -> None:
        self._addition = addition
        self._cache = cache
        self.waiting: list[tuple[Key, Record]] = []  # not written yet
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write in the background; :meth:`stop` ends it."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, key: Key, record: Record) -> None:
        """Take a result whose layers the addition holds. At the end the caller keeps what is still ``waiting``."""
        self._cache.announce(key, record)
        self.waiting.append((key, record))
        self._news.set()

    async def stop(self) -> None:
        """Write nothing any more in the background; what is being written will be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(PAUSE)
            self._news.clear()
            try:
                await whole(self._write())
            except BoxshipError:
                return  # the end of the build writes it again, and says what is wrong

    async def _write(self) -> None:
        written = list(self.waiting)
        await asyncio.to_thread(self._addition.settle)
        await asyncio.to_thread(self._cache.keep, written, ())
        del self.waiting[: len(written)]
