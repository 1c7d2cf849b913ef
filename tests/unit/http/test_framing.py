"""Requests that other parsers might read differently, and clients that leave anywhere."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BODY = b"0\r\n\r\n"


def exchange(serve, data):
    """Send ``data`` and the end; return the answers and the (method, path, body) that handlers saw."""
    seen = []

    async def handler(request):
        seen.append((request.method, request.raw_path, await request.read()))
        return web.Response(text="ok")

    async def main():
        async with serve(handler) as path:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            writer.write_eof()
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            return answer

    return asyncio.run(main()), seen


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: identity, chunked, identity\r\nContent-Length: 5\r\n",
        b"X: a\x00b\r\n",
        b" folded: x\r\n",
        b"X\x0b: y\r\n",
    ],
)
def test_ambiguous_framing_is_refused_and_the_connection_closed(serve, headers):
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, seen = exchange(serve, b"POST /a HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + BODY + smuggled)
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert answer.endswith(b"400 Bad Request")
    assert answer.count(b"HTTP/1.") == 1
    assert seen == []


def test_http_1_0_is_served_and_closed(serve):
    answer, seen = exchange(serve, b"GET /a HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200")
    assert seen == [("GET", "/a", b"")]


def test_too_long_a_line_and_too_many_headers_are_refused(serve):
    for data in (
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
    ):
        answer, seen = exchange(serve, data)
        assert answer[9:12] == b"400"
        assert seen == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 60))
def test_noise_in_a_request_never_makes_it_two(serve, noise, position):
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
    data = request[:position] + noise + request[position:]
    _, seen = exchange(serve, data)
    assert len(seen) <= 1 + noise.count(b"HTTP/") + noise.count(b"\n")


@pytest.mark.row("API-22")
def test_a_client_may_leave_at_every_byte(serve):
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    async def handler(request):
        with contextlib.suppress(ConnectionError, web.RequestPayloadError):
            await request.read()
        return web.Response(text="ok")

    async def main():
        async with serve(handler) as path:
            for length in range(len(request) + 1):
                _, writer = await asyncio.open_unix_connection(path)
                writer.write(request[:length])
                await asyncio.sleep(0)
                writer.transport.abort()
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)

    asyncio.run(main())
