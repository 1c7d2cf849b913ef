"""Connections taken out of the HTTP server, with real sockets."""

import asyncio
import contextlib
import gc
import hashlib
import os
import select
import socket
from pathlib import Path

import pytest
from aiohttp import web

from boxship.http import hijack

HEAD = b"POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
OLD_HEAD = b"POST /attach HTTP/1.1\r\nHost: x\r\n"
BODY = b'{"Detach":false,"Tty":false}'


@contextlib.asynccontextmanager
async def session_socket(stream):
    """The session's side: what a shim does with the descriptor it was passed."""
    sock = socket.socket(fileno=stream.detach())
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def echo(request):
    """Echo all that the client sends until its half-close, then say good-bye."""
    await request.read()
    hijack.hold(request)
    await asyncio.sleep(0)
    stream = await hijack.take_over(request, "application/vnd.docker.raw-stream", {"Api-Version": "1.56"})
    async with session_socket(stream) as (reader, writer):
        writer.write(stream.leftover)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")
    return hijack.Nothing()


async def connect(path):
    return await asyncio.open_unix_connection(path, limit=1 << 20)


async def head_of(reader):
    return (await reader.readuntil(b"\r\n\r\n")).decode()


@pytest.mark.row("API-08")
def test_the_head_is_dockers(serve):
    async def main():
        async with serve(echo) as path:
            reader, writer = await connect(path)
            writer.write(HEAD + b"\r\n")
            head = await head_of(reader)
            writer.close()
        assert head == (
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.56\r\n\r\n"
        )

    asyncio.run(main())


def test_a_client_that_asks_for_no_upgrade_gets_200(serve):
    async def main():
        async with serve(echo) as path:
            reader, writer = await connect(path)
            writer.write(OLD_HEAD + b"\r\n")
            assert (await head_of(reader)).startswith("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw")
            writer.write(b"abc")
            writer.write_eof()
            assert await reader.read() == b"abcbye"
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", BODY])
@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_bytes_right_behind_the_request_come_first_and_once(serve, body, cut):
    """The request, its body and the first input in one or two segments, followed by a half-close at once."""

    async def main():
        declared = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        data = HEAD + declared + body + b"first input"
        async with serve(echo) as path:
            reader, writer = await connect(path)
            split = cut % len(data)
            writer.write(data[:split])
            await asyncio.sleep(0)
            writer.write(data[split:])
            writer.write_eof()
            await head_of(reader)
            assert await reader.read() == b"first inputbye"
            writer.close()

    asyncio.run(main())


def test_output_reaches_a_client_that_has_half_closed(serve):
    async def main():
        async with serve(echo) as path:
            reader, writer = await connect(path)
            writer.write(HEAD + b"\r\n")
            await head_of(reader)
            writer.write(b"hi\n")
            writer.write_eof()
            assert await reader.read() == b"hi\nbye"
            writer.close()

    asyncio.run(main())


@pytest.mark.row("API-08")
def test_a_hundred_megabytes_arrive_unchanged_in_both_directions(serve):
    block = os.urandom(1 << 20)
    count = 100

    async def send(writer):
        for _ in range(count):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    async def main():
        digest = hashlib.sha256()
        async with serve(echo) as path:
            reader, writer = await connect(path)
            writer.write(HEAD + b"\r\n")
            await head_of(reader)
            sending = asyncio.create_task(send(writer))
            while data := await reader.read(1 << 20):
                digest.update(data)
            await sending
            writer.close()
        expected = hashlib.sha256()
        for _ in range(count):
            expected.update(block)
        expected.update(b"bye")
        assert digest.hexdigest() == expected.hexdigest()

    asyncio.run(main())


@pytest.mark.row("API-08")
def test_abrupt_clients_leave_no_descriptor_and_no_task(serve):
    async def main():
        async with serve(echo) as path:

            async def rude(step):
                reader, writer = await connect(path)
                writer.write((HEAD + b"\r\n")[: None if step else 40])
                if step > 1:
                    await head_of(reader)
                if step > 2:
                    writer.write(b"x" * 100_000)
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

            async def settled():
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.001)

            await rude(3)
            await settled()
            gc.collect()  # what earlier tests left behind is not this one's
            descriptors = len(list(Path("/proc/self/fd").iterdir()))
            for step in range(200):
                await rude(step % 4)
            await settled()
            gc.collect()
            assert len(list(Path("/proc/self/fd").iterdir())) == descriptors

    asyncio.run(main())


def test_a_stream_that_nobody_detached_is_closed(serve):
    async def handler(request):
        hijack.hold(request)
        stream = await hijack.take_over(request, "application/vnd.docker.raw-stream", {})
        stream.write(b"sorry")
        assert not stream.detached
        stream.close()
        return hijack.Nothing()

    async def main():
        async with serve(handler) as path:
            reader, writer = await connect(path)
            writer.write(HEAD + b"\r\n")
            await head_of(reader)
            assert await reader.read() == b"sorry"
            writer.close()

    asyncio.run(main())


def test_input_of_a_refused_upgrade_is_never_taken_for_a_request(serve):
    served = []

    async def handler(request):
        served.append(request.path)
        response = web.Response(status=404)
        response.force_close()
        return response

    async def main():
        async with serve(handler) as path:
            reader, writer = await connect(path)
            writer.write(HEAD + b"\r\n" + b"DELETE /containers/x HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
            writer.close()
        assert answer.count(b"HTTP/1.1") == 1
        assert served == ["/attach"]

    asyncio.run(main())


def test_output_waits_until_the_head_was_read(serve):
    async def main():
        async with serve(echo) as path:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            loop = asyncio.get_running_loop()
            client.sendall(HEAD + b"Content-Length: 0\r\n\r\nleftover")
            client.shutdown(socket.SHUT_WR)
            await loop.run_in_executor(None, select.select, [client], [], [])
            first = client.recv(1 << 16)  # all that is there, as a buffered reader takes it
            assert first.endswith(b"\r\n\r\n")
            rest = b""
            while data := await loop.run_in_executor(None, client.recv, 1 << 16):
                rest += data
            assert rest == b"leftoverbye"
            client.close()

    asyncio.run(main())
