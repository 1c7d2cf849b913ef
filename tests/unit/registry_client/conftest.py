"""A registry in this process whose answers each test writes itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from boxship.content import ContentStore
from boxship.registry.client.hosts import Credentials, Endpoint, RegistrySettings
from boxship.registry.client.repository import Repository
from boxship.registry.client.session import Session, Timeouts
from boxship.store import Store

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
QUICK = Timeouts(
    connect=2, answer=2, document=1, stall=0.3, slowest=1024, pause=0.001, longest_pause=0.01, longest_wanted=0.01
)


class FakeRegistry:
    """Serves one handler; remembers the requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[web.BaseRequest] = []
        self.port = 0

    async def __aenter__(self) -> FakeRegistry:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            self.requests.append(request)
            return await self._handler(request)

        self._runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def repository(self, session: Session, path: str = "a/b", **credentials: str) -> Repository:
        return Repository(session, Endpoint(self.url, path, verify=False), Credentials(**credentials))


@pytest.fixture
def fake():
    return FakeRegistry


@pytest.fixture
def session():
    def make(**settings: object) -> Session:
        return Session(RegistrySettings(certificates=(), **{"attempts": 3, **settings}), QUICK)  # type: ignore[arg-type]

    return make


@pytest.fixture
def content(tmp_path: Path):
    store = Store(str(tmp_path / "db"))
    yield ContentStore(str(tmp_path / "content"), store)
    store.close()


@pytest.fixture
def run():
    """Run a coroutine with a bound on its time."""

    def running(work):
        async def bounded():
            async with asyncio.timeout(20):
                return await work

        return asyncio.run(bounded())

    return running


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def as_json(document: object, **options: object) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), **options)  # type: ignore[arg-type]
