"""Where the API listens: Unix sockets, TCP with and without TLS, sockets passed by systemd.

A Unix socket appears under its name with its final owner and mode: it is bound in a private directory beside it and then
renamed, so that there is no moment at which others can connect. A socket that a dead daemon left is replaced; one that
somebody answers on is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import ipaddress
import logging
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Coroutine, Iterable
from typing import NamedTuple

from boxship.http.peer import Peer
from boxship.http.server import Server
from boxship.http.tls import TlsRelay

log = logging.getLogger("boxship.http")

PLAIN_PORT, TLS_PORT = 2375, 2376
FIRST_PASSED_FD = 3  # sd_listen_fds(3)
BACKLOG = 1024
MODE = 0o660
MAX_UNIX_PATH = 107  # bytes, sun_path without its end


class ListenError(Exception):
    """A listener could not be opened; the text names it."""


class Address(NamedTuple):
    """One ``-H`` value: scheme unix (path), tcp (host, port) or fd (path holds what follows ``fd://``)."""

    scheme: str
    path: str
    port: int = 0

    def __str__(self) -> str:
        if self.scheme != "tcp":
            return f"{self.scheme}://{self.path}"
        return f"tcp://[{self.path}]:{self.port}" if ":" in self.path else f"tcp://{self.path}:{self.port}"


def parse_address(text: str, *, tls: bool, default_socket: str) -> Address:
    """Return the address that ``text`` means; without a scheme it is TCP. Raises ListenError."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "tcp", scheme
    match scheme:
        case "unix":
            path = os.path.abspath(rest) if rest else default_socket
            if len(os.fsencode(path)) > MAX_UNIX_PATH:
                raise ListenError(f"invalid bind address ({text}): path is longer than {MAX_UNIX_PATH} bytes")
            return Address("unix", path)
        case "fd":
            return Address("fd", rest)
        case "tcp":
            return _parse_tcp(text, rest, TLS_PORT if tls else PLAIN_PORT)
    raise ListenError(f"invalid bind address ({text}): unsupported proto '{scheme}'")


class Listeners:
    """All listening sockets of one server; ``open`` binds them, ``start`` begins to accept, ``close`` ends both."""

    def __init__(self) -> None:
        self._plain: list[socket.socket] = []
        self._tls: list[tuple[socket.socket, ssl.SSLContext]] = []
        self._paths: list[tuple[str, int]] = []  # of our Unix sockets, with their inodes
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, addresses: Iterable[Address], *, group: str, tls: ssl.SSLContext | None) -> None:
        """Bind all addresses, or none. Raises ListenError."""
        try:
            for address in addresses:
                match address.scheme:
                    case "unix":
                        sock = _bind_unix(address.path, _group_id(group))
                        self._paths.append((address.path, os.stat(address.path).st_ino))
                        self._plain.append(sock)
                    case "fd":
                        self._plain += passed_sockets()
                    case _:
                        found = _bind_tcp(address)
                        if tls is None:
                            self._plain += found
                        else:
                            self._tls += [(sock, tls) for sock in found]
        except BaseException:
            self._close_sockets()
            raise

    async def start(self, server: Server) -> None:
        """Accept connections on all sockets and give them to ``server``."""
        loop = asyncio.get_running_loop()
        for sock in self._plain:
            self._servers.append(await loop.create_server(server, sock=sock, backlog=BACKLOG))
        for sock, context in self._tls:
            self._own(self._accept_tls(sock, context, server))

    async def close(self) -> None:
        """Stop listening and remove our Unix sockets; established connections are left to the server."""
        for listener in self._servers:
            listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_sockets()

    async def _accept_tls(self, sock: socket.socket, context: ssl.SSLContext, server: Server) -> None:
        loop = asyncio.get_running_loop()

        async def serve(plain: socket.socket, peer: Peer) -> None:
            _, connection = await loop.connect_accepted_socket(server, plain)
            connection.peer = peer

        while True:
            try:
                tcp, _ = await loop.sock_accept(sock)
            except ConnectionAbortedError:  # the client left in the queue
                continue
            except OSError as exc:  # out of descriptors or memory: others may give some back
                log.error("accept: %s", exc)
                await asyncio.sleep(1)
                continue
            self._own(TlsRelay(tcp, context).run(serve))

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close_sockets(self) -> None:
        for sock in [*self._plain, *(sock for sock, _ in self._tls)]:
            sock.close()
        for path, inode in self._paths:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == inode:  # somebody else's by now otherwise
                    os.unlink(path)
        self._plain, self._tls, self._paths = [], [], []


def passed_sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd passed (LISTEN_FDS). Raises ListenError when there are none."""
    count = os.environ.pop("LISTEN_FDS", "0")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        raise ListenError("no sockets found via socket activation: make sure the service was started by systemd")
    sockets = []
    for fd in range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(count)):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
        sockets[-1].setblocking(False)
    return sockets


def _parse_tcp(text: str, rest: str, default_port: int) -> Address:
    rest = rest.rstrip("/")
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ListenError(f"invalid bind address ({text})")
        port = tail[1:]
    else:
        host, _, port = rest.partition(":")
    number = port or str(default_port)
    if not (number.isascii() and number.isdecimal() and int(number[:6]) <= 65535) or "/" in host or "@" in host:
        raise ListenError(f"invalid bind address ({text})")
    return Address("tcp", host or "127.0.0.1", int(number))


def _bind_unix(path: str, gid: int) -> socket.socket:
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=directory) as private:  # mode 0700
            # Through the directory's descriptor: the private name may be longer than a socket address can be.
            fd = os.open(private, os.O_PATH | os.O_DIRECTORY)
            try:
                sock.bind(f"/proc/self/fd/{fd}/s")
                os.chown("s", 0 if os.geteuid() == 0 else -1, gid, dir_fd=fd)
                os.chmod("s", MODE, dir_fd=fd)
                sock.listen(BACKLOG)
                os.rename("s", path, src_dir_fd=fd)
            finally:
                os.close(fd)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise ListenError(f"can't create unix socket {path}: {exc.strerror}") from exc
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket nobody answers on. Raises ListenError if somebody does, or if it is no socket."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ListenError(f"can't create unix socket {path}: a file that is no socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError:  # a full queue is an answer too
            pass
    raise ListenError(f"can't create unix socket {path}: another process listens on it")


def _group_id(name: str) -> int:
    """Return the group's id; 0 when there is no such group, so that only root gets in."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        log.debug("Group %s is not found: only root can use the API socket", name)
        return 0


def _bind_tcp(address: Address) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, target in socket.getaddrinfo(
            address.path, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(target)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError as exc:
        for sock in sockets:
            sock.close()
        text = (exc.strerror or str(exc)).lower()
        raise ListenError(f"listen tcp {address.path}:{address.port}: bind: {text}") from exc
    return sockets


def is_loopback(address: Address) -> bool:
    """Return whether only this machine reaches the address (names other than localhost count as reachable)."""
    if address.scheme != "tcp" or address.path == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.path).is_loopback
    except ValueError:
        return False
