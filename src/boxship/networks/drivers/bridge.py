"""The driver ``bridge``: a Linux bridge for each network, a veth pair for each endpoint, published ports by the firewall."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from boxship.base import ids
from boxship.base.errors import Forbidden, InvalidInput
from boxship.linux import rtnetlink
from boxship.linux.netlink import Request, Socket
from boxship.networks.bridge import allow_loopback_sources
from boxship.networks.catalog import Network, Pool
from boxship.networks.drivers import options
from boxship.networks.filtering.rules import ISOLATED, NAT, ROUTED, UNPROTECTED, BridgeRules
from boxship.networks.models import Endpoint
from boxship.networks.options import NetworkOptions

_PREFIX = "com.docker.network.bridge."
_NAME = f"{_PREFIX}name"
_MODES = (NAT, ROUTED, UNPROTECTED, ISOLATED)
_LINK_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")  # linux/if.h: IFNAMSIZ; narrower, it goes into rules
_LINK_LOCAL = "fe80::1"
_IPV6_CONF = "/proc/sys/net/ipv6/conf"


class BridgeOptions(NamedTuple):
    """What a network's options say."""

    link: str
    icc: bool
    masquerade: bool
    mode: str
    mode_v6: str
    mtu: int


class BridgeDriver:
    """Makes bridges; that of the default network is made elsewhere and told by :meth:`know`."""

    needs_pools = True
    several_pools = False

    def __init__(self, defaults: NetworkOptions, alias: str) -> None:
        """``alias`` and a network's short id tell whose a bridge is."""
        self._defaults = defaults
        self._alias = alias
        self._links: dict[str, int] = {}  # network id: index

    def know(self, network: Network, link: int) -> None:
        """Use this link as the bridge of a network."""
        self._links[network.id] = link

    def parse(self, network: Network) -> BridgeOptions:
        """Return the network's options; raises InvalidInput."""
        given = network.options
        modes = (_mode(network, "gateway_mode_ipv4"), _mode(network, "gateway_mode_ipv6"))
        name = given.get(_NAME) or f"br-{ids.short(network.id)}"
        if not _LINK_NAME.fullmatch(name):
            raise InvalidInput(f"invalid bridge name: {name}")
        return BridgeOptions(
            link=name,
            icc=options.flag(given, f"{_PREFIX}enable_icc", True),
            masquerade=options.flag(given, f"{_PREFIX}enable_ip_masquerade", True),
            mode=modes[0],
            mode_v6=modes[1],
            mtu=options.mtu(given, self._defaults.mtu),
        )

    def check(self, network: Network) -> None:
        """Raise InvalidInput for wrong options."""
        parsed = self.parse(network)
        options.host_binding(network.options, self._defaults.ip)
        if ISOLATED in (parsed.mode, parsed.mode_v6) and not network.internal:
            raise InvalidInput("gateway mode 'isolated' can only be used for an internal network")

    def make(self, host: Socket, network: Network) -> None:
        """Make the bridge with the gateways' addresses, up. Raises Forbidden when its name is taken."""
        parsed = self.parse(network)
        alias = f"{self._alias}:{ids.short(network.id)}"
        link = rtnetlink.find_link(host, parsed.link)
        if link is None:
            mac = "02:42:" + os.urandom(4).hex(":")  # random: two hosts on one wire must not have the same
            host.execute(
                [
                    rtnetlink.new_bridge(parsed.link, mac=mac, mtu=parsed.mtu),
                    rtnetlink.set_link(parsed.link, alias=alias),
                ]
            )
            link = rtnetlink.find_link(host, parsed.link)
            if link is None:
                raise OSError(errno.ENODEV, f"{parsed.link} vanished while it was made")
        elif link.kind != "bridge":
            raise Forbidden(f"cannot create network {network.name}: {parsed.link} is an interface that is no bridge")
        elif link.alias.startswith("boxship:") and link.alias != alias:
            raise Forbidden(
                f"cannot create network {network.id} ({parsed.link}): conflicts with another network "
                f"({parsed.link}): networks have same bridge name"
            )
        requests = [] if network.ipv6 else [rtnetlink.set_no_link_local(link.index)]
        for pool in network.pools:
            if (parsed.mode if pool.version == 4 else parsed.mode_v6) == ISOLATED:
                continue
            if pool.version == 6:
                give_ipv6(host, link.index, parsed.link, pool)
            else:
                subnet = ip_network(pool.subnet)
                broadcast = str(subnet.broadcast_address) if subnet.num_addresses > 2 else None
                requests.append(rtnetlink.new_address(link.index, pool.gateway, subnet.prefixlen, broadcast=broadcast))
        requests.append(rtnetlink.set_link(link.index, up=True))
        host.execute(requests)
        if not self._defaults.userland_proxy:
            allow_loopback_sources(parsed.link)
        self._links[network.id] = link.index

    def remove(self, host: Socket, network: Network) -> None:
        """Remove the bridge, unless it is the administrator's own."""
        self._links.pop(network.id, None)
        link = rtnetlink.find_link(host, self.parse(network).link)
        own = self._alias if network.built_in else f"{self._alias}:{ids.short(network.id)}"
        if link is not None and link.alias == own:
            rtnetlink.delete_links(host, [link.index])

    def host_links(self, network: Network) -> list[str]:
        """Return the bridge's name."""
        return [self.parse(network).link]

    def mtu(self, network: Network) -> int:
        """Return the bridge's MTU."""
        return self.parse(network).mtu

    def rules(self, network: Network) -> BridgeRules:
        """Return the bridge as the firewall sees it."""
        parsed = self.parse(network)
        v4, v6 = network.pools_of(4), network.pools_of(6)
        return BridgeRules(
            id=ids.short(network.id),
            link=parsed.link,
            subnet=v4[0].subnet if v4 else "",
            subnet_v6=v6[0].subnet if v6 else "",
            icc=parsed.icc,
            masquerade=parsed.masquerade,
            internal=network.internal,
            mode=parsed.mode,
            mode_v6=parsed.mode_v6,
        )

    def connect(
        self, host: Socket, network: Network, endpoint: Endpoint, *, ns_fd: int, alias: str, hairpin: bool
    ) -> None:
        """Make the veth pair; one batch, a third of a millisecond."""
        requests: list[Request] = [
            rtnetlink.new_veth(
                endpoint.host_link,
                master=self._links[network.id],
                mtu=endpoint.mtu,
                peer_name=endpoint.link,
                peer_mac=endpoint.mac_address,
                peer_ns_fd=ns_fd,
            ),
            rtnetlink.set_link(endpoint.host_link, alias=alias),
        ]
        isolated = not self.parse(network).icc
        if hairpin or isolated:
            requests.append(rtnetlink.set_bridge_port(endpoint.host_link, hairpin=hairpin, isolated=isolated))
        if not network.ipv6:
            requests.append(rtnetlink.set_no_link_local(endpoint.host_link))
        host.execute(requests)

    def adopt(self, host: Socket, network: Network, endpoint: Endpoint) -> None:
        """Put a veth's end back on the bridge."""
        index = self._links[network.id]
        link = rtnetlink.find_link(host, endpoint.host_link)
        if link is not None and (link.master != index or not link.up):
            host.execute([rtnetlink.set_link(link.index, master=index, up=True)])


def _mode(network: Network, name: str) -> str:
    return options.choice(network.options, f"{_PREFIX}{name}", _MODES, NAT)


def give_ipv6(host: Socket, link: int, name: str, pool: Pool) -> None:
    """Give a bridge the gateway's address of an IPv6 pool; blocking, raises OSError."""
    for setting, value in (("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")):
        _write(f"{_IPV6_CONF}/{name}/{setting}", value)
    prefix = ip_network(pool.subnet).prefixlen
    host.execute([rtnetlink.new_address(link, pool.gateway, prefix), rtnetlink.new_address(link, _LINK_LOCAL, 64)])


def turn_on_forwarding_v6() -> bool:
    """Let the host forward IPv6 packets; return True if it did not before. Blocking; raises OSError.

    A host that forwards takes no more router advertisements unless told to, so interfaces that lived on them are told.
    """
    every = Path(f"{_IPV6_CONF}/all/forwarding")
    if every.read_text(encoding="ascii").strip() == "1":
        return False
    for setting in Path(_IPV6_CONF).glob("*/accept_ra"):
        if setting.parent.name not in ("all", "default", "lo") and setting.read_text(encoding="ascii").strip() == "1":
            _write(str(setting), "2")
    for name in ("default", "all"):
        _write(f"{_IPV6_CONF}/{name}/forwarding", "1")
    return True


def _write(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).write_text(text, encoding="ascii")
