"""Addresses of engines (``unix://``, ``tcp://``, ``ssh://``, ``host:port``) and how to reach them.

Sockets come from ``_socket``: the ``socket`` module around it costs 6 ms at start and adds nothing that is needed here.
"""

from __future__ import annotations

import os
from _socket import (
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    SOCK_CLOEXEC,
    SOCK_STREAM,
    TCP_NODELAY,
    getaddrinfo,
    socket,
)

from boxship.client.errors import HostError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxship.http.client import Stream

BOXSHIP_SOCKET = "/run/boxship/boxship.sock"
DOCKER_SOCKET = "/var/run/docker.sock"
DEFAULT_PORT = "2375"
DEFAULT_TLS_PORT = "2376"


class TlsFiles:
    """Where certificate authority, certificate and key are; ``verify`` asks for a server that the authority knows."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str, cert: str, key: str, *, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


def default_host() -> str:
    """Return the address when nobody named one: Boxship's socket, or Docker's where only that exists."""
    if not os.path.exists(BOXSHIP_SOCKET) and os.path.exists(DOCKER_SOCKET):
        return "unix://" + DOCKER_SOCKET
    return "unix://" + BOXSHIP_SOCKET


def parse_host(text: str, *, tls: bool = False) -> str:
    """Return the address in full: scheme, host and port as Docker completes them.

    Raises HostError for anything that is no address.
    """
    text = text.strip()
    if not text:
        return default_host()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    match scheme:
        case "unix":
            return f"unix://{rest or DOCKER_SOCKET}"
        case "tcp" | "http" | "https":
            return f"tcp://{_complete(rest, text, tls=tls)}"
        case "ssh":
            from boxship.client.ssh import ssh_command

            ssh_command(text)  # says what is wrong with the address
            return text
        case _:
            raise HostError(f"invalid bind address format: {text}")


def _complete(address: str, text: str, *, tls: bool) -> str:
    address, slash, path = address.partition("/")
    if address.startswith("["):
        host, bracket, port = address.partition("]")
        host, port = host + bracket, port.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    port = port or (DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
    if not port.isdecimal():
        raise HostError(f"invalid bind address format: {text}")
    return f"{host or 'localhost'}:{port}{slash}{path}"


def dial(host: str, tls: TlsFiles | None) -> Stream:
    """Connect to ``host`` (an address as ``parse_host`` returns it).

    Raises UnreachableError when nobody listens there, HostError for TLS files that cannot be used.
    """
    scheme, _, rest = host.partition("://")
    try:
        if scheme == "unix":
            return _dial_unix(rest)
        if scheme == "ssh":
            from boxship.client.ssh import SshStream

            return SshStream(host)
        return _dial_tcp(rest.partition("/")[0], tls)
    except PermissionError as exc:
        raise HostError(
            f"permission denied while trying to connect to the Docker daemon socket at {host}: connect: permission denied"
        ) from exc
    except OSError as exc:
        raise UnreachableError(host) from exc


def _dial_unix(path: str) -> Stream:
    stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        stream.connect(path)
    except OSError:
        stream.close()
        raise
    return stream


def _dial_tcp(address: str, tls: TlsFiles | None) -> Stream:
    name, _, port = address.rpartition(":")
    name = name.strip("[]")
    error: OSError | None = None
    for family, kind, protocol, _, target in getaddrinfo(name, int(port), 0, SOCK_STREAM):
        stream = socket(family, kind | SOCK_CLOEXEC, protocol)
        try:
            stream.connect(target if family == AF_INET6 else target[:2])
        except OSError as exc:
            stream.close()
            error = exc
            continue
        stream.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return _wrap_tls(stream, name, tls) if tls else stream
    raise error or OSError(f"no address for {name}")


def _wrap_tls(stream: socket, name: str, tls: TlsFiles) -> Stream:
    from boxship.client.tls import TlsStream

    return TlsStream(stream, name, tls)
