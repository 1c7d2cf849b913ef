"""What happens to the host when the networks start: what they need is made, what nobody claims is removed.

All of it blocks and runs in a thread, before anything else uses the sockets.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Interface

import msgspec

from boxship.base.errors import BoxshipError
from boxship.linux import rtnetlink
from boxship.networks import bridge, files, namespaces
from boxship.networks.addressing import ipam, pools
from boxship.networks.catalog import Network, Pool
from boxship.networks.drivers import Driver
from boxship.networks.drivers import bridge as bridge_driver
from boxship.networks.drivers.bare import BareDriver
from boxship.networks.filtering.firewall import Firewall
from boxship.networks.filtering.guard import Guard
from boxship.networks.filtering.rules import IPV4, IPV6, Family
from boxship.networks.host import Host
from boxship.networks.live import LiveNetwork
from boxship.networks.models import Sandbox
from boxship.networks.options import NetworkOptions

_log = logging.getLogger(__name__)


class SetUp:
    """One start; leaves the host's sockets, firewall and ports in ``host``."""

    def __init__(
        self,
        host: Host,
        drivers: Mapping[str, Driver],
        bridges: bridge_driver.BridgeDriver,
        *,
        options: NetworkOptions,
        instance: str,
        alias: str,
        directory: str,
        servers: Callable[[], str],
    ) -> None:
        """``directory`` holds the namespaces, ``servers`` returns the host's resolv.conf."""
        self._host = host
        self._drivers = drivers
        self._bridges = bridges
        self._options = options
        self._instance = instance
        self._alias = alias
        self._directory = directory
        self._servers = servers
        self.links: set[str] = set()  # those that are claimed and there
        self.swept: set[str] = set()  # short ids of containers whose links nobody claimed

    def run(self, networks: Sequence[Network], sandboxes: Sequence[Sandbox]) -> list[LiveNetwork]:
        """Make the networks and adopt the sandboxes that live. Raises OSError, InvalidInput, SystemFailure."""
        namespaces.sweep(self._directory, {sandbox.key for sandbox in sandboxes})
        self._host.open()
        live = [made for network in networks if (made := self._made(network, sandboxes)) is not None]
        self._adopt(live, sandboxes)
        turned_on = self._forward(live)
        if self._options.iptables:
            self._raise_firewall(live, sandboxes, turned_on)
        if any(network.name == "bridge" for network in live) and not self._options.userland_proxy:
            # After the rules that drop loopback addresses from elsewhere.
            bridge.allow_loopback_sources(self._bridges.host_links(_named(live, "bridge").spec)[0])
        return live

    def _made(self, network: Network, sandboxes: Iterable[Sandbox]) -> LiveNetwork | None:
        if network.name == "bridge":
            return LiveNetwork(self._default_bridge(network, sandboxes), self._bridges)
        driver = self._drivers.get(network.driver) or BareDriver()
        try:
            driver.make(self._host.route, network)
        except (OSError, BoxshipError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            _log.error("network %s can't be made ready: %s", network.name, reason)
        return LiveNetwork(network, driver)

    def _default_bridge(self, network: Network, sandboxes: Iterable[Sandbox]) -> Network:
        """Make the default bridge and return what the network is this time."""
        options, sock = self._options, self._host.route
        known = [e for sandbox in sandboxes for e in sandbox.endpoints if e.network_id == network.id and e.address]
        used = IPv4Interface(f"{known[0].gateway}/{known[0].prefix_length}") if known else None
        servers = files.name_servers(self._servers())
        own = bridge.ensure(sock, options, self._alias, used=used, servers=servers)
        found = [Pool(subnet=str(own.subnet), gateway=str(own.gateway), ip_range=options.fixed_cidr)]
        if options.ipv6:
            subnet = options.fixed_cidr_v6 or str(next(ipam.subnets([pools.local_pool(self._instance)])))
            found.append(pools.with_gateway(Pool(subnet=subnet)))
        network = msgspec.structs.replace(
            network,
            ipv6=options.ipv6,
            pools=found,
            options={
                "com.docker.network.bridge.default_bridge": "true",
                "com.docker.network.bridge.enable_icc": _flag(options.icc),
                "com.docker.network.bridge.enable_ip_masquerade": _flag(options.ip_masq),
                "com.docker.network.bridge.host_binding_ipv4": options.ip,
                "com.docker.network.bridge.name": own.name,
                "com.docker.network.driver.mtu": str(options.mtu),
            },
        )
        self._bridges.know(network, own.link)
        if options.ipv6:
            bridge_driver.give_ipv6(sock, own.link, own.name, found[1])
        return network

    def _adopt(self, live: Sequence[LiveNetwork], sandboxes: Sequence[Sandbox]) -> None:
        """Take over addresses, host ends and ports of running containers; remove links of ours that nobody claims."""
        sock = self._host.route
        by_id = {network.id: network for network in live}
        claimed = {link for network in live for link in network.driver.host_links(network.spec)}
        for sandbox in sandboxes:
            for port in sandbox.ports:
                if port.host_port:
                    self._host.ports.adopt(port)
            for endpoint in sandbox.endpoints:
                claimed.add(endpoint.host_link)
                network = by_id.get(endpoint.network_id)
                if network is not None:
                    network.reserve(endpoint)
                    with contextlib.suppress(KeyError):  # a network that could not be made: said already
                        network.driver.adopt(sock, network.spec, endpoint)
        links = rtnetlink.list_links(sock)
        orphans = [link for link in links if link.alias.startswith(f"{self._alias}:") and link.name not in claimed]
        rtnetlink.delete_links(sock, [link.index for link in orphans])
        self.links = {link.name for link in links} & claimed
        self.swept = {link.alias.rpartition(":")[2] for link in orphans}

    def _forward(self, live: Iterable[LiveNetwork]) -> set[Family]:
        """Let the host forward packets; return the families of which it did not before."""
        turned_on: set[Family] = set()
        if self._options.ip_forward:
            if bridge.turn_on_forwarding():
                turned_on.add(IPV4)
            if any(network.spec.ipv6 for network in live) and bridge_driver.turn_on_forwarding_v6():
                turned_on.add(IPV6)
        return turned_on

    def _raise_firewall(
        self, live: Sequence[LiveNetwork], sandboxes: Iterable[Sandbox], turned_on: set[Family]
    ) -> None:
        families = (IPV4, IPV6) if self._options.ip6tables else (IPV4,)
        self._host.firewall = firewall = Firewall(
            f"boxship_{self._instance}",
            families=families,
            respect_host=self._options.respect_host,
            loopback=not self._options.userland_proxy,
        )
        firewall.forward_drop = turned_on | firewall.dropped_forwarding()
        bridges = [rules for network in live if (rules := network.driver.rules(network.spec)) is not None]
        self._host.guard = Guard(self._instance, ipv6=self._options.ip6tables)
        guarded = [subnet for rules in bridges for subnet in (rules.subnet, rules.subnet_v6) if subnet]
        firewall.restore(
            bridges,
            [port for sandbox in sandboxes for port in sandbox.ports],
        )
        firewall.apply()
        self._host.guard.start(self._host.route, guarded)


def _named(live: Iterable[LiveNetwork], name: str) -> LiveNetwork:
    return next(network for network in live if network.name == name)


def _flag(value: bool) -> str:
    return "true" if value else "false"
