import asyncio
import contextlib
import json as json_module
from types import SimpleNamespace

import aiohttp
import pytest
import yarl

from boxship.api.server import make_router
from boxship.http.server import Server


class Recorder:
    """A backend whose methods are given as keyword arguments; every call is recorded as (name, args, kwargs)."""

    def __init__(self, **methods):
        self.calls = []
        self._methods = methods

    def __getattr__(self, name):
        def call(*args, **kwargs):
            method = self._methods[name]
            self.calls.append((name, args, kwargs))
            if isinstance(method, Exception):
                return _fail(method)
            if callable(method):
                return method(*args, **kwargs)
            return _give(method)

        return call


async def _fail(error):
    raise error


async def _give(value):
    return value


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def api(tmp_path):
    """A context manager: ``async with api(containers=..., images=...) as (client, path)`` serves these backends."""

    @contextlib.asynccontextmanager
    async def serving(*, experimental=False, **backends):
        names = (
            "containers",
            "checkpoints",
            "archives",
            "commits",
            "execs",
            "debugging",
            "images",
            "remotes",
            "shipping",
            "system",
            "networks",
            "volumes",
            "volume_history",
            "disk",
            "builds",
        )
        router = make_router(
            SimpleNamespace(**{name: backends.get(name, Recorder()) for name in names}), experimental=experimental
        )
        path = str(tmp_path / "s")
        server = Server(router)
        listener = await asyncio.get_running_loop().create_unix_server(server, path)
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client:
                yield client, path
        finally:
            listener.close()
            await server.shutdown(0.1)

    return serving


@pytest.fixture
def ask(api):
    """Send one request to these backends and return (status, headers, decoded JSON or text)."""

    def asking(method, target, *, json=None, data=None, headers=None, **backends):
        async def main():
            async with api(**backends) as (client, _):
                url = yarl.URL("http://any-host" + target, encoded=True)
                async with client.request(
                    method, url, json=json, data=data, headers=headers, allow_redirects=False
                ) as answer:
                    text = await answer.text()
                    body = text
                    with contextlib.suppress(ValueError):
                        body = json_module.loads(text)
                    return SimpleNamespace(status=answer.status, headers=answer.headers, body=body, text=text)

        return asyncio.run(main())

    return asking
