"""Handing a client's connection to an attach or exec session."""

from __future__ import annotations

import asyncio
import struct

from aiohttp import web

from boxship.api.answers import multiplexed_type
from boxship.api.backend import StreamSession
from boxship.api.call import Call
from boxship.base.errors import BoxshipError
from boxship.http import hijack
from boxship.http.server import ClientGone
from boxship.http.websocket import WebsocketRelay

STDERR = 2  # the stream number of a frame


async def serve(call: Call, session: StreamSession) -> web.StreamResponse:
    """Turn the request's connection, which is on hold, into the session's stream and wait for its end."""
    content_type = multiplexed_type(call, session.multiplexed)
    try:
        stream = await hijack.take_over(call.request, content_type, call.headers)
    except BaseException as exc:
        await session.abandon()
        if isinstance(exc, ConnectionError):
            raise ClientGone from exc
        raise
    try:
        await session.serve(stream)
    except BoxshipError as error:
        stream.write(_last_words(str(error), framed=session.multiplexed))
    finally:
        stream.close()
    return hijack.Nothing()


async def serve_websocket(call: Call, session: StreamSession) -> web.StreamResponse:
    """Relay a websocket to the session until either ends."""
    relay = WebsocketRelay(framed=session.multiplexed)
    serving = asyncio.ensure_future(session.serve(relay.stream))
    serving.add_done_callback(lambda _: relay.stream.close())  # a session that failed has not detached it
    try:
        await relay.run(call.request)
        await serving
    finally:
        serving.cancel()
    return hijack.Nothing()


def _last_words(text: str, *, framed: bool) -> bytes:
    """Return an error that came too late for an HTTP answer, as Docker puts it into the stream."""
    payload = f"{text}\r\n".encode("utf-8", "replace")
    return struct.pack(">BxxxI", STDERR, len(payload)) + payload if framed else payload
