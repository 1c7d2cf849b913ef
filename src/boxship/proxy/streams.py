"""Connections (TCP, SCTP) of published ports: accepted, and carried to the container byte by byte.

A direction that ends is ended at the other side, too, once everything is there; an error ends both.
"""

from __future__ import annotations

import errno
import socket

from boxship.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxship.shim.loop import Loop

_BATCH = 16  # connections accepted in one go
_PIECE = 1 << 17  # bytes on their way in one direction
_PAUSE = 0.1  # seconds until the next try when descriptors have run out
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)  # accept(2): that client only


class StreamPort:
    """One listening socket and its connections."""

    def __init__(self, sock: socket.socket, target: tuple[str, int], loop: Loop) -> None:
        """``sock`` is owned from now on; ``target`` is the container's address and port."""
        self.target = target
        self._sock = sock
        self._loop = loop
        self._relays: set[_Relay] = set()
        sock.setblocking(False)
        self._watch()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._relays)

    def close(self, *, drop: bool) -> None:
        """Accept no more; ``drop`` ends what is open, else it goes on to its end."""
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        for relay in list(self._relays) if drop else ():
            relay.close()

    def _watch(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.watch(self._sock.fileno(), READ, lambda _: self._accept())

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                client, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _GONE:
                    continue
                self._loop.forget(self._sock.fileno())
                self._loop.after(_PAUSE, self._watch)
                return
            self._begin(client)

    def _begin(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
            server = socket.socket(family, socket.SOCK_STREAM, client.proto)
        except OSError:
            client.close()
            return
        server.setblocking(False)
        for sock in (client, server):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sock.proto in (0, socket.IPPROTO_TCP):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay = _Relay(client, server, self._loop, self._relays.discard)
        self._relays.add(relay)
        relay.connect(self.target)


class _Way:
    """One direction of a connection."""

    __slots__ = ("ended", "finished", "source", "target", "waiting")

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting = b""  # read, and not sent yet
        self.ended = False  # the source has said all
        self.finished = False  # and the target knows

    def carry(self) -> None:
        """Move what can be moved; raises OSError."""
        while not self.finished:
            if not self.waiting and not self.ended:
                try:
                    self.waiting = self.source.recv(_PIECE)
                except BlockingIOError:
                    return
                self.ended = not self.waiting
            if self.waiting:
                try:
                    self.waiting = self.waiting[self.target.send(self.waiting) :]
                except BlockingIOError:
                    return
                return  # others have their turn
            if self.ended:
                self.target.shutdown(socket.SHUT_WR)
                self.finished = True


class _Relay:
    """One client and its connection to the container."""

    def __init__(
        self, client: socket.socket, server: socket.socket, loop: Loop, ended: Callable[[_Relay], None]
    ) -> None:
        self._client = client
        self._server = server
        self._loop = loop
        self._ended = ended
        self._ways = (_Way(client, server), _Way(server, client))
        self._open = True

    def connect(self, target: tuple[str, int]) -> None:
        """Begin to connect; a container that refuses ends the client's connection."""
        error = self._server.connect_ex(target)
        if error not in (0, errno.EINPROGRESS):
            self.close()
            return
        self._loop.watch(self._server.fileno(), WRITE, self._connected)

    def close(self) -> None:
        """End both connections; idempotent."""
        if not self._open:
            return
        self._open = False
        for sock in (self._client, self._server):
            self._loop.forget(sock.fileno())
            sock.close()
        self._ended(self)

    def _connected(self, _events: int) -> None:
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            return
        self._carry(0)

    def _carry(self, _events: int) -> None:
        if not self._open:
            return
        try:
            for way in self._ways:
                way.carry()
        except OSError:
            self.close()
            return
        if all(way.finished for way in self._ways):
            self.close()
            return
        for sock in (self._client, self._server):
            events = 0
            for way in self._ways:
                if way.source is sock and not way.waiting and not way.ended:
                    events |= READ
                if way.target is sock and way.waiting:
                    events |= WRITE
            if events:
                self._loop.watch(sock.fileno(), events, self._carry)
            else:  # watched for nothing it would report its end for ever
                self._loop.forget(sock.fileno())
