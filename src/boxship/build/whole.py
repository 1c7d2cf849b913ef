"""Work that is not torn when its build is cancelled: the cancellation waits for its end, so that what it made can be undone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def whole(work: Awaitable[T]) -> T:
    """Return the result of ``work``; a cancellation is raised when it has ended, whatever its outcome."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is known now; nobody else asks
        raise


async def in_thread(work: Callable[[], T]) -> T:
    """Run ``work``, which blocks, in a thread; see :func:`whole`."""
    return await whole(asyncio.to_thread(work))
