"""The firewall's rules: one nftables table of our own, described from values and put in place as a whole.

What the rules promise, for each bridge:

- containers reach out, masqueraded as the host; answers come back;
- from outside, the host's other interfaces and other bridges, a container is reached through published ports only. Packets
  that name a container's address directly are dropped before anything else looks at them, so also for a port that is
  published on 127.0.0.1; so are packets with loopback or container addresses that come from a wrong interface;
- a published port is one element of a map, wildcard addresses in a map of their own; the container sees the client's
  address, except that loopback clients and containers of the same bridge show up as the bridge's address;
- containers of one bridge reach each other when ``icc`` is on.

Packets of others pass as if this table weren't there, unless forwarding was off before Boxship turned it on: then
nothing else is forwarded, as the administrator had it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

from boxship.linux import nftables
from boxship.networks.models import PublishedPort
from boxship.networks.publish import ANY


class BridgeRules(NamedTuple):
    """What the firewall knows of one bridge."""

    link: str
    subnet: IPv4Network
    icc: bool = True
    masquerade: bool = True


def table(name: str, bridges: Sequence[BridgeRules], ports: Iterable[PublishedPort], *, forward_drop: bool) -> str:
    """Return the commands that put the whole table in place of an older one, in one transaction."""
    ports = list(ports)
    raw = ['iifname != "lo" ip daddr 127.0.0.0/8 drop', 'iifname != "lo" ip saddr 127.0.0.0/8 drop']
    forward: list[str] = []
    postrouting: list[str] = []
    chains: list[str] = []
    for number, bridge in enumerate(bridges):
        inward = f"to-bridge-{number}"
        link, subnet = f'"{bridge.link}"', bridge.subnet
        raw += [
            f'iifname != {{ "lo", {link} }} ip daddr {subnet} fib daddr type != local drop',
            f'iifname != {{ "lo", {link} }} ip saddr {subnet} drop',
        ]
        forward += [f"oifname {link} jump {inward}", f"iifname {link} accept"]
        rules = ["ct state established,related accept", "ct status dnat accept"]
        rules += [f"iifname {link} accept"] if bridge.icc else []
        chains.append(_chain(inward, "", [*rules, "drop"]))
        postrouting += [f"ip saddr {subnet} oifname != {link} masquerade"] if bridge.masquerade else []
        postrouting += [
            f"ip saddr {subnet} oifname {link} ct status dnat masquerade",
            f"ip saddr 127.0.0.0/8 oifname {link} masquerade",
        ]
    publish = [
        f"meta l4proto {{ tcp, udp, sctp }} dnat ip to meta l4proto . ip daddr . th dport map @{_BY_ADDRESS}",
        f"meta l4proto {{ tcp, udp, sctp }} dnat ip to meta l4proto . th dport map @{_WILDCARD}",
    ]
    policy = "drop" if forward_drop else "accept"
    body = [
        _map(_BY_ADDRESS, "inet_proto . ipv4_addr . inet_service", _elements(ports, wildcard=False)),
        _map(_WILDCARD, "inet_proto . inet_service", _elements(ports, wildcard=True)),
        _chain("publish", "", publish),
        *chains,
        _chain("raw-prerouting", "type filter hook prerouting priority raw; policy accept;", raw),
        _chain(
            "prerouting",
            "type nat hook prerouting priority dstnat; policy accept;",
            ["ip daddr != 127.0.0.0/8 fib daddr type local jump publish"],
        ),
        _chain("output", "type nat hook output priority -100; policy accept;", ["fib daddr type local jump publish"]),
        _chain("forward", f"type filter hook forward priority filter; policy {policy};", forward),
        _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", postrouting),
    ]
    return f"add table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n{''.join(body)}}}\n"


def add_ports(name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that publish ``ports``."""
    return _element_commands("add", name, ports, values=True)


def delete_ports(name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that end the publishing of ``ports``."""
    return _element_commands("delete", name, ports, values=False)


class Firewall:
    """The table in the kernel, and what should be in it.

    Hears of changes that others make to the table (``flush ruleset``, a firewall reload) through :meth:`disturbed` on
    the descriptor :meth:`fileno`, so that its owner can :meth:`apply` it again.
    """

    def __init__(self, name: str) -> None:
        """Raises LibraryMissing, or OSError when the kernel has no nftables."""
        self.name = name
        self.bridges: list[BridgeRules] = []
        self.forward_drop = False
        self._ports: set[PublishedPort] = set()
        self._nft = nftables.Context()
        self._changes = nftables.open_changes()
        self._own_port_id = 0

    def fileno(self) -> int:
        return self._changes.fileno()

    def apply(self) -> None:
        """Put the whole table in place; raises NftError."""
        self._nft.run(table(self.name, self.bridges, self._ports, forward_drop=self.forward_drop))
        self.disturbed()

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Add ports; raises NftError with nothing added. A table that others have broken is put in place anew."""
        added = [port for port in ports if port not in self._ports]
        self._ports.update(added)
        try:
            self._change(add_ports(self.name, added))
        except OSError:
            self._ports.difference_update(added)
            raise

    def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        """Remove ports; those that are not there are no error."""
        removed = [port for port in ports if port in self._ports]
        self._ports.difference_update(removed)
        self._change(delete_ports(self.name, removed))

    def restore_ports(self, ports: Iterable[PublishedPort]) -> None:
        """Say which ports exist, for the next :meth:`apply`."""
        self._ports = set(ports)

    def dropped_forwarding(self) -> bool:
        """Tell whether the table of an earlier run kept other traffic from being forwarded."""
        try:
            return "policy drop" in self._nft.run(f"list chain ip {self.name} forward")
        except nftables.NftError:
            return False

    def disturbed(self) -> bool:
        """Tell whether somebody else changed the table since the last call."""
        try:
            messages = self._changes.receive_events()
        except OSError as exc:
            if exc.errno == errno.ENOBUFS:
                return True
            raise
        foreign = False
        for change in map(nftables.read_change, messages):
            if change is None or change.table != self.name:
                continue
            if change.created:
                self._own_port_id = change.port_id  # nobody else makes a table of this name
            foreign = foreign or change.port_id != self._own_port_id
        return foreign

    def remove(self) -> None:
        """Delete the table; one that is gone is no error."""
        self._nft.run(f"add table ip {self.name}\ndelete table ip {self.name}")

    def close(self) -> None:
        """Free the sockets; the table stays."""
        self._nft.close()
        self._changes.close()

    def _change(self, commands: str) -> None:
        if not commands:
            return
        try:
            self._nft.run(commands)
        except nftables.NftError:
            self.apply()


_BY_ADDRESS = "published"
_WILDCARD = "published-any"


def _element_commands(verb: str, name: str, ports: Iterable[PublishedPort], *, values: bool) -> str:
    ports = list(ports)
    commands = ""
    for map_name, wildcard in ((_BY_ADDRESS, False), (_WILDCARD, True)):
        elements = _elements(ports, wildcard=wildcard)
        if elements:
            listed = ", ".join(f"{key} : {value}" if values else key for key, value in elements)
            commands += f"{verb} element ip {name} {map_name} {{ {listed} }}\n"
    return commands


def _elements(ports: Iterable[PublishedPort], *, wildcard: bool) -> list[tuple[str, str]]:
    """Return key and value of each port that belongs into the map of wildcard addresses, or into the other one."""
    return [
        (
            f"{port.protocol} . {port.host_port}"
            if wildcard
            else f"{port.protocol} . {port.host_ip} . {port.host_port}",
            f"{port.container_ip} . {port.container_port}",
        )
        for port in ports
        if (port.host_ip == ANY) is wildcard
    ]


def _map(name: str, key: str, elements: Sequence[tuple[str, str]]) -> str:
    listed = ", ".join(f"{key} : {value}" for key, value in elements)
    content = f" elements = {{ {listed} }}" if listed else ""
    return f" map {name} {{ type {key} : ipv4_addr . inet_service;{content}\n }}\n"


def _chain(name: str, head: str, rules: Sequence[str]) -> str:
    return f" chain {name} {{ {head}\n" + "".join(f"  {rule}\n" for rule in rules) + " }\n"
