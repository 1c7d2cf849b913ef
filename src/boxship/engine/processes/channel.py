"""The asyncio end of a launcher or shim socket: messages of ``wire.messages`` with descriptors in both directions."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

from boxship.wire import messages


class ChannelClosed(ConnectionError):
    """The process at the other end is gone or gave up the connection."""


class Channel:
    """Sends and receives messages on a Unix stream socket, which it owns.

    ``on_message`` is called on the loop for each message that arrives, with its descriptors, which the callee owns;
    ``on_close`` once, when the other end is gone or :meth:`close` was called.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any], list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._on_message = on_message
        self._on_close = on_close
        self._decoder = messages.Decoder()
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    async def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; the descriptors stay the caller's. Raises ChannelClosed."""
        data = memoryview(messages.encode(message))
        async with self._sending:
            while data:
                if self.closed:
                    raise ChannelClosed("the connection is closed")
                try:
                    sent = messages.send_some(self._socket, data, fds)
                except BlockingIOError:
                    await self._writable()
                except OSError as exc:
                    self.close()
                    raise ChannelClosed(str(exc)) from exc
                else:
                    fds = ()
                    data = data[sent:]

    def close(self) -> None:
        """Close the socket and what nobody took; idempotent."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._decoder.close()
        self._on_close()

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        fd = self._socket.fileno()
        self._loop.add_writer(fd, _resolve, ready)
        try:
            await ready
        finally:
            if not self.closed:
                self._loop.remove_writer(fd)

    def _readable(self) -> None:
        try:
            data, fds = messages.receive_some(self._socket)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        try:
            arrived = self._decoder.feed_with_fds(data, fds)
        except messages.MessageError:
            self.close()
            return
        for message, owned in arrived:
            self._on_message(message, owned)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
