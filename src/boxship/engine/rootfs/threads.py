"""Work on files that may never answer, in threads of its own.

A filesystem that a container brought (FUSE), or that a user names as the source of a mount, may never answer. Whatever touches
container trees and such sources therefore runs in a thread that serves one request, never in the pool that the rest of the
engine shares: a stuck one costs its own request only.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from boxship.base.errors import DeadlineExceeded
from boxship.snapshots.tar_writer import Writable

T = TypeVar("T")

_PIECE = 1024 * 1024
_AHEAD = 8  # pieces written before the reader takes one


class Abandoned(Exception):
    """The reader left; ends the thread that writes."""


async def alone(work: Callable[[], T]) -> T:
    """Run ``work`` in a new thread and return its result; cancelling leaves the thread to its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as exc:
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True, name="container-files").start()
    return await future


async def answered(work: Callable[[], T], seconds: float, complaint: str) -> T:
    """Run ``work`` as :func:`alone` does; raise DeadlineExceeded with ``complaint`` when that takes too long."""
    try:
        async with asyncio.timeout(seconds):
            return await alone(work)
    except TimeoutError:
        raise DeadlineExceeded(complaint) from None


async def stream(write: Callable[[Writable], object]) -> AsyncIterator[bytes]:
    """Yield what ``write(out)`` writes in a thread, which waits while the reader is behind; raise what it raises.

    Closing the iterator makes the thread's next write fail with Abandoned.
    """
    pieces = _Pieces(asyncio.get_running_loop())

    def work() -> None:
        try:
            write(pieces)
            pieces.flush()
        finally:
            pieces.end()

    thread = asyncio.ensure_future(alone(work))
    try:
        while (piece := await pieces.ready.get()) is not None:
            pieces.room.release()
            yield piece
        await thread
    finally:
        pieces.abandoned = True
        pieces.room.release()
        thread.cancel()


class _Pieces:
    """Gathers writes to pieces and hands them to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ready: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.room = threading.Semaphore(_AHEAD)
        self.abandoned = False
        self._loop = loop
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        """Take bytes; raises Abandoned when nobody wants more."""
        if self.abandoned:
            raise Abandoned
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Hand over what was gathered."""
        if self._buffer:
            self.room.acquire()
            if self.abandoned:
                raise Abandoned
            self._put(bytes(self._buffer))
            self._buffer.clear()

    def end(self) -> None:
        """Say that nothing follows."""
        self._put(None)

    def _put(self, piece: bytes | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self.ready.put_nowait, piece)
