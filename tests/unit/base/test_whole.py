"""Work that a cancellation waits for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from boxship.base.whole import in_thread, whole


def test_a_cancellation_is_raised_when_the_thread_has_ended() -> None:
    begun, goes_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        begun.set()
        goes_on.wait(30)
        ended.append(True)

    async def main() -> None:
        task = asyncio.ensure_future(in_thread(work))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(main())


def test_results_and_errors_come_through() -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        assert await in_thread(lambda: 7) == 7
        with pytest.raises(ValueError, match="no"):
            await whole(fail())

    asyncio.run(main())
