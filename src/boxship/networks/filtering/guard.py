"""What keeps containers closed while the firewall's tables are gone, after ``nft flush ruleset`` or a firewall's reload.

The tables give each packet to a container that passed them a mark. Routing, which no firewall tool touches, lets only marked
packets through to the containers' subnets: one rule sends the others to a table of our own, in which these subnets are
prohibited. So between a flush and the repair nothing is forwarded to a container that should not be, rather than
everything. Packets of the host itself and of neighbours on the same bridge don't need a mark.

The rules and the table are shared by all engines of a host; a route's metric tells whose it is.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import zlib
from collections.abc import Iterable
from ipaddress import ip_network

from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks.filtering.rules import MARK

TABLE = 0xB0C5  # of routes, and seldom enough
_PRIORITIES = (100, 101, 102)  # before the rules that lead to the main table
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Guard:
    """The routes of one engine; all calls take half a millisecond at most."""

    def __init__(self, instance: str, *, ipv6: bool = True) -> None:
        """Without ``ipv6`` subnets of that are left alone: nobody marks its packets."""
        self._ipv6 = ipv6
        self._metric = zlib.crc32(instance.encode()) & 0x7FFFFFFF or 1

    def start(self, sock: Socket, subnets: Iterable[str]) -> None:
        """Protect exactly these subnets. Raises OSError; a kernel without routing rules goes without."""
        wanted = set(subnets)
        for family in _FAMILIES:
            if not _rules(sock, family):
                continue
            for route in rtnetlink.list_routes(sock, family):
                text = f"{route.destination}/{route.prefix}"
                if route.table == TABLE and route.metric == self._metric and text not in wanted:
                    self.release(sock, text)
        for subnet in wanted:
            self.protect(sock, subnet)

    def protect(self, sock: Socket, subnet: str) -> None:
        """Let only marked packets through to a subnet; one that is protected already is no error."""
        network = ip_network(subnet)
        if network.version == 6 and not self._ipv6:
            return
        request = rtnetlink.new_prohibition(
            str(network.network_address), network.prefixlen, table=TABLE, metric=self._metric
        )
        try:
            sock.execute([request])
        except OSError as exc:
            if exc.errno not in (errno.EEXIST, errno.EAFNOSUPPORT):
                raise

    def release(self, sock: Socket, subnet: str) -> None:
        """End that; a subnet that is not protected is no error."""
        network = ip_network(subnet)
        request = rtnetlink.delete_prohibition(
            str(network.network_address), network.prefixlen, table=TABLE, metric=self._metric
        )
        with contextlib.suppress(OSError):
            sock.execute([request])

    def end(self, sock: Socket) -> None:
        """Release everything; the rules go with the last engine's routes."""
        self.start(sock, ())
        for family in _FAMILIES:
            if not any(route.table == TABLE for route in rtnetlink.list_routes(sock, family)):
                for priority in _PRIORITIES:
                    with contextlib.suppress(OSError):
                        sock.execute([rtnetlink.delete_rule(family, priority)])


def _rules(sock: Socket, family: int) -> bool:
    """Make the rules; return False where the kernel has none."""
    own, unmarked, end = _PRIORITIES
    for request in (
        rtnetlink.new_rule(family, end),
        rtnetlink.new_rule(family, own, from_host=True, goto=end),
        rtnetlink.new_rule(family, unmarked, without_mark=MARK, table=TABLE),
    ):
        try:
            sock.execute([request])
        except OSError as exc:
            if exc.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                return False
            if exc.errno != errno.EEXIST:
                raise
    return True
