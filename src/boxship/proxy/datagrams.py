"""Datagrams of published ports: each client has a socket of its own to the container, until it is silent for a while."""

from __future__ import annotations

import socket
import struct
import time

from boxship.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxship.shim.loop import Loop, Timer

SILENCE = 90.0  # seconds until a client is forgotten; Docker's
CLIENTS = 1024  # of one port; the one that was silent for longest makes room
_BATCH = 32  # datagrams in one go
_LARGEST = 65535
_IP_PKTINFO = 8  # linux/in.h: at which of our addresses a datagram arrived
_SPACE = 128  # bytes for one such message
_IPV4 = struct.Struct("=i4s4s")  # struct in_pktinfo: interface, our address, address in the header
_IPV6 = struct.Struct("=16si")  # struct in6_pktinfo


class _Client:
    __slots__ = ("ancillary", "heard", "peer", "sock")

    def __init__(self, peer: tuple[Any, ...], ancillary: list[tuple[int, int, bytes]], sock: socket.socket) -> None:
        self.peer = peer
        self.ancillary = ancillary  # to answer from the address that it asked
        self.sock = sock
        self.heard = time.monotonic()


class DatagramPort:
    """One bound socket and its clients."""

    def __init__(self, sock: socket.socket, target: tuple[str, int], loop: Loop) -> None:
        """``sock`` is owned from now on; ``target`` is the container's address and port."""
        self.target = target
        self._sock = sock
        self._loop = loop
        self._clients: dict[tuple[Any, ...], _Client] = {}  # the one that was silent for longest first
        self._sweep: Timer | None = None
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        loop.watch(sock.fileno(), READ, lambda _: self._readable())

    @property
    def connections(self) -> int:
        """How many clients are known."""
        return len(self._clients)

    def close(self, *, drop: bool) -> None:  # noqa: ARG002
        """Take and send no more: without the port no answer could be sent, so all clients go."""
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        for key in list(self._clients):
            self._forget(key)
        if self._sweep is not None:
            self._sweep.cancel()

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, peer = self._sock.recvmsg(_LARGEST, _SPACE)
            except OSError:
                return
            client = self._client(peer, _answering(ancillary))
            if client is None:
                continue
            try:
                client.sock.send(data)
            except OSError:
                pass  # nobody listens, or the buffer is full: datagrams may get lost

    def _client(self, peer: tuple[Any, ...], ancillary: list[tuple[int, int, bytes]]) -> _Client | None:
        key = (peer, *(data for _, _, data in ancillary))
        client = self._clients.pop(key, None)
        if client is None:
            if len(self._clients) >= CLIENTS:
                self._forget(next(iter(self._clients)))
            family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
            except OSError:
                return None
            sock.setblocking(False)
            try:
                sock.connect(self.target)
            except OSError:
                sock.close()
                return None
            client = _Client(peer, ancillary, sock)
            answered = client
            self._loop.watch(sock.fileno(), READ, lambda _: self._answer(answered))
            if self._sweep is None:
                self._sweep = self._loop.after(SILENCE / 3, self._forget_silent)
        client.heard = time.monotonic()
        self._clients[key] = client
        return client

    def _answer(self, client: _Client) -> None:
        for _ in range(_BATCH):
            try:
                data = client.sock.recv(_LARGEST)
            except OSError:  # also when the container refused what came before
                return
            client.heard = time.monotonic()
            try:
                self._sock.sendmsg([data], client.ancillary, 0, client.peer)
            except OSError:
                pass  # the client's buffer is full, or it is gone

    def _forget_silent(self) -> None:
        self._sweep = None
        now = time.monotonic()
        for key in [key for key, client in self._clients.items() if now - client.heard >= SILENCE]:
            self._forget(key)
        if self._clients:
            self._sweep = self._loop.after(SILENCE / 3, self._forget_silent)

    def _forget(self, key: tuple[Any, ...]) -> None:
        client = self._clients.pop(key)
        self._loop.forget(client.sock.fileno())
        client.sock.close()


def _answering(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return what makes an answer leave from the address that a datagram came to, by whatever interface."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, own, _ = _IPV4.unpack(data[: _IPV4.size])
            return [(level, kind, _IPV4.pack(0, own, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            own, _ = _IPV6.unpack(data[: _IPV6.size])
            return [(level, kind, _IPV6.pack(own, 0))]
    return []
