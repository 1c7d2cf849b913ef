"""Host ports: who has which, and sockets that keep other programs of the host away from them.

A published port is forwarded by the firewall before any socket sees it. The socket that is kept for it serves two ends: a
program that has the port already is noticed, and one that wants it later is refused. It listens, since only a listening
socket keeps out others that set SO_REUSEADDR, and a filter drops what the firewall let through.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable

from boxship.base.errors import InvalidInput
from boxship.networks.models import PublishedPort
from boxship.networks.publish import ANY, Claim

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_BPF_RET_K = 0x06  # linux/bpf_common.h: BPF_RET | BPF_K; a filter that returns 0 keeps nothing
_DROP_ALL = struct.pack("=HBBI", _BPF_RET_K, 0, 0, 0)

FIRST_RANDOM_PORT = 32768  # what Linux and Docker use when ip_local_port_range can't be read
LAST_RANDOM_PORT = 60999

Reserve = Callable[[str, str, int], socket.socket | None]
"""Bind a socket for (protocol, address, port), or return None where none is needed; raises OSError."""


class PortTaken(Exception):
    """No port of a claim is to be had. ``port`` is the first of it, ``error`` the host's errno, 0: a container has it."""

    def __init__(self, claim: Claim, port: int, error: int) -> None:
        where = f"{claim.host_ip}:{port}"
        reason = "port is already allocated" if error == 0 else os.strerror(error).lower()
        super().__init__(f"Bind for {where} failed: {reason}")
        self.claim = claim
        self.port = port
        self.error = error


class PortTable:
    """The ports that containers have published, with their sockets.

    A port on the wildcard address excludes the same port on every address, and the other way round.
    """

    def __init__(self, reserve: Reserve, random_range: tuple[int, int] = (FIRST_RANDOM_PORT, LAST_RANDOM_PORT)) -> None:
        self._reserve = reserve
        self._first, self._last = random_range
        self._next: dict[tuple[str, str], int] = {}  # (protocol, address): where the search for a free port goes on
        self._holders: dict[tuple[str, int], dict[str, socket.socket | None]] = {}

    def take(self, claim: Claim, container_ip: str) -> PublishedPort:
        """Give one port to a claim; raises PortTaken."""
        first_error: PortTaken | None = None
        for port in self._candidates(claim):
            try:
                self._take_one(claim, port)
            except PortTaken as exc:
                first_error = first_error or exc
                if exc.error not in (0, errno.EADDRINUSE):
                    break
                continue
            return PublishedPort(
                protocol=claim.protocol,
                host_ip=claim.host_ip,
                host_port=port,
                container_ip=container_ip,
                container_port=claim.container_port,
            )
        if first_error is None:
            raise InvalidInput(f"no ports between {self._first} and {self._last}")
        raise first_error

    def adopt(self, port: PublishedPort) -> None:
        """Take the very port a running container has; if another program got its socket meanwhile, go without one."""
        try:
            held = self._reserve(port.protocol, port.host_ip, port.host_port)
        except OSError:
            held = None
        self._holders.setdefault((port.protocol, port.host_port), {})[port.host_ip] = held

    def give_back(self, port: PublishedPort) -> None:
        """Free a port and close its socket; one that is not taken is no error."""
        key = (port.protocol, port.host_port)
        holders = self._holders.get(key, {})
        held = holders.pop(port.host_ip, None)
        if held is not None:
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

    def _take_one(self, claim: Claim, port: int) -> None:
        holders = self._holders.get((claim.protocol, port), {})
        if claim.host_ip in holders or ANY in holders or (claim.host_ip == ANY and holders):
            raise PortTaken(claim, port, 0)
        try:
            held = self._reserve(claim.protocol, claim.host_ip, port)
        except OSError as exc:
            raise PortTaken(claim, port, exc.errno or errno.EIO) from exc
        self._holders.setdefault((claim.protocol, port), {})[claim.host_ip] = held
        if not claim.first:
            self._next[(claim.protocol, claim.host_ip)] = port + 1 if port < self._last else self._first


def reserve(protocol: str, address: str, port: int) -> socket.socket | None:
    """Bind a socket that keeps ``port`` and receives nothing; None for SCTP, which has no such socket here.

    Raises OSError: EADDRINUSE, EADDRNOTAVAIL (the address is not the host's), EACCES.
    """
    if protocol == "sctp":
        return None
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are no users
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(0)
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
