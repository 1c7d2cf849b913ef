"""How many transfers run at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Slots:
    """A semaphore whose size may change while it is in use; ``limit`` is asked at every turn, 0 is no limit."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def full(self) -> bool:
        """Return whether the next one would have to wait."""
        limit = self._limit()
        return bool(self._waiting) or (limit > 0 and self._taken >= limit)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot; who came first gets the next free one."""
        if self.full:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif turn.done() and not turn.cancelled():
                    self._leave()
                raise
        else:
            self._taken += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._taken -= 1
        limit = self._limit()
        while self._waiting and (limit <= 0 or self._taken < limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
