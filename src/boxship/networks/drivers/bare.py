"""The drivers ``null`` and ``host``, and networks that are configurations only: nothing to make, nothing to connect."""

from __future__ import annotations

from boxship.linux.netlink import Socket
from boxship.networks.catalog import Network
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.models import Endpoint


class BareDriver:
    """Networks without interfaces."""

    needs_pools = False
    several_pools = True

    def check(self, network: Network) -> None:
        """Take whatever options."""

    def make(self, host: Socket, network: Network) -> None:
        """Make nothing."""

    def remove(self, host: Socket, network: Network) -> None:
        """Remove nothing."""

    def host_links(self, network: Network) -> list[str]:  # noqa: ARG002
        """Return none."""
        return []

    def mtu(self, network: Network) -> int:  # noqa: ARG002
        """Return 0: there is no interface."""
        return 0

    def rules(self, network: Network) -> BridgeRules | None:  # noqa: ARG002
        """Return None."""
        return None

    def connect(
        self, host: Socket, network: Network, endpoint: Endpoint, *, ns_fd: int, alias: str, hairpin: bool
    ) -> None:
        """Connect nothing."""

    def adopt(self, host: Socket, network: Network, endpoint: Endpoint) -> None:
        """Adopt nothing."""
