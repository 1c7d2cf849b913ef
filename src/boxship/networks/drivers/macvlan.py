"""The drivers ``macvlan`` and ``ipvlan``: interfaces of their own on a network of the host's, without a bridge.

Containers and the host do not reach each other over them, which is how the kernel has it. Without a ``parent`` it is a link
of our own: the network is internal then. A parent like ``eth0.10`` that does not exist yet is made, and goes with the network.
"""

from __future__ import annotations

import errno
import os
import re

from boxship.base import ids
from boxship.base.errors import Forbidden, InvalidInput, NotSupported
from boxship.linux import rtnetlink
from boxship.linux.netlink import Request, Socket
from boxship.networks.catalog import Network
from boxship.networks.drivers import options
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.models import Endpoint

_PARENT = "parent"
_VLANS = range(1, 4095)
_LINK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}")
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}  # linux/if_link.h: IPVLAN_MODE_*
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}  # IPVLAN_F_*


class MacvlanDriver:
    """Interfaces with MAC addresses of their own."""

    needs_pools = True
    several_pools = True
    kind = "macvlan"

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def check(self, network: Network) -> None:
        """Raise InvalidInput for wrong options."""
        self._mode(network)
        parent = network.options.get(_PARENT, "")
        if parent and not _LINK_NAME.fullmatch(parent):
            raise InvalidInput(f"invalid parent interface name: {parent}")
        if self._mode(network) == "passthru" and not parent:
            raise InvalidInput("macvlan passthru mode needs a parent interface: -o parent=...")
        options.mtu(network.options, 0)

    def make(self, host: Socket, network: Network) -> None:
        """Make the parent where it is ours, and see that the host's own is there; raises InvalidInput."""
        name = self._parent(network)
        link = rtnetlink.find_link(host, name)
        if link is not None:
            return
        alias = f"{self._alias}:{ids.short(network.id)}"
        if network.options.get(_PARENT):
            _make_vlan(host, name, alias)
            return
        mac = "02:42:" + os.urandom(4).hex(":")
        # A bridge without ports: the kernel at hand may have no dummy links, and this does the same.
        host.execute(
            [
                rtnetlink.new_bridge(name, mac=mac),
                rtnetlink.set_link(name, alias=alias),
                rtnetlink.set_no_link_local(name),
                rtnetlink.set_link(name, up=True),
            ]
        )

    def remove(self, host: Socket, network: Network) -> None:
        """Remove the parent where it is ours."""
        link = rtnetlink.find_link(host, self._parent(network))
        if link is not None and link.alias == f"{self._alias}:{ids.short(network.id)}":
            rtnetlink.delete_links(host, [link.index])

    def host_links(self, network: Network) -> list[str]:
        """Return the parent where it is, or may be, ours."""
        parent = network.options.get(_PARENT, "")
        return [] if parent and "." not in parent else [self._parent(network)]

    def mtu(self, network: Network) -> int:
        """Return the MTU that was asked for, 0: the parent's."""
        return options.mtu(network.options, 0)

    def rules(self, network: Network) -> BridgeRules | None:  # noqa: ARG002
        """Return None: packets do not pass through the host."""
        return None

    def connect(
        self,
        host: Socket,
        network: Network,
        endpoint: Endpoint,
        *,
        ns_fd: int,
        alias: str,  # noqa: ARG002
        hairpin: bool,  # noqa: ARG002
    ) -> None:
        """Make the interface over the parent."""
        name = self._parent(network)
        parent = rtnetlink.find_link(host, name)
        if parent is None:
            raise InvalidInput(f"the parent interface {name} of network {network.name} was not found on the host")
        if not parent.up:
            host.execute([rtnetlink.set_link(parent.index, up=True)])
        try:
            host.execute([self._request(network, endpoint, parent.index, ns_fd)])
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                raise NotSupported(f"the kernel of this host has no {self.kind} interfaces") from exc
            if exc.errno in (errno.EBUSY, errno.EINVAL):
                raise Forbidden(
                    f"failed to create the {self.kind} port: {name} is in use in a way that excludes it: {exc.strerror}"
                ) from exc
            raise

    def adopt(self, host: Socket, network: Network, endpoint: Endpoint) -> None:
        """Do nothing: the interface is in its namespace."""

    def _request(self, network: Network, endpoint: Endpoint, parent: int, ns_fd: int) -> Request:
        return rtnetlink.new_macvlan(
            endpoint.link,
            parent=parent,
            mode=self._mode(network),
            mac=endpoint.mac_address,
            mtu=endpoint.mtu,
            ns_fd=ns_fd,
        )

    def _parent(self, network: Network) -> str:
        return network.options.get(_PARENT) or f"dm-{ids.short(network.id)}"

    def _mode(self, network: Network) -> str:
        return options.choice(network.options, "macvlan_mode", tuple(rtnetlink.MACVLAN_MODES), "bridge")


class IpvlanDriver(MacvlanDriver):
    """Interfaces that share the parent's MAC address."""

    kind = "ipvlan"

    def check(self, network: Network) -> None:
        """Raise InvalidInput for wrong options."""
        super().check(network)
        self._flag(network)

    def make(self, host: Socket, network: Network) -> None:
        """As for macvlan; raises NotSupported where the kernel has no ipvlan, before anybody relies on it."""
        super().make(host, network)
        parent = rtnetlink.find_link(host, self._parent(network))
        if parent is None:
            return
        probe = f"iv{ids.short(network.id)}"
        try:
            host.execute([rtnetlink.new_ipvlan(probe, parent=parent.index, mode=0, flags=0)])
            host.execute([rtnetlink.delete_link(probe)])
        except OSError as exc:
            if exc.errno == errno.EOPNOTSUPP:
                self.remove(host, network)
                raise NotSupported(
                    f"cannot create network {network.name}: the kernel of this host has no ipvlan interfaces"
                ) from exc

    def _request(self, network: Network, endpoint: Endpoint, parent: int, ns_fd: int) -> Request:
        return rtnetlink.new_ipvlan(
            endpoint.link,
            parent=parent,
            mode=_IPVLAN_MODES[self._mode(network)],
            flags=_IPVLAN_FLAGS[self._flag(network)],
            mtu=endpoint.mtu,
            ns_fd=ns_fd,
        )

    def _mode(self, network: Network) -> str:
        return options.choice(network.options, "ipvlan_mode", tuple(_IPVLAN_MODES), "l2")

    def _flag(self, network: Network) -> str:
        return options.choice(network.options, "ipvlan_flag", tuple(_IPVLAN_FLAGS), "bridge")


def _make_vlan(host: Socket, name: str, alias: str) -> None:
    """Make the VLAN interface that a name like eth0.10 asks for, up; raises InvalidInput, NotFound, NotSupported, OSError."""
    base, dot, number = name.rpartition(".")
    if not dot:
        raise InvalidInput(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    if not base or not number.isascii() or not number.isdecimal():
        raise InvalidInput(
            f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        )
    if int(number) not in _VLANS:
        raise InvalidInput(f"vlan id must be between 1-4094, received: {int(number)}")
    link = rtnetlink.find_link(host, base)
    if link is None:
        raise InvalidInput(f"failed to find master interface {base} on the Docker host: Link not found")
    try:
        host.execute([rtnetlink.new_vlan(name, parent=link.index, id=int(number))])
    except OSError as exc:
        if exc.errno == errno.EOPNOTSUPP:
            raise NotSupported(
                f"failed to create {name} vlan link: the kernel of this host has no VLAN interfaces (8021q)"
            ) from exc
        raise
    host.execute([rtnetlink.set_link(name, alias=alias), rtnetlink.set_link(name, up=True)])
