"""Ways to answer: a document, nothing, a stream that starts now."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

from boxship.api.call import Call
from boxship.base.errors import BoxshipError
from boxship.http.server import ClientGone, while_connected

log = logging.getLogger("boxship.api")


def document(value: Any, *, status: int = 200) -> web.Response:
    """Answer with a model or plain value as one line of JSON."""
    return web.Response(status=status, body=msgspec.json.encode(value) + b"\n", content_type="application/json")


def nothing(status: int = 204) -> web.Response:
    """Answer without a body."""
    return web.Response(status=status)


async def begin(call: Call, content_type: str, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
    """Send the head of a stream at once and return it for writing."""
    response = web.StreamResponse(headers={**call.headers, "Content-Type": content_type, **(headers or {})})
    await response.prepare(call.request)
    return response


async def stream(
    call: Call, content_type: str, chunks: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send ``chunks`` as they come, as fast as the client reads, until they end or the client leaves.

    What goes wrong in the middle cuts the connection, so that nobody takes a part for the whole.
    """
    async with while_connected(call.request):
        response = await begin(call, content_type, headers)
        try:
            async for chunk in chunks:
                await response.write(chunk)
        except BoxshipError as error:
            log.error("%s %s ended early: %s", call.request.method, call.request.path, error)
            raise ClientGone from error
        finally:
            await close(chunks)
        await response.write_eof()
    return response


async def progress(call: Call, messages: AsyncIterator[dict[str, Any]]) -> web.StreamResponse:
    """Send progress messages, one JSON object a line; an error before the first is an HTTP error, a later one a message."""
    try:
        first = await anext(messages, None)
        async with while_connected(call.request):
            response = await begin(call, "application/json")
            try:
                if first is not None:
                    await response.write(line(first))
                async for message in messages:
                    await response.write(line(message))
            except BoxshipError as error:
                await response.write(line({"errorDetail": {"message": str(error)}, "error": str(error)}))
            await response.write_eof()
    finally:
        await close(messages)
    return response


async def close(iterator: AsyncIterator[Any]) -> None:
    """Let a generator (or whatever has ``aclose``) release what it holds."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()


def multiplexed_type(call: Call, multiplexed: bool) -> str:
    """Return the content type of attach, exec and logs; versions before 1.42 know one only."""
    if multiplexed and call.version >= (1, 42):
        return "application/vnd.docker.multiplexed-stream"
    return "application/vnd.docker.raw-stream"


def line(message: Mapping[str, Any]) -> bytes:
    """Return one message of a stream."""
    return msgspec.json.encode(message) + b"\r\n"
