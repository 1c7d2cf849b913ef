"""The sockets of a sandbox, and how queries to port 53 get to them.

Port 53 of the sandbox stays free for its own programs: the sockets have a random port of 127.0.0.11, and one table rewrites
the port of packets to and from there. That is done without state (``notrack``), since a connection tracked per query fills
the kernel's table, and since tracking would be switched on for all other packets of the sandbox.
"""

from __future__ import annotations

import os
import queue
import socket
import threading

from boxship.linux import namespaces, nftables
from boxship.nameserver import table
from boxship.nameserver.forward import Server, Vantage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from boxship.nameserver.clients import Connection

ADDRESS = "127.0.0.11"
TABLE = "boxship_dns"
_TRIES = 16  # ports of UDP that may be somebody's for TCP
_BACKLOG = 64
_BUFFER = 1 << 20  # bytes of queries that may wait while we do something else
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_RULES = """\
add table ip {table}
delete table ip {table}
table ip {table} {{
 chain output {{
  type filter hook output priority raw; policy accept;
  ip daddr {address} udp dport 53 udp dport set {port} notrack
  ip daddr {address} tcp dport 53 tcp dport set {port} notrack
  ip saddr {address} udp sport {port} udp sport set 53 notrack
  ip saddr {address} tcp sport {port} tcp sport set 53 notrack
 }}
}}
"""


class Sockets:
    """What was made inside a sandbox: the open namespace file, and the sockets."""

    __slots__ = ("namespace", "tcp", "udp")

    def __init__(self, namespace: int, udp: socket.socket, tcp: socket.socket) -> None:
        self.namespace = namespace
        self.udp = udp
        self.tcp = tcp

    def close(self) -> None:
        """Close all; the table in the namespace ends with it, or is replaced."""
        self.udp.close()
        self.tcp.close()
        os.close(self.namespace)


class Sandbox:
    """A sandbox that we answer in: its sockets, which it owns, and how its queries are answered."""

    def __init__(self, document: Mapping[str, Any], sockets: Sockets, *, host: Vantage, home: int) -> None:
        """``home`` is the open file of our own network namespace, ``host`` what is asked from there."""
        self.id = str(document["sandbox_id"])
        self.key = str(document["key"])
        self.udp = sockets.udp
        self.tcp = sockets.tcp
        self.open = True
        self.lookups = 0  # on their way to other servers
        self.connections: set[Connection] = set()
        self.vantage = Vantage(sockets.namespace, home)
        self._sockets = sockets
        self.configure(document, host)

    def configure(self, document: Mapping[str, Any], host: Vantage) -> None:
        """Take over a resolver's settings (fields of ``networks.names.Resolver``)."""
        self.network_ids = [str(each) for each in document["network_ids"]]
        self.links = table.normal_links(document["links"])
        self.forward = bool(document["forward"])
        self.single_labels = bool(document["single_labels"])
        self.servers = [
            Server(host if each["on_host"] else self.vantage, str(each["address"]), int(each["port"]))
            for each in document["upstreams"]
        ]

    def close(self) -> None:
        """End the connections and close the sockets."""
        self.open = False
        for connection in list(self.connections):
            connection.close()
        self._sockets.close()


class Opener:
    """A thread that enters namespaces: making sockets there takes some milliseconds, which queries must not wait for."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Mapping[str, Any], Sockets | OSError]] = queue.SimpleQueue()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        threading.Thread(target=self._run, daemon=True).start()

    def fileno(self) -> int:
        """Readable when :meth:`results` has something."""
        return self._reader

    def open(self, document: Mapping[str, Any]) -> None:
        """Begin to open the sandbox of a resolver's document."""
        self._work.put(document)

    def results(self) -> list[tuple[Mapping[str, Any], Sockets | OSError]]:
        """Return what was opened or why not, in the order of the calls."""
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass
        found = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def _run(self) -> None:
        while (document := self._work.get()) is not None:
            result: Sockets | OSError
            nft: nftables.Context | None = None
            try:
                result, nft = _open(document)
            except OSError as exc:
                result = exc
            self._done.put((document, result))
            try:
                os.write(self._writer, b"1")
            except BlockingIOError:
                pass  # it is readable already
            if nft is not None:
                nft.close()  # takes the kernel 9 ms: nobody waits for it


def _open(document: Mapping[str, Any]) -> tuple[Sockets, nftables.Context]:
    namespace = os.open(str(document["key"]), os.O_RDONLY | os.O_CLOEXEC)
    sockets: list[socket.socket] = []
    try:
        namespaces.setns(namespace, namespaces.CLONE_NEWNET)  # this thread stays there until the next one
        udp, tcp, port = _bind(sockets)
        nft = nftables.Context()
        try:
            nft.run(_RULES.format(table=TABLE, address=ADDRESS, port=port))
        except OSError:
            nft.close()
            raise
        return Sockets(namespace, udp, tcp), nft
    except OSError:
        for sock in sockets:
            sock.close()
        os.close(namespace)
        raise


def _bind(sockets: list[socket.socket]) -> tuple[socket.socket, socket.socket, int]:
    for left in reversed(range(_TRIES)):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sockets.append(udp)
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        udp.bind((ADDRESS, 0))
        port = udp.getsockname()[1]
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sockets.append(tcp)
        try:
            tcp.bind((ADDRESS, port))
            tcp.listen(_BACKLOG)
        except OSError:
            if not left:
                raise
            udp.close()
            tcp.close()
            sockets.clear()
            continue
        return udp, tcp, port
    raise AssertionError("unreachable")
