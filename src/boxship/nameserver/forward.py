"""Ask other servers: in order, the next one a little later, the first good reply wins.

A *lookup* is one query of a client on its way; each of its *attempts* is one socket, connected to one server from a random
port, and one random id. The kernel lets through what comes from that server; a reply counts only with that id and question.

The first server gets :data:`HEDGE` seconds before the second is asked as well. One that says nothing is *sick*: it is asked
last for :data:`SICK` seconds, and then once together with the next one, so that finding out costs nobody time.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque

from boxship.linux import namespaces
from boxship.shim.loop import READ, WRITE
from boxship.wire import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boxship.shim.loop import Loop

HEDGE = 0.2
RETRY = 1.0  # seconds after which servers that were all asked are asked again
PATIENCE = 4.0  # seconds until a lookup fails; resolvers wait 5
SICK = 10.0
ROUNDS = 2
SOCKETS = 8192  # open at a time
_FORGERIES = 32  # wrong replies after which an attempt is given up: somebody guesses
_UNHELPFUL = frozenset((dns.FORMERR, dns.SERVFAIL, dns.NOTIMP, dns.REFUSED))


class Vantage:
    """A network namespace that servers are asked from, and which of them are sick there."""

    __slots__ = ("_home", "_namespace", "attempts", "sick")

    def __init__(self, namespace: int | None = None, home: int = -1) -> None:
        """``namespace`` is an open nsfs file, None for the one this thread is in, which is that of ``home``."""
        self._namespace = namespace
        self._home = home
        self.sick: dict[tuple[str, int], float] = {}  # until when
        self.attempts: set[_Attempt] = set()  # those that hold a socket there

    def open(self, family: int, kind: int) -> socket.socket:
        """Return a new socket; raises OSError."""
        flags = kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        if self._namespace is None:
            return socket.socket(family, flags)
        if self._namespace < 0:
            raise OSError(errno.ENETDOWN, "the sandbox is gone")
        namespaces.setns(self._namespace, namespaces.CLONE_NEWNET)
        try:
            return socket.socket(family, flags)
        finally:
            _return(self._home)

    def close(self) -> None:
        """Open no socket there any more; the owner closes the file."""
        self._namespace = -1


class Server:
    """One place to ask."""

    __slots__ = ("address", "port", "vantage")

    def __init__(self, vantage: Vantage, address: str, port: int) -> None:
        self.vantage = vantage
        self.address = address
        self.port = port

    @property
    def is_sick(self) -> bool:
        return (self.address, self.port) in self.vantage.sick

    def is_due(self, now: float) -> bool:
        """Tell whether a sick server may have recovered."""
        return self.vantage.sick[self.address, self.port] <= now

    def fell_sick(self, now: float) -> None:
        self.vantage.sick[self.address, self.port] = now + SICK

    def recovered(self) -> None:
        self.vantage.sick.pop((self.address, self.port), None)


class Lookup:
    """One query on its way; ``answered`` gets the reply, or None when nobody gave one."""

    __slots__ = ("answered", "asked", "attempts", "done", "fallback", "query", "servers", "stream")

    def __init__(
        self, query: dns.Query, servers: list[Server], stream: bool, answered: Callable[[bytes | None], None]
    ) -> None:
        self.query = query
        self.servers = servers
        self.stream = stream
        self.answered = answered
        self.asked = 0  # attempts so far
        self.attempts: list[_Attempt] = []  # those still open
        self.fallback: bytes | None = None
        self.done = False


class Forwarder:
    """All lookups of the process."""

    def __init__(self, loop: Loop, *, sockets: int = SOCKETS) -> None:
        self._loop = loop
        self._limit = sockets
        self._open = 0
        self._hedges = _Delay(loop, HEDGE, self._later)
        self._retries = _Delay(loop, RETRY, self._later)
        self._ends = _Delay(loop, PATIENCE, self._expire)

    @property
    def open_sockets(self) -> int:
        return self._open

    def ask(
        self, query: dns.Query, servers: Sequence[Server], *, stream: bool, answered: Callable[[bytes | None], None]
    ) -> None:
        """Have a query answered over TCP (``stream``) or UDP; ``answered`` is called once, maybe before this returns."""
        now = time.monotonic()
        due = [server for server in servers if server.is_sick and server.is_due(now)]
        healthy = [server for server in servers if not server.is_sick]
        sick = [server for server in servers if server.is_sick and server not in due]
        lookup = Lookup(query, [*due, *healthy, *sick], stream, answered)
        self._ends.add(lookup, 0)
        for server in due if healthy else ():
            server.fell_sick(now)  # until it answers: one lookup finds out
            self._attempt(lookup, probe=True)
        self._next(lookup)

    def _next(self, lookup: Lookup) -> None:
        """Ask the next server that can be asked; end the lookup when there is none and nobody is waited for."""
        while lookup.asked < len(lookup.servers) * ROUNDS:
            if self._attempt(lookup):
                delay = self._hedges if lookup.asked < len(lookup.servers) else self._retries
                delay.add(lookup, lookup.asked)
                return
            if lookup.asked >= len(lookup.servers):
                break
        if not lookup.attempts:
            self._finish(lookup, lookup.fallback)

    def _attempt(self, lookup: Lookup, *, probe: bool = False) -> bool:
        server = lookup.servers[lookup.asked % len(lookup.servers)]
        lookup.asked += 1
        if self._open >= self._limit:
            return False
        try:
            attempt = (_StreamAttempt if lookup.stream else _Attempt)(self, lookup, server, probe)
        except OSError:
            server.fell_sick(time.monotonic())
            return False
        lookup.attempts.append(attempt)
        server.vantage.attempts.add(attempt)
        self._open += 1
        self._loop.watch(attempt.fd, attempt.interest, attempt.ready)
        return True

    def _later(self, lookup: Lookup, asked: int) -> None:
        if not lookup.done and lookup.asked == asked:
            self._next(lookup)

    def _expire(self, lookup: Lookup, _: int) -> None:
        now = time.monotonic()
        for attempt in list(lookup.attempts):
            attempt.server.fell_sick(now)
            self._close(attempt)
        if not lookup.done:
            self._finish(lookup, lookup.fallback)

    def leave(self, vantage: Vantage) -> None:
        """End all that is asked from a namespace, which could not end otherwise."""
        vantage.close()
        for attempt in list(vantage.attempts):
            self._close(attempt)
            lookup = attempt.lookup
            if not lookup.done and not lookup.attempts:
                self._finish(lookup, lookup.fallback)

    def replied(self, attempt: _Attempt, reply: bytes) -> None:
        """Take a server's reply."""
        lookup = attempt.lookup
        attempt.server.recovered()
        self._close(attempt)
        if lookup.done:
            return
        if dns.code_of(reply) not in _UNHELPFUL:
            self._finish(lookup, reply)
            return
        lookup.fallback = lookup.fallback or reply
        self._go_on(lookup)

    def failed(self, attempt: _Attempt) -> None:
        """Note that a server cannot be reached, or talks nonsense."""
        attempt.server.fell_sick(time.monotonic())
        self._close(attempt)
        if not attempt.lookup.done:
            self._go_on(attempt.lookup)

    def watch(self, attempt: _Attempt) -> None:
        """Wait for what an attempt is interested in now."""
        self._loop.watch(attempt.fd, attempt.interest, attempt.ready)

    def _go_on(self, lookup: Lookup) -> None:
        if lookup.asked < len(lookup.servers):
            self._next(lookup)
        elif not lookup.attempts:
            self._finish(lookup, lookup.fallback)

    def _finish(self, lookup: Lookup, reply: bytes | None) -> None:
        lookup.done = True
        now = time.monotonic()
        for attempt in list(lookup.attempts):
            if attempt.probe:
                continue  # it may show until the end that it is well
            if now - attempt.since >= HEDGE:
                attempt.server.fell_sick(now)
            self._close(attempt)
        lookup.answered(reply)

    def _close(self, attempt: _Attempt) -> None:
        attempt.lookup.attempts.remove(attempt)
        attempt.server.vantage.attempts.discard(attempt)
        self._loop.forget(attempt.fd)
        attempt.sock.close()
        self._open -= 1


class _Attempt:
    """A query sent to one server over UDP."""

    __slots__ = ("fd", "forgeries", "forwarder", "id", "interest", "lookup", "probe", "server", "since", "sock")

    def __init__(self, forwarder: Forwarder, lookup: Lookup, server: Server, probe: bool) -> None:
        """Send it; raises OSError."""
        self.forwarder = forwarder
        self.lookup = lookup
        self.server = server
        self.probe = probe
        self.since = time.monotonic()
        self.forgeries = 0
        self.id = int.from_bytes(os.urandom(2), "big")
        self.interest = READ
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        self.sock = server.vantage.open(family, socket.SOCK_STREAM if lookup.stream else socket.SOCK_DGRAM)
        self.fd = self.sock.fileno()
        try:
            self._begin()
        except OSError:
            self.sock.close()
            raise

    def _begin(self) -> None:
        self.sock.connect((self.server.address, self.server.port))
        self.sock.send(dns.with_id(self.lookup.query.data, self.id))

    def ready(self, _events: int) -> None:
        """Take what came."""
        try:
            self._take(self.sock.recv(dns.LIMIT))
        except BlockingIOError:
            pass
        except OSError:
            self.forwarder.failed(self)

    def _take(self, message: bytes) -> None:
        if dns.is_reply(self.lookup.query, self.id, message):
            self.forwarder.replied(self, message)
            return
        self.forgeries += 1
        if self.forgeries >= _FORGERIES:
            self.forwarder.failed(self)


class _StreamAttempt(_Attempt):
    """The same over TCP."""

    __slots__ = ("received", "unsent")

    def _begin(self) -> None:
        self.interest = WRITE
        self.unsent = dns.for_stream(dns.with_id(self.lookup.query.data, self.id))
        self.received = bytearray()
        try:
            self.sock.connect((self.server.address, self.server.port))
        except BlockingIOError:
            pass

    def ready(self, _events: int) -> None:
        """Go on sending, then receiving."""
        try:
            if self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
                if not self.unsent:
                    self.interest = READ
                    self.forwarder.watch(self)
                return
            piece = self.sock.recv(dns.LIMIT)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.forwarder.failed(self)
            return
        self.received += piece
        for message in dns.stream_messages(self.received):
            self._take(message)
            return


class _Delay:
    """Calls ``then`` for each thing added, a fixed time later; costs nothing per thing that waits."""

    def __init__(self, loop: Loop, seconds: float, then: Callable[[Lookup, int], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._then = then
        self._waiting: deque[tuple[float, Lookup, int]] = deque()

    def add(self, lookup: Lookup, number: int) -> None:
        self._waiting.append((time.monotonic() + self._seconds, lookup, number))
        if len(self._waiting) == 1:
            self._loop.after(self._seconds, self._due)

    def _due(self) -> None:
        now = time.monotonic()
        waiting = self._waiting
        while waiting and (waiting[0][0] <= now or (waiting[0][1].done and not waiting[0][1].attempts)):
            _, lookup, number = waiting.popleft()
            self._then(lookup, number)
        if waiting:
            self._loop.after(waiting[0][0] - now, self._due)


def _return(home: int) -> None:
    """Go back to our own namespace; a process in the wrong one must not go on."""
    try:
        namespaces.setns(home, namespaces.CLONE_NEWNET)
    except OSError:
        os._exit(70)  # EX_SOFTWARE in sysexits.h
