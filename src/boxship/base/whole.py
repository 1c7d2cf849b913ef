"""Work that is not torn when its caller is cancelled: the cancellation waits for its end.

So the caller keeps its locks until then, and can undo what the work made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """Return the result of ``work``; a cancellation is raised when it has ended, whatever its outcome."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is known now; nobody else asks
        raise


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work``, which blocks, in a thread; see :func:`whole`."""
    return await whole(asyncio.to_thread(work))
