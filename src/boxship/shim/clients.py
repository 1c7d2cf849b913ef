"""An attached client's socket: output to it, typed input from it, both without ever waiting.

The life of a client, as Docker's attach has it:

- Output is queued up to :data:`QUEUE_LIMIT`; above it the client is *congested* and its process is not read from until the
  client has caught up. A client that closed or whose connection broke is dropped at the next event.
- The end of what it sends closes the process's input, if that was asked for and there is no terminal; otherwise it ends
  the attachment, as do the detach keys. A client attached without input may end its sending side at any time.
"""

from __future__ import annotations

import collections
import os
import socket

from boxship.shim.loop import GONE, READ, WRITE
from boxship.wire import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxship.shim.loop import Loop
    from boxship.shim.process_input import Input
    from boxship.wire.detachkeys import Matcher

QUEUE_LIMIT = 1 << 20  # bytes of output that a client may leave unread before its process is held up
_READ_SIZE = 65536
_IOV_MAX = 64
_LAST_READS = 64


class Client:
    """Owns its socket until ``on_end(client, detached)``, which is called once."""

    def __init__(
        self,
        loop: Loop,
        fd: int,
        *,
        streams: frozenset[int],
        framed: bool,
        on_room: Callable[[], None],
        on_end: Callable[[Client, bool], None],
    ) -> None:
        """``streams`` are the outputs it wants (``frames.STDOUT``, ``STDERR``); ``on_room``: congested no more."""
        self._loop = loop
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._fd = fd
        self._streams = streams
        self._framed = framed
        self._queue: collections.deque[bytes | memoryview] = collections.deque()
        self._queued = 0
        self._on_room = on_room
        self._on_end = on_end
        self._input: Input | None = None
        self._closes_input = False
        self._keys: Matcher | None = None
        self._hung_up = False
        self._ending = False
        self._watch()

    @property
    def congested(self) -> bool:
        """Whether the process must wait before it may write more."""
        return self._queued > QUEUE_LIMIT

    @property
    def gone(self) -> bool:
        """Whether it has left for good and is kept only for what it typed last, which waits for the process to read."""
        return self._hung_up

    @property
    def unsent(self) -> int:
        """How many bytes wait for the client to read."""
        return self._queued

    def take_input(self, target: Input, *, closes: bool, keys: Matcher | None, leftover: bytes) -> None:
        """Pass what the client sends to ``target``, beginning with ``leftover``; ``closes``: its end is the input's end."""
        self._input = target
        self._closes_input = closes
        self._keys = keys
        target.join(self._input_changed)
        if leftover:
            self._typed(leftover)
        if self._fd >= 0:
            self._watch()

    def send(self, stream: int, data: bytes) -> None:
        """Queue output of ``stream`` and send what the socket takes."""
        if stream not in self._streams or self._hung_up or self._ending or self._fd < 0:
            return
        if self._framed:
            self._push(frames.header(stream, len(data)))
        self._push(data)
        self._flush()

    def end(self) -> None:
        """Say that no more output comes: the client is shut down when it has read everything."""
        self._ending = True
        self._leave_input()
        if self._queued and not self._hung_up:
            self._watch()
        else:
            self._finish(detached=False)

    def close(self) -> None:
        """Drop the client at once."""
        self._finish(detached=False)

    def _push(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)

    def _ready(self, events: int) -> None:
        if events & GONE:
            self._hung_up = True
            self._queue.clear()
            self._queued = 0
            if self._input is None or self._input.closed:
                self._finish(detached=False)
                return
        if events & WRITE and not self._hung_up:
            self._flush()
        if events & (READ | GONE) and self._reads():
            self._receive()
        elif self._fd >= 0:
            self._watch()

    def _reads(self) -> bool:
        return self._fd >= 0 and self._input is not None and not self._input.full and not self._input.closed

    def _receive(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._typed(data)
        else:
            self._end_of_input()
        if self._fd >= 0:
            self._watch()

    def _typed(self, data: bytes) -> None:
        assert self._input is not None
        detached = False
        if self._keys is not None:
            data, detached = self._keys.feed(data)
        if data:
            self._input.write(data)
        if detached:
            self._leave_input()
            self._finish(detached=True)

    def _input_changed(self) -> None:
        if self._hung_up and self._input is not None and self._input.closed:
            self._finish(detached=False)
        elif self._fd >= 0:
            self._watch()

    def _end_of_input(self) -> None:
        if self._keys is not None and self._input is not None and (held := self._keys.finish()):
            self._input.write(held)
        closes = self._closes_input
        self._leave_input()
        if not closes:
            self.end()
        elif self._hung_up:
            self._finish(detached=False)

    def _leave_input(self) -> None:
        """Stop passing input on; closes the process's input if this client's end is its end."""
        target, self._input = self._input, None
        if target is not None:
            target.leave(self._input_changed)
            if self._closes_input:
                target.close_when_written()

    def _flush(self) -> None:
        was_congested = self.congested
        try:
            while self._queue:
                pieces = [self._queue[at] for at in range(min(len(self._queue), _IOV_MAX))]
                self._sent(self._sock.sendmsg(pieces, [], socket.MSG_NOSIGNAL))
        except BlockingIOError:
            pass
        except OSError:
            self._leave_input()
            self._finish(detached=False)
            return
        if self._ending and not self._queued:
            self._finish(detached=False)
            return
        self._watch()
        if was_congested and not self.congested:
            self._on_room()

    def _sent(self, size: int) -> None:
        self._queued -= size
        while size:
            piece = self._queue.popleft()
            if len(piece) > size:
                self._queue.appendleft(memoryview(piece)[size:])
                return
            size -= len(piece)

    def _watch(self) -> None:
        events = (READ if self._reads() else 0) | (WRITE if self._queued else 0)
        if self._hung_up and not events:
            self._loop.forget(self._fd)  # it would report that for ever; the input calls when there is room again
        else:
            self._loop.watch(self._fd, events, self._ready)

    def _finish(self, *, detached: bool) -> None:
        if self._fd < 0:
            return
        self._leave_input()
        self._loop.forget(self._fd)
        self._fd = -1
        self._queue.clear()
        self._queued = 0
        _close_politely(self._sock)
        self._on_end(self, detached)


def _close_politely(sock: socket.socket) -> None:
    """Shut down, since other processes may hold the socket too, and close without resetting the connection.

    What the client sent and nobody read would make the kernel do that, and the client might lose the last output.
    """
    try:
        sock.shutdown(socket.SHUT_RDWR)
        for _ in range(_LAST_READS):
            if not sock.recv(_READ_SIZE):
                break
    except OSError:
        pass  # the client is gone, or sends no more
    sock.close()
