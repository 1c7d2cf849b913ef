"""What the networks have on the host besides themselves: sockets to the kernel, the firewall, the ports in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from boxship.base.errors import SystemFailure
from boxship.linux.netlink import NETLINK_NETFILTER, Socket
from boxship.networks.firewall import Firewall
from boxship.networks.guard import Guard
from boxship.networks.models import PublishedPort
from boxship.networks.ports import PortTable, read_random_range, reserve
from boxship.networks.rules import BridgeRules


class Host:
    """Opened once; its methods are for the event loop, ``open`` and ``close`` for a thread."""

    def __init__(self) -> None:
        self._route: Socket | None = None
        self.flows: Socket | None = None  # kept open: closing a netfilter socket takes 9 ms
        self.firewall: Firewall | None = None
        self.guard: Guard | None = None
        self.ports = PortTable(reserve, read_random_range())

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
        """Open ports in the firewall; raises OSError with none opened."""
        if self.firewall is not None and ports:
            self.firewall.publish(ports)

    def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        """Close ports in the firewall, also where it has lost them already."""
        if self.firewall is not None and ports:
            with contextlib.suppress(OSError):
                self.firewall.unpublish(ports)

    def give_back(self, ports: Iterable[PublishedPort]) -> None:
        """Free host ports."""
        for port in ports:
            self.ports.give_back(port)
