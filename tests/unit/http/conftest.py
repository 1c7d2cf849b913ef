import asyncio
import contextlib

import pytest

from boxship.http.server import Server


@pytest.fixture
def serve(tmp_path):
    """A context manager that serves a handler on a Unix socket and yields the socket's path."""

    @contextlib.asynccontextmanager
    async def serving(handler):
        path = str(tmp_path / "s")
        server = Server(handler)
        listener = await asyncio.get_running_loop().create_unix_server(server, path)
        try:
            yield path
        finally:
            listener.close()
            await server.shutdown(0.1)

    return serving
