"""The sockets' ends that containers talk to: datagrams and connections."""

from __future__ import annotations

import socket

from boxship.shim.loop import READ, WRITE
from boxship.wire import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.nameserver.resolver import Resolver
    from boxship.nameserver.sandbox import Sandbox
    from boxship.shim.loop import Loop, Timer

IDLE = 10.0  # seconds a connection may be silent
CONNECTIONS = 64  # of one sandbox at a time
_BATCH = 32  # datagrams in one go, so that no sandbox keeps others waiting
_PENDING = 64  # queries of one connection on their way
_UNSENT = 1 << 20  # bytes of answers that a client may leave unread
_LARGEST_DATAGRAM = 4097  # one more than the longest query


def serve_datagrams(sandbox: Sandbox, resolver: Resolver) -> None:
    """Answer what waits at the UDP socket of a sandbox."""
    sock = sandbox.udp
    for _ in range(_BATCH):
        try:
            data, client = sock.recvfrom(_LARGEST_DATAGRAM)
        except OSError:
            return

        def send(answer: bytes, client: tuple[str, int] = client) -> None:
            try:
                sock.sendto(answer, client)
            except OSError:
                pass  # the client does not listen any more, or its buffer is full: it asks again

        resolver.serve(sandbox, data, send, stream=False)


def accept(sandbox: Sandbox, resolver: Resolver, loop: Loop) -> None:
    """Take a new connection of a sandbox; one too many is closed at once."""
    try:
        sock, _ = sandbox.tcp.accept()
    except OSError:
        return
    if len(sandbox.connections) >= CONNECTIONS:
        sock.close()
        return
    sock.setblocking(False)
    Connection(sock, sandbox, resolver, loop)


class Connection:
    """One client over TCP: any number of queries, answered as the answers come."""

    def __init__(self, sock: socket.socket, sandbox: Sandbox, resolver: Resolver, loop: Loop) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._sandbox = sandbox
        self._resolver = resolver
        self._loop = loop
        self._received = bytearray()
        self._unsent = bytearray()
        self._pending = 0
        self._ended = False  # the client has sent all it will
        self._open = True
        self._serving = False
        self._idle: Timer | None = None
        sandbox.connections.add(self)
        self._watch()

    def close(self) -> None:
        """Drop the connection; idempotent."""
        if not self._open:
            return
        self._open = False
        self._sandbox.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()
        self._loop.forget(self._fd)
        self._sock.close()

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE and self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
            if events & READ and not self._ended:
                piece = self._sock.recv(dns.LIMIT)
                self._ended = not piece
                self._received += piece
            elif not events & (READ | WRITE):
                self.close()  # reset
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        self._serve()

    def _serve(self) -> None:
        """Serve what was received as far as there is room for answers."""
        self._serving = True
        for message in dns.stream_messages(self._received):
            if dns.refusal(message, dns.FORMERR) is None:
                self.close()  # no query: nothing will ever answer that
                break
            self._pending += 1
            self._resolver.serve(self._sandbox, message, self._answer, stream=True)
            if not self._open or self._is_full():
                break
        self._serving = False
        self._watch()

    def _answer(self, answer: bytes) -> None:
        if not self._open:
            return
        self._pending -= 1
        self._unsent += dns.for_stream(answer)
        if not self._serving:
            self._serve()

    def _is_full(self) -> bool:
        return self._pending >= _PENDING or len(self._unsent) >= _UNSENT

    def _watch(self) -> None:
        if not self._open:
            return
        if self._ended and not self._pending and not self._unsent:
            self.close()
            return
        events = 0 if self._ended or self._is_full() else READ
        events |= WRITE if self._unsent else 0
        self._loop.watch(self._fd, events, self._ready)
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.after(IDLE, self.close)
