"""Websocket attach: messages on one side, a plain socket on the other.

The far end of a socket pair plays the client: the session at the near end neither knows nor cares. Frames of a session
without a terminal are stripped, as Docker sends the bare bytes of both streams over a websocket.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import WSMsgType, web

CHUNK = 64 * 1024
MAX_MESSAGE = 4 * 1024 * 1024  # bytes of one message of a client


class PairedSocket:
    """The session's end of the socket pair (``api.backend.HijackedStream``)."""

    leftover = b""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def detach(self) -> int:
        """Return the descriptor; the caller owns it."""
        return self._end.detach()

    def close(self) -> None:
        """Close the end unless it was detached."""
        self._end.close()


class WebsocketRelay:
    """Carries bytes between a websocket and a socket pair until the session's end closes or the client leaves."""

    def __init__(self, *, framed: bool) -> None:
        self._framed = framed
        self._far, near = socket.socketpair()
        self._far.setblocking(False)
        self.stream = PairedSocket(near)

    async def run(self, request: web.BaseRequest) -> None:
        """Shake hands and relay; on return the websocket and both ends that are still ours are closed."""
        websocket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE)
        try:
            await websocket.prepare(request)
            inward = asyncio.create_task(self._inward(websocket))
            try:
                await self._outward(websocket)
            finally:
                inward.cancel()
                await asyncio.gather(inward, return_exceptions=True)
            await websocket.close()
        except ConnectionError:
            pass
        finally:
            self._far.close()
            self.stream.close()

    async def _inward(self, websocket: web.WebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for message in websocket:
                if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    data = message.data.encode() if isinstance(message.data, str) else message.data
                    await loop.sock_sendall(self._far, data)
        except ConnectionError:
            return
        # A websocket has no half-close: its end is the end of the client.
        self._far.shutdown(socket.SHUT_RDWR)

    async def _outward(self, websocket: web.WebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        buffer = bytearray()
        while data := await loop.sock_recv(self._far, CHUNK):
            if not self._framed:
                await websocket.send_bytes(data)
                continue
            buffer += data
            for payload in strip_frames(buffer):
                await websocket.send_bytes(payload)


def strip_frames(buffer: bytearray) -> list[bytes]:
    """Cut the whole frames off the front of ``buffer`` (eight bytes: stream, three zeros, length) and return their contents."""
    payloads = []
    while len(buffer) >= 8:
        (length,) = struct.unpack_from(">I", buffer, 4)
        if len(buffer) < 8 + length:
            break
        payloads.append(bytes(buffer[8 : 8 + length]))
        del buffer[: 8 + length]
    return payloads
