"""Containers on all kinds of networks of an engine, ours or another, and who reaches whom there."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from boxship.wire import dns
from harness.netns import NetworkNamespace
from harness.network_lab import run_in, spawn

PORT = 7000
PATIENCE = 20.0  # seconds for answers that must come
SILENCE = 1.0  # seconds for those that must not

NETWORKS = {
    "front": "--subnet 172.20.0.0/24 --ipv6 --subnet fd00:20::/64",
    "back": "--subnet 172.21.0.0/24 --ipv6 --subnet fd00:21::/64",
    "shut": "--internal --subnet 172.22.0.0/24 --ipv6 --subnet fd00:22::/64",
    "lan": "-d macvlan --subnet 172.23.0.0/24 -o parent=wire0",
}
CONTAINERS = {  # name: networks
    "one": ("front",),
    "two": ("front",),
    "both": ("front", "back"),
    "three": ("back",),
    "inner": ("shut",),
    "mate": ("shut",),
    "plain": ("bridge",),
    "other": ("bridge",),
    "alone": ("none",),
    "wired": ("lan",),
    "peer": ("lan",),
    "hosty": ("host",),
}
OLDER = ("inner", "mate")
"""Containers of an internal network: with dockerd 20.10 they reach the host, and over IPv6 not even each other."""

ALIASES = {"two": "pair", "peer": "mast"}


class DockerEngine(Protocol):
    """What answers the docker CLI."""

    namespace: NetworkNamespace

    def docker(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the docker CLI."""


class Place(NamedTuple):
    """One container in one network."""

    container: str
    network: str
    addresses: tuple[str, ...]


Probe = tuple[str, str, str, str]
"""Container, network, address, protocol."""

T = TypeVar("T")


class Town:
    """The containers above; :meth:`close` removes them with their networks."""

    def __init__(self, engine: DockerEngine, *, is_dockerd: bool = False) -> None:
        self._engine = engine
        self.is_dockerd = is_dockerd
        self._servers: list[int] = []
        self.where: dict[str, str] = {}  # container: path of its network namespace
        self.places: list[Place] = []
        engine.namespace.run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
        for link in ("wire0", "wire1"):
            engine.namespace.run("ip", "link", "set", link, "up")
        for name, options in NETWORKS.items():
            engine.docker("network", "create", *options.split(), name)
        for name, networks in CONTAINERS.items():
            alias = ["--network-alias", ALIASES[name]] if name in ALIASES else []
            engine.docker("run", "-d", "--name", name, "--network", networks[0], *alias, "busybox", "sleep", "600")
            for network in networks[1:]:
                engine.docker("network", "connect", network, name)
        for document in json.loads(engine.docker("inspect", *CONTAINERS).stdout):
            self._note(document)
        self.places.append(Place("the host", "host", ("172.17.0.1",)))
        for path in dict.fromkeys(self.where.values()):
            self._servers.append(spawn(path, serve))

    def reached(self) -> dict[str, set[Probe]]:
        """Return for each container what answers it."""
        probes = self.probes()

        def ask(name: str) -> set[Probe]:
            differs = self.is_dockerd and name in OLDER
            may = [
                number
                for number, probe in enumerate(probes)
                if may_reach(name, probe[0], probe[1]) and not (differs and ":" in probe[2])
            ]
            found = run_in(self.where[name], lambda: answers([probe[2:] for probe in probes], may))
            return {probes[number] for number in found}

        return self._everywhere(ask)

    def probes(self) -> list[Probe]:
        """Return what there is to ask."""
        return [
            (place.container, place.network, address, protocol)
            for place in self.places
            for address in place.addresses
            # A server at all addresses of a host answers datagrams from the one that is nearest to the client.
            for protocol in (("tcp",) if place.container == "the host" else ("tcp", "udp"))
        ]

    def names(self, wanted: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """Return for each container what the nameserver in it says to each name."""
        wanted = list(wanted)

        def ask(container: str) -> dict[str, list[str]]:
            answered = run_in(self.where[container], lambda: resolve(wanted))
            return {name: found for name, found in answered.items() if found}

        return self._everywhere(ask)

    def close(self) -> None:
        for pid in self._servers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._engine.docker("rm", "-f", *CONTAINERS, check=False)
        self._engine.docker("network", "rm", *NETWORKS, check=False)
        self._engine.namespace.run("ip", "link", "delete", "wire0", check=False)

    def _note(self, document: dict[str, Any]) -> None:
        name = document["Name"].removeprefix("/")
        self.where[name] = f"/proc/{document['State']['Pid']}/ns/net"
        for network, endpoint in document["NetworkSettings"]["Networks"].items():
            addresses = tuple(filter(None, (endpoint["IPAddress"], endpoint["GlobalIPv6Address"])))
            if addresses:
                self.places.append(Place(name, network, addresses))

    def _everywhere(self, ask: Callable[[str], T]) -> dict[str, T]:
        with ThreadPoolExecutor(len(CONTAINERS)) as pool:
            return dict(zip(CONTAINERS, pool.map(ask, CONTAINERS), strict=True))


def may_reach(source: str, container: str, network: str) -> bool:
    """Tell what Docker allows: those of a network among themselves; the host, and who has a way out, each other."""
    ways = CONTAINERS[source]
    if container == "the host":
        return bool({"front", "back", "bridge", "host"} & set(ways))
    if source == "hosty":
        return network not in ("lan", "none")
    return network in ways and network != "none"


def may_resolve(source: str, container: str) -> bool:
    """Tell whether a container knows another one's name: in networks that users made."""
    return bool((set(CONTAINERS[source]) & set(CONTAINERS[container])) - {"bridge", "none", "host"})


def serve(ready: Callable[[], None]) -> None:
    """Answer at the port, by all families and protocols."""
    selector = selectors.DefaultSelector()
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(family, kind)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
            if kind == socket.SOCK_STREAM:
                sock.listen(64)
            selector.register(sock, selectors.EVENT_READ)
    ready()
    while True:
        for key, _ in selector.select():
            sock = key.fileobj  # type: ignore[assignment]
            if sock.type == socket.SOCK_STREAM:
                client, _ = sock.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(b"!")
            else:
                _, peer = sock.recvfrom(10)
                with contextlib.suppress(OSError):
                    sock.sendto(b"!", peer)


def answers(probes: Sequence[tuple[str, str]], expected: Sequence[int]) -> list[int]:
    """Ask (address, protocol) everywhere at once; return the numbers of those that answered.

    Waits until all the expected ones have, and then a moment for those that nobody expects.
    """
    selector = selectors.DefaultSelector()
    for number, (address, protocol) in enumerate(probes):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.connect((address, PORT))
        with contextlib.suppress(OSError):
            if protocol == "udp":
                sock.send(b"?")
        selector.register(sock, selectors.EVENT_READ, number)
    found: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ready = selector.select(SILENCE)
        for key, _ in ready:
            with contextlib.suppress(OSError):
                if key.fileobj.recv(10):  # type: ignore[union-attr]
                    found.add(key.data)
            selector.unregister(key.fileobj)
        if not ready and found.issuperset(expected):
            break
    return sorted(found)


def resolve(names: Sequence[str]) -> dict[str, list[str]]:
    """Ask the nameserver at 127.0.0.11 for addresses of both families; a name that it says nothing of has none."""
    found: dict[str, list[str]] = {name: [] for name in names}
    selector = selectors.DefaultSelector()
    for name in names:
        for type in (dns.A, dns.AAAA):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.11", 53))
            query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + dns.write_name(name) + type.to_bytes(2, "big") + b"\0\1"
            with contextlib.suppress(OSError):
                sock.send(query)
            selector.register(sock, selectors.EVENT_READ, name)
    while ready := selector.select(2 * SILENCE):
        for key, _ in ready:
            with contextlib.suppress(OSError):
                found[key.data] += addresses(key.fileobj.recv(4096))  # type: ignore[union-attr]
            selector.unregister(key.fileobj)
    return {name: sorted(each) for name, each in found.items()}


def addresses(reply: bytes) -> list[str]:
    """Return the addresses in a reply with one question."""
    at = dns.read_name(reply, 12)[1] + 4
    found = []
    for _ in range(int.from_bytes(reply[6:8], "big")):
        at = dns.read_name(reply, at)[1]
        kind, length = int.from_bytes(reply[at : at + 2], "big"), int.from_bytes(reply[at + 8 : at + 10], "big")
        data = reply[at + 10 : at + 10 + length]
        if kind in (dns.A, dns.AAAA):
            found.append(socket.inet_ntop(socket.AF_INET if kind == dns.A else socket.AF_INET6, data))
        at += 10 + length
    return found
