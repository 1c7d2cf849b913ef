"""A laboratory for networks: each scenario runs in a forked child with its own network and mount namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from boxship.engine.processes.proxy import Proxy
from boxship.linux import rtnetlink
from boxship.linux.mount import MS_PRIVATE, MS_REC, mount
from boxship.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, setns, unshare
from boxship.linux.netlink import Socket
from boxship.networks import AttachRequest, EndpointRequest, NetworkOptions, NetworkService, Sandbox
from boxship.networks.files import DNSDefaults
from boxship.shim import netns, resident
from boxship.spec.docker.container import PortBinding
from boxship.spec.docker.network import IPAM, IPAMPool, NetworkCreate
from boxship.store import Store
from boxship.wire import messages

HOST_LAN = "192.0.2.1"
NEIGHBOUR = "192.0.2.2"
HOST_LAN_6 = "fd00:2::1"
NEIGHBOUR_6 = "fd00:2::2"


class Lab:
    """Services, sandboxes and a neighbour on the LAN, all in the child's namespaces; everything dies with the child."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.forge = Forge()
        self.store = Store(f"{root}/boxship.db")
        self.children = [self.forge.pid]

    async def service(
        self, instance: str = "lab", sandboxes: dict[str, Sandbox] | None = None, **options: Any
    ) -> NetworkService:
        service = NetworkService(
            store=self.store,
            exec_root=f"{self.root}/exec",
            instance=instance,
            options=NetworkOptions(**options),
            namespaces=self.forge,
            dns=DNSDefaults(host=lambda: "nameserver 192.0.2.53\n"),
            relay=Proxy(f"{self.root}/proxy"),
        )
        await service.start(sandboxes or {})
        return service

    async def attach(self, service: NetworkService, name: str, *networks: str, mac: str = "", **wishes: Any) -> Sandbox:
        """Attach a container to networks by name, the default bridge if there is none."""
        endpoints = tuple(EndpointRequest(network=network, mac_address=mac) for network in networks or ["bridge"])
        return await service.attach(
            AttachRequest(container_id=container_id(name), name=name, endpoints=endpoints, **wishes)
        )

    async def create(self, service: NetworkService, name: str, *subnets: str, **wishes: Any) -> str:
        """Make a network with these subnets and return its id."""
        ipam = IPAM(config=[IPAMPool(subnet=subnet) for subnet in subnets])
        return (await service.create(NetworkCreate(name=name, ipam=ipam, **wishes))).id

    def neighbour(self) -> str:
        """Make a host on a LAN at 192.0.2.2 that routes our container subnets to us; return its namespace's path."""
        path = f"{self.root}/neighbour"
        with Socket.from_fd(make_namespace(path)) as inside, Socket.open() as host:
            ns_fd = os.open(path, os.O_RDONLY)
            host.execute([rtnetlink.new_bridge("lanbr", mac="02:00:00:00:00:09")])
            bridge = rtnetlink.find_link(host, "lanbr")
            assert bridge is not None
            veth = rtnetlink.new_veth(
                "lan0", master=bridge.index, mtu=1500, peer_name="eth0", peer_mac="02:00:00:00:00:02", peer_ns_fd=ns_fd
            )
            host.execute(
                [veth, rtnetlink.new_address(bridge.index, HOST_LAN, 24), rtnetlink.set_link("lanbr", up=True)]
            )
            os.close(ns_fd)
            link = rtnetlink.find_link(inside, "eth0")
            assert link is not None
            inside.execute(
                [
                    rtnetlink.set_link("eth0", up=True),
                    rtnetlink.new_address(link.index, NEIGHBOUR, 24),
                    rtnetlink.new_route("172.16.0.0", 12, gateway=HOST_LAN),
                ]
            )
        return path

    def neighbour_of_both_families(self) -> str:
        """Make such a host that has IPv6, too, at fd00:2::2, and routes fd00:17::/64 to us at fd00:2::1."""
        path = self.neighbour()
        for where, link, own, routes in (
            (None, "lanbr", HOST_LAN_6, ()),
            (path, "eth0", NEIGHBOUR_6, ("fd00:17::/64",)),
        ):
            command(where, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=0")
            command(where, "ip", "address", "add", f"{own}/64", "dev", link, "nodad")
            for route in routes:
                command(where, "ip", "route", "add", route, "via", HOST_LAN_6)
        return path

    def serve(self, where: str | None, port: int, kind: int = socket.SOCK_STREAM, address: str = "0.0.0.0") -> int:
        """Answer every client with its own address as the server sees it; return the process id when it listens."""

        def server(ready: Callable[[], None]) -> None:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            ready()
            while True:
                if kind == socket.SOCK_DGRAM:
                    _, peer = sock.recvfrom(100)
                    sock.sendto(peer[0].encode(), peer)
                    continue
                connection, peer = sock.accept()
                connection.sendall(peer[0].encode())
                connection.close()

        pid = spawn(where, server)
        self.children.append(pid)
        return pid

    def fetch(
        self,
        where: str | None,
        address: str,
        port: int,
        kind: int = socket.SOCK_STREAM,
        *,
        timeout: float = 3,
        source_port: int = 0,
    ) -> str:
        """Return what the server at an address answers a client in the namespace ``where``, or the error's name."""

        def client() -> str:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
                sock.settimeout(timeout)
                sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
                try:
                    sock.connect((address, port))
                    if kind == socket.SOCK_DGRAM:
                        sock.send(b"?")
                    return sock.recv(100).decode()
                except OSError as exc:
                    return type(exc).__name__

        return str(run_in(where, client))

    def links(self) -> set[str]:
        with Socket.open() as sock:
            return {link.name for link in rtnetlink.list_links(sock)}

    def close(self) -> None:
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as proxy:
            proxy.connect(f"{self.root}/proxy/{resident.SOCKET}")
            messages.send(proxy, {"seq": 1, "op": "stop"})
            messages.receive(proxy)
        self.store.close()


def container_id(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


class Forge:
    """A NamespaceFactory: a process of its own makes the namespaces, as the launcher does.

    It is forked before anything is open here, so that no copy of a socket that holds a port lives on in it.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._socket.close()
                while request := theirs.recv(4096).decode():
                    word, _, path = request.partition(" ")
                    fd = make_namespace(path) if word == "make" else enter_namespace(path, ipv6=word == "ipv6")
                    socket.send_fds(theirs, [b"x"], [fd])
                    os.close(fd)
            finally:
                os._exit(0)
        theirs.close()

    async def create(self, path: str, owner: object = None) -> int:
        return await asyncio.to_thread(self._ask, f"make {path}")

    async def open(self, path: str, *, ipv6: bool) -> int:
        return await asyncio.to_thread(self._ask, f"{'ipv6' if ipv6 else 'ipv4'} {path}")

    def _ask(self, request: str) -> int:
        with self._lock:
            self._socket.send(request.encode())
            return socket.recv_fds(self._socket, 1, 1)[1][0]


def make_namespace(path: str) -> int:
    return in_child(lambda: netns.make(path))


def enter_namespace(path: str, *, ipv6: bool) -> int:
    return in_child(lambda: netns.enter(path, ipv6=ipv6))


def in_child(function: Callable[[], int]) -> int:
    """Return the descriptor that a function gives in a forked child."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            socket.send_fds(theirs, [b"x"], [function()])
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    with ours:
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    assert os.waitpid(pid, 0)[1] == 0
    return fds[0]


def run_in(where: str | None, function: Callable[[], object]) -> Any:
    """Return what a function gives when a forked child calls it in the network namespace at ``where`` (None: here)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            keep_only(write)
            enter(where)
            os.write(write, json.dumps(function()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def spawn(where: str | None, function: Callable[[Callable[[], None]], None]) -> int:
    """Start a function in a forked child in the namespace ``where``; return its pid when it has called its argument."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            keep_only(write)
            enter(where)
            function(lambda: os.close(write))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as file:
        file.read()
    return pid


def keep_only(fd: int) -> None:
    """Close what a forked child inherited, above all the sockets that hold published ports."""
    os.closerange(3, fd)
    os.closerange(fd + 1, 1024)


def enter(where: str | None) -> None:
    if where is not None:
        fd = os.open(where, os.O_RDONLY)
        setns(fd, CLONE_NEWNET)
        os.close(fd)


def command(where: str | None, *words: str) -> None:
    """Run a host's program in a namespace."""
    subprocess.run(words, preexec_fn=lambda: enter(where), check=True, capture_output=True)


def publish(*bindings: str) -> dict[str, list[PortBinding] | None]:
    """Return port bindings of texts like "127.0.0.1:8080:80/tcp"."""
    result: dict[str, list[PortBinding] | None] = {}
    for text in bindings:
        ip, host_port, container_port = text.rsplit(":", 2)
        places = result.setdefault(container_port, [])
        assert places is not None
        places.append(PortBinding(host_ip=ip, host_port=host_port))
    return result


Scenario = Callable[[Lab], Awaitable[None]]


def run_isolated(root: str, scenario: Scenario, *, seconds: float = 60) -> str:
    """Run a scenario in a child with its own network and mount namespaces; return what went wrong, "" if nothing."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            unshare(CLONE_NEWNET | CLONE_NEWNS)
            mount(None, "/", None, MS_REC | MS_PRIVATE)
            with Socket.open() as sock:
                sock.execute([rtnetlink.set_link("lo", up=True)])
            Path(root, "exec").mkdir()
            lab = Lab(root)
            try:
                asyncio.run(_limited(scenario, lab, seconds))
            finally:
                lab.close()
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(write)
    with open(read, "rb") as file:
        report = file.read().decode()
    status = os.waitpid(pid, 0)[1]
    return report or (f"the scenario ended with status {status}" if status else "")


async def _limited(scenario: Scenario, lab: Lab, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await scenario(lab)
