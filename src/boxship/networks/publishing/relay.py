"""What reaches a published port by a program, since the firewall can't or may not lead it: the proxy's share.

The kernel translates no packet between IPv4 and IPv6, routes none of IPv6's loopback, and of IPv4's only where it is told to
(``route_localnet``). Such packets end at the socket that is kept for the port; a proxy accepts them there and carries them on.
The container then sees the bridge's address as the client's.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Protocol

from boxship.networks.models import PublishedPort
from boxship.networks.options import NetworkOptions

SocketOf = Callable[[PublishedPort], socket.socket | None]
"""Return the socket that is kept for a port, None when it is not to be had."""


class Share(enum.Enum):
    """What comes to the socket that is kept for a port."""

    NOTHING = "nothing"  # it only keeps the port
    LOOPBACK = "loopback"
    ALL = "all"


class Relay(Protocol):
    """The proxy as the network service sees it.

    Changes take effect in the order of the calls, which don't wait for that; :meth:`settle` does. The proxy may die and come back
    at any time: whoever implements this remembers everything and tells it again.
    """

    async def start(self, ports: Sequence[PublishedPort], socket_of: SocketOf) -> None:
        """Say all there is, once before the other calls. Never raises: a port that can't be served is logged."""

    def open(self, port: PublishedPort, sock: socket.socket) -> None:
        """Serve a port; the socket stays the caller's."""

    def close(self, port: PublishedPort, *, drop: bool) -> None:
        """Serve a port no more; ``drop`` ends its connections. An unknown one is no error."""

    async def settle(self) -> None:
        """Return when all the above is done: ports are served, or free again. Raises SystemFailure."""

    async def stop(self, *, stop: bool) -> None:
        """Let go of the proxy; ``stop`` ends it, else it goes on."""


class NoRelay:
    """The relay of a service without a proxy."""

    async def start(self, ports: Sequence[PublishedPort], socket_of: SocketOf) -> None:
        """Do nothing."""

    def open(self, port: PublishedPort, sock: socket.socket) -> None:
        """Do nothing."""

    def close(self, port: PublishedPort, *, drop: bool) -> None:
        """Do nothing."""

    async def settle(self) -> None:
        """Do nothing."""

    async def stop(self, *, stop: bool) -> None:
        """Do nothing."""


def share(options: NetworkOptions, host_ip: str, container_ip: str) -> Share:
    """Return the proxy's share of a port at these addresses; what is left is the firewall's."""
    ipv6 = ":" in host_ip
    if ipv6 is not (":" in container_ip):
        return Share.ALL
    address = ip_address(host_ip)
    if options.userland_proxy and not (options.ip6tables if ipv6 else options.iptables):
        return Share.ALL
    if (ipv6 or options.userland_proxy) and (address.is_unspecified or address.is_loopback):
        return Share.LOOPBACK
    return Share.NOTHING


def crosses(port: PublishedPort) -> bool:
    """Tell whether a port of one family leads to an address of the other."""
    return bool(port.host_port) and (":" in port.host_ip) is not (":" in port.container_ip)
