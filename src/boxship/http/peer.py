"""Who is at the other end of a connection, as far as the kernel and TLS can tell.

``current`` holds the peer of the request that is being handled. It is inherited by everything that the request starts, also
by what outlives it: only code that a request calls directly may look at it.
"""

from __future__ import annotations

import socket
import struct
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

MAX_TEXT = 64  # characters that are kept of what a client says of itself

_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A client: of a Unix socket with its process, of TCP with its address, of TLS with its certificate's name too."""

    transport: str  # unix, tcp, tls
    uid: int = -1
    pid: int = 0  # 0: in another PID namespace
    program: str = ""  # the process's name, which it may choose itself
    address: str = ""
    certificate: str = ""
    agent: str = ""  # what it says that it is


current: ContextVar[Peer | None] = ContextVar("peer", default=None)


def of_socket(sock: socket.socket, agent: str = "") -> Peer | None:
    """Return who is connected to an accepted socket, None when it is gone already."""
    agent = agent[:MAX_TEXT]
    try:
        if sock.family == socket.AF_UNIX:
            data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(data)
            return Peer(transport="unix", uid=uid, pid=pid, program=_program(pid), agent=agent)
        return Peer(transport="tcp", address=address_text(sock.getpeername()), agent=agent)
    except OSError:
        return None


def address_text(name: tuple[Any, ...]) -> str:
    """Return an address as ``getpeername`` gives it as text."""
    host, port = str(name[0]), name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def common_name(certificate: dict[str, Any] | None) -> str:
    """Return the common name of a verified certificate (``ssl.SSLObject.getpeercert``), "" without one."""
    for fields in (certificate or {}).get("subject", ()):
        for name, value in fields:
            if name == "commonName":
                return str(value)[:MAX_TEXT]
    return ""


def _program(pid: int) -> str:
    if pid <= 0:
        return ""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes()[:MAX_TEXT].decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
