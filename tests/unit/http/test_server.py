"""Half-closed clients and departures."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from boxship.http.server import ClientGone, Server, while_connected

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_half_closed_client_gets_its_answer(serve):
    async def handler(request):
        for _ in range(10):
            await asyncio.sleep(0)
        return web.Response(text="answer")

    async def main():
        async with serve(handler) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST)
            writer.write_eof()
            assert (await reader.read()).endswith(b"answer")
            writer.close()

    asyncio.run(main())


def test_a_half_closed_idle_connection_is_closed(serve):
    async def handler(request):
        return web.Response(text="answer")

    async def main():
        async with serve(handler) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST)
            await reader.readuntil(b"answer")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())


def test_an_ordinary_handler_finishes_when_its_client_leaves(serve):
    async def main():
        entered, left, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def handler(request):
            entered.set()
            await left.wait()
            finished.set()
            return web.Response()

        async with serve(handler) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST)
            await entered.wait()
            writer.close()
            await writer.wait_closed()
            left.set()
            await finished.wait()

    asyncio.run(main())


@pytest.mark.row("API-22")
@pytest.mark.parametrize("half", [False, True])
def test_while_connected_ends_with_the_client(serve, half):
    async def main():
        entered, ended = asyncio.Event(), asyncio.Event()

        async def handler(request):
            try:
                async with while_connected(request):
                    entered.set()
                    await asyncio.Future()
            except ClientGone:
                ended.set()
            return web.Response()

        async with serve(handler) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST)
            await entered.wait()
            writer.write_eof() if half else writer.transport.abort()
            await ended.wait()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    asyncio.run(main())


def test_a_client_that_leaves_within_its_body_does_not_hang_the_handler(serve):
    async def main():
        ended = asyncio.Event()

        async def handler(request):
            try:
                await request.read()
            finally:
                ended.set()
            return web.Response()

        async with serve(handler) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            writer.write_eof()
            await ended.wait()
            writer.close()

    asyncio.run(main())


@pytest.mark.row("API-22")
def test_a_reader_that_never_reads_stops_the_writer_instead_of_filling_memory(serve):
    async def main():
        sent = 0
        stalled = asyncio.Event()

        async def handler(request):
            nonlocal sent
            with contextlib.suppress(ClientGone):
                async with while_connected(request):
                    response = web.StreamResponse()
                    await response.prepare(request)
                    while True:
                        writing = asyncio.ensure_future(response.write(b"x" * 65536))
                        await asyncio.wait([writing], timeout=0.2)
                        if not writing.done():
                            stalled.set()
                        await writing
                        sent += 65536
            return response

        async with serve(handler) as path:
            _, writer = await asyncio.open_unix_connection(path, limit=1)
            writer.write(REQUEST)
            await stalled.wait()
            assert sent < 16 << 20
            writer.transport.abort()

    asyncio.run(main())


class Wire(asyncio.Transport):
    """A connection whose segments the test chooses."""

    def __init__(self):
        super().__init__()
        self.sent = bytearray()
        self.closing = False

    def write(self, data):
        self.sent += data

    def writelines(self, pieces):
        self.sent += b"".join(pieces)

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def test_a_body_whose_pause_falls_on_the_end_of_a_chunk_arrives_whole():
    large = 600 * 1024  # bytes: above what the server buffers

    async def main():
        answered = asyncio.Event()
        sizes = []

        async def handler(request):
            sizes.append(len(await request.content.readexactly(large)))
            sizes.append(len(await request.content.read()))
            answered.set()
            return web.Response()

        connection, wire = Server(handler)(), Wire()
        connection.connection_made(wire)
        connection.data_received(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.data_received(b"%x\r\n%b\r\n" % (large, b"x" * large))
        while sizes != [large]:
            await asyncio.sleep(0)
        connection.data_received(b"3\r\nend\r\n0\r\n\r\n")
        await asyncio.wait_for(answered.wait(), 10)
        assert sizes == [large, 3]
        connection.connection_lost(None)

    asyncio.run(main())
