"""Private network namespaces, held by a process of their own, with an optional way to the outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from boxship.linux.namespaces import CLONE_NEWNET, setns


def run(*command: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a host command and return its output as text."""
    return subprocess.run(command, check=check, text=True, capture_output=True, **options)  # type: ignore[call-overload]


class NetworkNamespace:
    """A network namespace with ``lo`` up; it lives until :meth:`close`.

    Nothing is bound under /run/netns: the namespace goes away with its keeper and what runs inside.
    """

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            raise RuntimeError("no network namespace could be made")
        self._uplinks = contextlib.ExitStack()

    @property
    def path(self) -> str:
        """A path that setns(2) takes."""
        return f"/proc/{self._keeper.pid}/ns/net"

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._keeper.pid

    def prefix(self) -> list[str]:
        """The words in front of a command that is to run inside."""
        return ["nsenter", f"--net={self.path}", "--"]

    def run(self, *command: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return run(*self.prefix(), *command, check=check, **options)

    def add_uplink(self) -> None:
        """Give the namespace a veth to the host with masquerading; taken away by :meth:`close`."""
        self._uplinks.enter_context(_uplink(self))

    def close(self) -> None:
        """End the namespace."""
        self._uplinks.close()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(10)
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()


@contextlib.contextmanager
def _uplink(namespace: NetworkNamespace) -> Iterator[None]:
    tag = secrets.token_hex(3)
    link, table = f"bxu{tag}", f"boxship_test_{tag}"
    host_octet = secrets.randbelow(16_000) * 4
    base = f"10.203.{host_octet >> 8}.{host_octet & 255}".rsplit(".", 1)
    host, inside = f"{base[0]}.{int(base[1]) + 1}", f"{base[0]}.{int(base[1]) + 2}"
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text()
    with contextlib.ExitStack() as undo:
        run(
            "ip",
            "link",
            "add",
            link,
            "mtu",
            _mtu(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "mtu",
            _mtu(),
            "netns",
            str(namespace.pid),
        )
        undo.callback(run, "ip", "link", "delete", link, check=False)
        run("ip", "address", "add", f"{host}/30", "dev", link)
        run("ip", "link", "set", link, "up")
        namespace.run("ip", "address", "add", f"{inside}/30", "dev", "eth0")
        namespace.run("ip", "link", "set", "eth0", "up")
        namespace.run("ip", "route", "add", "default", "via", host)
        rules = (
            f"add table ip {table} {{ chain post {{ type nat hook postrouting priority srcnat; "
            f"ip saddr {inside} oifname != {link} masquerade; }}; }}"
        )
        run("nft", rules)
        undo.callback(run, "nft", "delete", "table", "ip", table, check=False)
        forward.write_text("1")
        undo.callback(forward.write_text, before)
        yield


def _mtu() -> str:
    """The MTU of the host's default route, so that nothing larger than the way out allows is sent."""
    routes = json.loads(run("ip", "-json", "route", "show", "default").stdout or "[]")
    if not routes:
        return "1500"
    links = json.loads(run("ip", "-json", "link", "show", routes[0]["dev"]).stdout)
    return str(links[0]["mtu"])


@contextlib.contextmanager
def entered(namespace: NetworkNamespace) -> Iterator[None]:
    """Let the calling thread work in a network namespace, as a client on that host would."""
    with open("/proc/thread-self/ns/net") as before, open(namespace.path) as inside:
        setns(inside.fileno(), CLONE_NEWNET)
        try:
            yield
        finally:
            setns(before.fileno(), CLONE_NEWNET)


def namespaces_of(pid: int) -> dict[str, str]:
    """The namespace identities of a process, by kind."""
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")}
