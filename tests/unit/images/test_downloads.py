"""Who shares a download."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from boxship.content import ContentStore
from boxship.images.transfers.downloads import Downloads
from boxship.registry.client.hosts import Endpoint, RegistrySettings
from boxship.registry.client.session import Timeouts
from boxship.registry.client.slots import Slots
from boxship.store import Store

DATA = os.urandom(100_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


class Place:
    """Gives the blob once ``open`` is set."""

    endpoint = Endpoint("https://registry.test", "a")
    settings = RegistrySettings()
    timeouts = Timeouts()

    def __init__(self) -> None:
        self.session = self
        self.open = asyncio.Event()
        self.asked = 0
        self.asking = asyncio.Event()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    def blob(self, digest, start=0, end=None):
        return _Answer(self)

    def forget_redirect(self, digest):
        return False


class _Answer:
    size = len(DATA)

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pieces = [DATA]

    async def __aenter__(self):
        self._place.asked += 1
        self._place.asking.set()
        await self._place.open.wait()
        return self, 0

    async def __aexit__(self, *_):
        pass

    async def read(self):
        return self._pieces.pop() if self._pieces else b""


@pytest.fixture
def content(tmp_path):
    store = Store(str(tmp_path / "db"))
    yield ContentStore(str(tmp_path / "content"), store)
    store.close()


@pytest.mark.row("REG-16")
def test_two_pulls_that_want_a_blob_fetch_it_once_and_one_may_leave(content):
    async def scenario():
        place, downloads = Place(), Downloads(content, Slots(lambda: 3))

        async def want():
            async with downloads.hold([place], DIGEST, len(DATA), lambda _: None) as download:
                await asyncio.shield(download.task)
                return download.partial.missing()

        first, second = asyncio.create_task(want()), asyncio.create_task(want())
        await place.asking.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        place.open.set()
        assert await second == []
        assert place.asked == 1
        assert downloads.digests == set()

    asyncio.run(scenario())


def test_a_download_that_nobody_wants_any_more_ends_and_can_begin_again(content):
    async def scenario():
        place, downloads = Place(), Downloads(content, Slots(lambda: 1))

        async def want():
            async with downloads.hold([place], DIGEST, len(DATA), lambda _: None) as download:
                await asyncio.shield(download.task)

        alone = asyncio.create_task(want())
        await place.asking.wait()
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        assert downloads.digests == set()
        assert not downloads.busy
        place.open.set()
        await want()

    asyncio.run(scenario())
