"""Drivers: what makes a network and connects a container to it.

Words: a driver *makes* a network when it is created and at each start of the engine, *connects* an endpoint by putting an
interface into a container's namespace, and *removes* the network. Addresses and routes inside are not its business.
"""

from __future__ import annotations

from typing import Protocol

from boxship.linux.netlink import Socket
from boxship.networks.catalog import Network
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.models import Endpoint


class Driver(Protocol):
    """One kind of network. All calls but :meth:`connect` block for long enough to want a thread.

    Calls are for networks that :meth:`check` has let pass; they raise OSError when the kernel refuses, and BoxshipError for
    what the user can do something about.
    """

    needs_pools: bool  # False: its networks have no addresses
    several_pools: bool  # of one family

    def check(self, network: Network) -> None:
        """Raise InvalidInput for options that this driver can't take."""

    def make(self, host: Socket, network: Network) -> None:
        """Make what the network needs on the host; what is there already stays as it is."""

    def remove(self, host: Socket, network: Network) -> None:
        """Remove what :meth:`make` made; what is gone already is no error."""

    def host_links(self, network: Network) -> list[str]:
        """Return the names of the links that :meth:`make` made."""

    def mtu(self, network: Network) -> int:
        """Return the MTU of the network's interfaces."""

    def rules(self, network: Network) -> BridgeRules | None:
        """Return what the firewall has to know; None: it has no part in this network, and publishes no port to it."""

    def connect(
        self, host: Socket, network: Network, endpoint: Endpoint, *, ns_fd: int, alias: str, hairpin: bool
    ) -> None:
        """Put the endpoint's interface, still down, into the namespace ``ns_fd``.

        A host's end gets the ``alias``; with ``hairpin`` it lets frames leave by the port they came from.
        """

    def adopt(self, host: Socket, network: Network, endpoint: Endpoint) -> None:
        """Put the host's end of a running container's endpoint back in its place."""
