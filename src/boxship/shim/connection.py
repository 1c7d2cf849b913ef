"""One control connection of a shim, from boxshipd: requests in, answers and events out, never waiting for either."""

from __future__ import annotations

import socket

from boxship.shim.loop import GONE, READ, WRITE
from boxship.wire import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxship.shim.loop import Loop

UNREAD_LIMIT = 1 << 20  # bytes of answers and events that a daemon may leave unread before it is dropped


class Connection:
    """Owns its socket. ``on_request`` gets each message with its descriptors, ``on_close`` is called once at the end."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_request: Callable[[Connection, dict[str, Any], list[int]], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._decoder = messages.Decoder()
        self._unsent = bytearray()
        self._on_request = on_request
        self._on_close = on_close
        loop.watch(self._fd, READ, self._ready)

    @property
    def unsent(self) -> int:
        """How many bytes wait for the other side to read."""
        return len(self._unsent)

    def send(self, message: dict[str, Any]) -> None:
        """Send now or as soon as the other side reads; nothing happens on a closed connection."""
        if self._fd >= 0:
            self.send_encoded(messages.encode(message))

    def send_encoded(self, data: bytes) -> None:
        """Send what is a message already; the connection is open."""
        self._unsent += data
        self._flush()

    def close(self) -> None:
        """End the connection; what was sent before still reaches the other side."""
        if self._fd < 0:
            return
        self._loop.forget(self._fd)
        self._fd = -1
        self._decoder.close()
        self._sock.close()
        self._on_close(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & (READ | GONE) and self._fd >= 0:
            self._receive()

    def _receive(self) -> None:
        try:
            data, fds = messages.receive_some(self._sock)
            received = self._decoder.feed_with_fds(data, fds)
        except BlockingIOError:
            return
        except (OSError, messages.MessageError):
            self.close()
            return
        for at, (message, owned) in enumerate(received):
            if self._fd < 0:
                for _, late in received[at:]:
                    messages.close_all(late)
                return
            self._on_request(self, message, owned)
        if not data:
            self.close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: messages.send_some(self._sock, self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > UNREAD_LIMIT:
                self.close()
                return
        except OSError:
            self.close()
            return
        self._loop.watch(self._fd, READ | WRITE if self._unsent else READ, self._ready)
