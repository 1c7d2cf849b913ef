"""Host ports: who has which, and sockets that keep other programs of the host away from them.

A published port is forwarded by the firewall before any socket sees it. The socket that is kept for it serves two ends: a
program that has the port already is noticed, and one that wants it later is refused. It listens, since only a listening
socket keeps out others that set SO_REUSEADDR, and a filter drops what the firewall let through, but for the proxy's share.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence

from boxship.base.errors import InvalidInput
from boxship.networks.models import PublishedPort
from boxship.networks.publishing.publish import ANY, ANY_V6, Claim
from boxship.networks.publishing.relay import Share

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_LD_W_ABS, _JEQ_K, _RET_K = 0x20, 0x15, 0x06  # linux/bpf_common.h
_INTERFACE = 0xFFFFF008  # linux/filter.h: SKF_AD_OFF + SKF_AD_IFINDEX
_LOOPBACK = 1  # the index of lo in each network namespace
_WHOLE = 0xFFFFFFFF
_FILTERS = {  # code, jump if true, jump if false, operand; returning 0 keeps nothing of a packet
    Share.NOTHING: ((_RET_K, 0, 0, 0),),
    Share.LOOPBACK: (
        (_LD_W_ABS, 0, 0, _INTERFACE),
        (_JEQ_K, 0, 1, _LOOPBACK),
        (_RET_K, 0, 0, _WHOLE),
        (_RET_K, 0, 0, 0),
    ),
}
_BACKLOG = 4096  # as many as the kernel lets
_SCTP = 132  # linux/in.h

FIRST_RANDOM_PORT = 32768  # what Linux and Docker use when ip_local_port_range can't be read
LAST_RANDOM_PORT = 60999

Reserve = Callable[[str, str, int, Share], socket.socket | None]
"""Bind a socket for (protocol, address, port, proxy's share), or return None where none is needed; raises OSError."""

ShareOf = Callable[[str, str], Share]
"""Return the proxy's share of a port at a host's address that leads to a container's."""


class PortTaken(Exception):
    """No port of a claim is to be had. ``port`` is the first of it, ``error`` the host's errno, 0: a container has it."""

    def __init__(self, claim: Claim, port: int, error: int) -> None:
        where = f"[{claim.host_ip}]:{port}" if ":" in claim.host_ip else f"{claim.host_ip}:{port}"
        reason = "port is already allocated" if error == 0 else os.strerror(error).lower()
        super().__init__(f"Bind for {where} failed: {reason}")
        self.claim = claim
        self.port = port
        self.error = error


class PortTable:
    """The ports that containers have published, with their sockets.

    A port on a wildcard address excludes the same port on every address of its family, and the other way round.
    """

    def __init__(
        self,
        reserve: Reserve,
        random_range: tuple[int, int] = (FIRST_RANDOM_PORT, LAST_RANDOM_PORT),
        *,
        share: ShareOf = lambda _, __: Share.NOTHING,
    ) -> None:
        self._reserve = reserve
        self._share = share
        self._first, self._last = random_range
        self._next: dict[tuple[str, str], int] = {}  # (protocol, address): where the search for a free port goes on
        self._holders: dict[tuple[str, int], dict[str, socket.socket | None]] = {}

    def take(self, claim: Claim, targets: Sequence[tuple[str, str]]) -> list[PublishedPort]:
        """Give a claim one port, the same on each of ``targets`` (host address, container's address); raises PortTaken."""
        first_error: PortTaken | None = None
        for port in self._candidates(claim):
            try:
                with contextlib.ExitStack() as undo:
                    given = [self._take_one(claim, host_ip, own, port, undo) for host_ip, own in targets]
                    undo.pop_all()
            except PortTaken as exc:
                first_error = first_error or exc
                if exc.error not in (0, errno.EADDRINUSE):
                    break
                continue
            if not claim.first:
                self._next[(claim.protocol, claim.host_ip)] = port + 1 if port < self._last else self._first
            return given
        if first_error is None:
            raise InvalidInput(f"no ports between {self._first} and {self._last}")
        raise first_error

    def adopt(self, port: PublishedPort) -> None:
        """Take the very port a running container has; if another program got its socket meanwhile, go without one."""
        try:
            held = self._reserve(
                port.protocol, port.host_ip, port.host_port, self._share(port.host_ip, port.container_ip)
            )
        except OSError:
            held = None
        self._holders.setdefault((port.protocol, port.host_port), {})[port.host_ip] = held

    def socket_of(self, port: PublishedPort) -> socket.socket | None:
        """Return the socket of a port that is taken; one that could not be had at first is tried again."""
        key = (port.protocol, port.host_port)
        if port.host_ip in self._holders.get(key, {}) and self._holders[key][port.host_ip] is None:
            self.adopt(port)
        return self._holders.get(key, {}).get(port.host_ip)

    def give_back(self, port: PublishedPort) -> None:
        """Free a port and close its socket; one that is not taken is no error."""
        key = (port.protocol, port.host_port)
        holders = self._holders.get(key, {})
        held = holders.pop(port.host_ip, None)
        if held is not None:
            if held.type == socket.SOCK_STREAM:
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)  # at once, though the proxy may have it open for a moment more
            held.close()
        if not holders:
            self._holders.pop(key, None)

    def close(self) -> None:
        """Close all sockets."""
        for holders in self._holders.values():
            for held in holders.values():
                if held is not None:
                    held.close()
        self._holders.clear()

    def __len__(self) -> int:
        return sum(len(holders) for holders in self._holders.values())

    def _candidates(self, claim: Claim) -> list[int] | range:
        if claim.first:
            return range(claim.first, claim.last + 1)
        start = self._next.get((claim.protocol, claim.host_ip), self._first)
        return [*range(start, self._last + 1), *range(self._first, start)]

    def _take_one(
        self, claim: Claim, host_ip: str, container_ip: str, port: int, undo: contextlib.ExitStack
    ) -> PublishedPort:
        place = claim._replace(host_ip=host_ip)
        if any(_exclude(host_ip, other) for other in self._holders.get((claim.protocol, port), {})):
            raise PortTaken(place, port, 0)
        try:
            held = self._reserve(claim.protocol, host_ip, port, self._share(host_ip, container_ip))
        except OSError as exc:
            raise PortTaken(place, port, exc.errno or errno.EIO) from exc
        self._holders.setdefault((claim.protocol, port), {})[host_ip] = held
        given = PublishedPort(
            protocol=claim.protocol,
            host_ip=host_ip,
            host_port=port,
            container_ip=container_ip,
            container_port=claim.container_port,
        )
        undo.callback(self.give_back, given)
        return given


def _exclude(one: str, other: str) -> bool:
    """Tell whether two host addresses can't have the same port: a wildcard has all of its family."""
    return one == other or ((":" in one) is (":" in other) and bool({one, other} & {ANY, ANY_V6}))


def reserve(protocol: str, address: str, port: int, share: Share = Share.NOTHING) -> socket.socket | None:
    """Bind a socket that keeps ``port`` and receives the proxy's share; None where SCTP has no proxy, or no sockets.

    Raises OSError: EADDRINUSE, EADDRNOTAVAIL (the address is not the host's), EACCES.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if protocol == "sctp":
        if share is Share.NOTHING:
            return None
        try:
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, _SCTP)
        except OSError:  # a module that this kernel has not
            return None
    else:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share in _FILTERS:
            steps = b"".join(struct.pack("=HBBI", *step) for step in _FILTERS[share])
            program = ctypes.create_string_buffer(steps, len(steps))
            described = struct.pack("@HP", len(_FILTERS[share]), ctypes.addressof(program))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        if protocol != "udp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no users
        elif share is not Share.NOTHING:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the proxy may have an earlier one for a moment
        sock.bind((address, port))
        if protocol != "udp":
            sock.listen(0 if share is Share.NOTHING else _BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def read_random_range(path: str = "/proc/sys/net/ipv4/ip_local_port_range") -> tuple[int, int]:
    """Return the range that random ports come from: the kernel's own for outgoing connections, as Docker uses."""
    try:
        with open(path, encoding="ascii") as file:
            first, last = file.read().split()
            return int(first), int(last)
    except (OSError, ValueError):
        return FIRST_RANDOM_PORT, LAST_RANDOM_PORT
