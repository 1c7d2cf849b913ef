"""What the networks have on the host besides themselves: sockets to the kernel, the firewall, the ports in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from boxship.base.errors import SystemFailure
from boxship.linux.netlink import NETLINK_NETFILTER, Socket
from boxship.networks.filtering.firewall import Firewall
from boxship.networks.filtering.guard import Guard
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.models import PublishedPort
from boxship.networks.options import NetworkOptions
from boxship.networks.publishing import relay
from boxship.networks.publishing.ports import PortTable, read_random_range, reserve
from boxship.networks.publishing.relay import Relay, Share


class Host:
    """Opened once; its methods are for the event loop, ``open`` and ``close`` for a thread."""

    def __init__(self, options: NetworkOptions, relay: Relay) -> None:
        self._options = options
        self.relay = relay
        self._route: Socket | None = None
        self.flows: Socket | None = None  # kept open: closing a netfilter socket takes 9 ms
        self.firewall: Firewall | None = None
        self.guard: Guard | None = None
        self.ports = PortTable(reserve, read_random_range(), share=self.share)

    @property
    def route(self) -> Socket:
        """The host's NETLINK_ROUTE socket; raises SystemFailure before :meth:`open`."""
        if self._route is None:
            raise SystemFailure("the networks are not started")
        return self._route

    def open(self) -> None:
        """Open the sockets; raises OSError."""
        self._route = Socket.open()
        self.flows = Socket.open(NETLINK_NETFILTER)

    def close(self) -> None:
        """Close everything; nothing of it is undone on the host."""
        if self.firewall is not None:
            self.firewall.close()
        for sock in (self._route, self.flows):
            if sock is not None:
                sock.close()
        self._route = self.flows = None
        self.ports.close()

    def share(self, host_ip: str, container_ip: str) -> Share:
        """Return the proxy's share of a port at these addresses."""
        return relay.share(self._options, host_ip, container_ip)

    @property
    def userland_proxy(self) -> bool:
        """Whether the proxy has loopback and crossing ports, not only IPv6's loopback."""
        return self._options.userland_proxy

    def relayed(self, ports: Iterable[PublishedPort]) -> list[PublishedPort]:
        """Return those of the ports that the proxy has a share of."""
        return [
            port
            for port in ports
            if port.host_port and self.share(port.host_ip, port.container_ip) is not Share.NOTHING
        ]

    def admit(self, bridge: BridgeRules) -> None:
        """Make a bridge known to guard and firewall; raises OSError."""
        if self.guard is not None:
            for subnet in filter(None, (bridge.subnet, bridge.subnet_v6)):
                self.guard.protect(self.route, subnet)
        if self.firewall is not None:
            self.firewall.add_bridge(bridge)

    def forget(self, bridge: BridgeRules) -> None:
        """Let both forget a bridge, as far as they can."""
        if self.firewall is not None:
            with contextlib.suppress(OSError):
                self.firewall.remove_bridge(bridge.id)
        if self.guard is not None:
            for subnet in filter(None, (bridge.subnet, bridge.subnet_v6)):
                self.guard.release(self.route, subnet)

    def publish(self, ports: Sequence[PublishedPort]) -> None:
        """Open ports in the firewall and at the proxy; raises OSError with none opened."""
        if self.firewall is not None and ports:
            self.firewall.publish(ports)
        for port in self.relayed(ports):
            sock = self.ports.socket_of(port)
            if sock is not None:
                self.relay.open(port, sock)

    def unpublish(self, ports: Sequence[PublishedPort], *, drop: bool = True) -> None:
        """Close ports in the firewall, also where it has lost them already; ``drop`` ends the proxy's connections."""
        for port in self.relayed(ports):
            self.relay.close(port, drop=drop)
        if self.firewall is not None and ports:
            with contextlib.suppress(OSError):
                self.firewall.unpublish(ports)

    def give_back(self, ports: Iterable[PublishedPort]) -> None:
        """Free host ports."""
        for port in ports:
            self.ports.give_back(port)
