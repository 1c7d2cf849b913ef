"""aiohttp's HTTP server with what the Engine API needs beside it: half-closed clients, departures, taken-over connections.

Theory of operation. aiohttp closes a connection as soon as its client closes the sending side. Engine clients do that while
they wait for an answer (``echo hi | docker run -i``), so :class:`Connection` keeps a half-closed connection while a request
that arrived whole is unanswered. Handlers are not cancelled when their client goes away (a container half created helps
nobody); those that only stream to the client ask for it with :func:`while_connected`.

A connection can leave the server: ``release`` gives its transport and the bytes that the parser had read beyond the
request. ``http.hijack`` builds on that.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.streams import StreamReader

from boxship.http import peer
from boxship.http.peer import Peer

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage

log = logging.getLogger("boxship.http")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MAX_LINE = 64 * 1024  # bytes of a request line: long lists of image names in a query
MAX_HEADERS = 128
MAX_FIELD = 256 * 1024  # bytes of one header: X-Registry-Config carries all credentials of a client
IDLE_TIMEOUT = 3600.0  # seconds a connection may stay without a request


class ClientGone(Exception):
    """The client left while a streaming handler served it; nobody reads an answer."""


class Connection(web.RequestHandler):
    """One client connection; several requests may follow one another on it."""

    def __init__(self, manager: Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # "no access log", as web.AppRunner passes it
            keepalive_timeout=IDLE_TIMEOUT,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
        )
        # aiohttp's parser in C (3.14) drops what follows a request with "Upgrade: tcp" in the same segment; the one in
        # Python keeps it, and costs 8 microseconds more a request.
        self._parser = HttpRequestParserPy(
            self,
            loop,
            self._read_bufsize,
            max_line_size=MAX_LINE,
            max_field_size=MAX_FIELD,
            max_headers=MAX_HEADERS,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # a gzipped tar with a Content-Encoding header is still meant as a gzipped tar
            max_msg_queue_size=self._max_msg_queue_size,
        )
        self._tasks = manager.tasks
        self.request_body: StreamReader | None = None  # of the request being handled
        self.on_departure: Callable[[], object] | None = None
        self.peer: Peer | None = None  # who is behind TLS: the socket here leads to the relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = self._task_handler
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp declares None, asyncio asks for a flag
        """Keep the connection if an answer is owed: the client may only have closed its sending side."""
        self._departed()
        body = self._messages[-1][1] if self._messages else self.request_body if self._waiter is None else None
        if body is None or not body.is_eof():
            return False
        if not self._upgraded:
            self.close()  # after the answer; an upgraded connection's handler decides itself
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        self._departed()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP request, in the words of Go's server; strangers do not get to fill the log."""
        log.debug("bad request: %s", message or exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was already under way")
        response = web.Response(status=status, text=f"{status} {http.HTTPStatus(status).phrase}")
        response.force_close()
        return response

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on after a pause, the parser too.

        aiohttp's parser in Python (3.14) forgets that it is paused only when it meets the pause inside a chunk. A pause that
        fell on a chunk's end would stop it at the next chunk, which nobody resumes: the request would hang.
        """
        body = self._parser._payload_parser if self._parser is not None else None
        if body is not None:
            body._paused = False
        super().resume_reading(resume_parser)

    def hold(self) -> None:
        """Read nothing more from the client: what follows belongs to whoever takes the connection over."""
        if self.transport is not None:
            self.transport.pause_reading()

    async def write_raw(self, data: bytes) -> None:
        """Send ``data`` past the HTTP writer and return when the kernel has it. Raises ConnectionError."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("Connection lost")
        self.transport.set_write_buffer_limits(high=0)  # "paused" now means "not empty"
        self.transport.write(data)
        await self._drain_helper()
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("Connection lost")

    def release(self) -> tuple[asyncio.Transport, bytes]:
        """Leave the server: return the transport, which the caller owns now, and what the parser read too much."""
        transport, leftover = self.transport, self._message_tail
        if transport is None:
            raise ConnectionResetError("Connection lost")
        self._message_tail = b""
        self.transport = None  # or connection_lost would close it
        self._task_handler = None  # or the server would wait for the handler when it shuts down
        self.connection_lost(None)
        return transport, leftover

    def _departed(self) -> None:
        callback, self.on_departure = self.on_departure, None
        if callback is not None:
            callback()


class Server(web.Server):
    """aiohttp's low-level server, made of :class:`Connection`."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler)
        # asyncio refers to its tasks weakly: a handler that outlives its connection must not be collected while it waits.
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> Connection:
        return Connection(self)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        assert isinstance(protocol, Connection)
        protocol.request_body = payload
        return super()._make_request(message, payload, protocol, writer, task)


def peer_of(request: web.BaseRequest) -> Peer | None:
    """Return who sent a request, None when they are gone or unknown."""
    connection = connection_of(request)
    agent = request.headers.get("User-Agent", "")
    if connection.peer is not None:
        return msgspec.structs.replace(connection.peer, agent=agent[: peer.MAX_TEXT])
    sock = connection.transport and connection.transport.get_extra_info("socket")
    return peer.of_socket(sock, agent) if sock else None


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection a request came over."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    return connection


@contextlib.asynccontextmanager
async def while_connected(request: web.BaseRequest) -> AsyncIterator[None]:
    """Run the block as long as its client listens; when it leaves, cancel the block and raise :class:`ClientGone`."""
    connection = connection_of(request)
    task = asyncio.current_task()
    assert task is not None
    if connection.transport is None:
        raise ClientGone
    gone = False

    def departed() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    connection.on_departure = departed
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    except ConnectionError:
        raise ClientGone from None
    finally:
        connection.on_departure = None
