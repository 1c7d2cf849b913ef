"""Sockets that wait for clients in a process's network namespace, from /proc/<pid>/net; see proc(5)."""

from __future__ import annotations

import socket

_MOST_BYTES = 4 << 20  # of each file; a line has about 150
_LISTEN, _UNCONNECTED = "0A", "07"  # net/tcp_states.h: TCP_LISTEN; of udp sockets TCP_CLOSE


def listening(pid: int, protocol: str) -> list[tuple[str, int]]:
    """Return address and port of each socket of ``tcp`` or ``udp`` that waits for clients.

    Raises OSError, when there is no such process any more.
    """
    found = []
    for name in (protocol, f"{protocol}6"):
        with open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
            found += read_table(file.read(_MOST_BYTES), protocol)
    return found


def read_table(text: str, protocol: str) -> list[tuple[str, int]]:
    """Return what a table of ``protocol`` says of sockets that wait for clients."""
    wanted = _LISTEN if protocol == "tcp" else _UNCONNECTED
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == wanted:
            address, _, port = fields[1].partition(":")
            found.append((_address(address), int(port, 16)))
    return found


def _address(digits: str) -> str:
    """Return an address of 32-bit words in hexadecimal, each in the machine's byte order."""
    words = [int(digits[place : place + 8], 16) for place in range(0, len(digits), 8)]
    packed = b"".join(socket.htonl(word).to_bytes(4, "big") for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
