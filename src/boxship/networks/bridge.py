"""The default bridge: which name and subnet it gets, and making it so.

An alias on the link says whose it is (``boxship:<instance>``), so that a bridge of the same name that belongs to another
program or another boxshipd is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import NamedTuple

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.linux.rtnetlink import Address, Link, Route
from boxship.networks.addressing import ipam
from boxship.networks.filtering import guard
from boxship.networks.options import NetworkOptions

DEFAULT_NAME = "docker0"
_OTHER_NAME = "boxship"  # and a number, when docker0 is somebody else's
_SYSCTL = "/proc/sys/net/ipv4"
_WIDEST = 8  # a shorter prefix is a way to everywhere, as VPNs have it (0.0.0.0/1), and no network to keep away from


class Bridge(NamedTuple):
    """A bridge that is up and has its address; ``owned`` when Boxship made it and may remove it."""

    link: int  # its index
    name: str
    interface: IPv4Interface
    owned: bool

    @property
    def subnet(self) -> IPv4Network:
        return self.interface.network

    @property
    def gateway(self) -> IPv4Address:
        return self.interface.ip


def owner_alias(instance: str) -> str:
    """Return the alias of a bridge that belongs to an instance; a veth's alias goes on with a colon."""
    return f"boxship:{instance}"


def choose_name(links: Iterable[Link], alias: str) -> str:
    """Return the name of our bridge: the one it has, else "docker0", else the first free of "boxship0", "boxship1"..."""
    taken = {link.name: link for link in links}
    for link in taken.values():
        if link.kind == "bridge" and link.alias == alias:
            return link.name
    if DEFAULT_NAME not in taken:
        return DEFAULT_NAME
    return next(name for number in range(len(taken) + 1) if (name := f"{_OTHER_NAME}{number}") not in taken)


def taken_networks(
    addresses: Iterable[Address], routes: Iterable[Route], servers: Iterable[str], *, except_index: int
) -> list[IPv4Network]:
    """Return the networks that a new subnet must not hide: the host's addresses, routes, and name servers.

    What belongs to the link ``except_index`` doesn't count, nor do the default route and its halves.
    """
    found = [
        IPv4Network(f"{address.address}/{address.prefix}", strict=False)
        for address in addresses
        if address.index != except_index
    ]
    found += [
        IPv4Network(f"{route.destination}/{route.prefix}")
        for route in routes
        if route.destination and route.prefix >= _WIDEST and route.index != except_index and route.table != guard.TABLE
    ]
    return found + [IPv4Network(server) for server in servers if ":" not in server]


def choose_interface(
    options: NetworkOptions, present: IPv4Interface | None, used: IPv4Interface | None, taken: Sequence[IPv4Network]
) -> IPv4Interface:
    """Return the bridge's address: as asked for, else as running containers have it, else as it is, else from the pools."""
    if options.bip:
        return IPv4Interface(options.bip)
    if used or present:
        return used or present  # type: ignore[return-value]  # mypy does not see that one of them is there
    choices = [pool for pool in options.default_address_pools if ":" not in pool.base]
    subnet = ipam.free_subnet(choices, [ipam.span(str(network)) for network in taken])
    return IPv4Interface(f"{subnet.network_address + 1}/{subnet.prefixlen}")


def ensure(
    sock: Socket, options: NetworkOptions, alias: str, *, used: IPv4Interface | None, servers: Iterable[str]
) -> Bridge:
    """Find or make the default bridge with its address, up; blocking.

    ``used`` is the gateway's address as running containers know it, ``servers`` the host's name servers. Raises OSError,
    and InvalidInput or SystemFailure when options and host don't fit.
    """
    links = rtnetlink.list_links(sock)
    name = options.bridge or choose_name(links, alias)
    link = next((found for found in links if found.name == name), None)
    if link is None and options.bridge:
        raise InvalidInput(f"bridge device with non default name {name} must be created manually")
    if link is None:
        # Locally administered and random: two hosts on one wire must not have bridges with the same address.
        mac = "02:42:" + os.urandom(4).hex(":")
        sock.execute([rtnetlink.new_bridge(name, mac=mac), rtnetlink.set_link(name, alias=alias)])
        link = rtnetlink.find_link(sock, name)
        if link is None:
            raise SystemFailure(f"bridge {name} vanished while it was made")
    addresses = rtnetlink.list_addresses(sock)
    own = [IPv4Interface(f"{found.address}/{found.prefix}") for found in addresses if found.index == link.index]
    taken = taken_networks(addresses, rtnetlink.list_routes(sock), servers, except_index=link.index)
    interface = choose_interface(options, own[0] if own else None, used, taken)
    requests = []
    if not options.bridge:
        requests += [
            rtnetlink.delete_address(link.index, str(old.ip), old.network.prefixlen) for old in own if old != interface
        ]
        requests.append(rtnetlink.set_no_link_local(link.index))
        if link.mtu != options.mtu:
            requests.append(rtnetlink.set_link(link.index, mtu=options.mtu))
    if interface not in own:
        network = interface.network
        requests.append(
            rtnetlink.new_address(
                link.index, str(interface.ip), network.prefixlen, broadcast=str(network.broadcast_address)
            )
        )
    requests.append(rtnetlink.set_link(link.index, up=True))
    sock.execute(requests)
    return Bridge(link.index, name, interface, owned=not options.bridge)


def turn_on_forwarding() -> bool:
    """Let the host forward IPv4 packets; return True if it did not before. Blocking; raises OSError."""
    path = Path(f"{_SYSCTL}/ip_forward")
    if path.read_text(encoding="ascii").strip() == "1":
        return False
    path.write_text("1", encoding="ascii")
    return True


def allow_loopback_sources(link: str) -> None:
    """Let packets of the host's loopback addresses leave by ``link``, for ports published on them; blocking."""
    Path(f"{_SYSCTL}/conf/{link}/route_localnet").write_text("1", encoding="ascii")
