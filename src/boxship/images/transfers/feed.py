"""The way between an asyncio stream and work that blocks.

Reading archives is blocking work (hashing, disk), their bytes and the progress messages belong to asyncio. ``run`` starts
the work in a thread, feeds it the bytes it asks for and yields what it reports.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from boxship.base.errors import BoxshipError

Message = dict[str, Any]  # one of Docker's progress messages
Report = Callable[[Message], None]
QUEUED = 32  # chunks that wait for the thread at most
_BATCH = 8  # chunks after which the stream's side is told that there is room

_END = object()


class StreamBroken(BoxshipError):
    """The client left, or its stream failed, before the end."""


class Feed:
    """The thread's end of an asyncio stream: a blocking ``read``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: queue.SimpleQueue[bytes | BaseException | object] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(QUEUED)
        self._rest = memoryview(b"")
        self._ended: BaseException | object | None = None
        self._taken = 0  # chunks since the stream's side was told

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end; raises what the stream raised."""
        while not self._rest:
            if self._ended is None:
                chunk = self._chunks.get()
                if isinstance(chunk, bytes):
                    self._taken += 1
                    if self._taken == _BATCH:
                        self._taken = 0
                        self._loop.call_soon_threadsafe(self._make_room)
                    if 0 < len(chunk) <= size:
                        return chunk  # without a copy
                    self._rest = memoryview(chunk)
                    continue
                self._ended = chunk
            if isinstance(self._ended, BaseException):
                raise self._ended
            return b""
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def _make_room(self) -> None:
        for _ in range(_BATCH):
            self._room.release()

    async def pump(self, source: AsyncIterator[bytes]) -> None:
        """Move the stream's chunks to the thread, never more than it can take. The asyncio end."""
        end: BaseException | object = StreamBroken("unexpected EOF")
        try:
            async for chunk in source:
                await self._room.acquire()
                self._chunks.put(bytes(chunk))
            end = _END
        except Exception as exc:
            end = exc
        finally:
            self._chunks.put(end)


async def reports(work: Callable[[Report], Coroutine[Any, Any, object]]) -> AsyncIterator[Message]:
    """Run the coroutine ``work(report)`` as a task and yield its reports as they come; raise what it raises.

    Closing the iterator early cancels the task and waits for its end.
    """
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[Message | None] = asyncio.Queue()

    def report(message: Message) -> None:
        loop.call_soon_threadsafe(messages.put_nowait, message)

    task = loop.create_task(work(report))
    task.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        while (message := await messages.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def run(
    work: Callable[[Feed, Report], object], source: AsyncIterator[bytes] | None = None
) -> AsyncIterator[Message]:
    """Run ``work(feed, report)`` in a thread and yield its reports as they come; raise what it raises.

    Closing the iterator early breaks the feed and waits until the thread has cleaned up.
    """
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    feed = Feed(loop)

    def report(message: Message) -> None:
        loop.call_soon_threadsafe(messages.put_nowait, message)

    thread = loop.create_task(asyncio.to_thread(work, feed, report))
    thread.add_done_callback(lambda _: messages.put_nowait(None))
    pump = None if source is None else loop.create_task(feed.pump(source))
    try:
        while (message := await messages.get()) is not None:
            yield message
        await thread
    finally:
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        await asyncio.shield(asyncio.gather(thread, return_exceptions=True))
