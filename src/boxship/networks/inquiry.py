"""What is so on this host now, for explanations and warnings: whose chains drop packets, and what overlaps a network."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks import explain
from boxship.networks.explain import Facts
from boxship.networks.filtering import guard
from boxship.networks.filtering.rules import BridgeRules
from boxship.networks.host import Host
from boxship.networks.live import LiveNetwork

_log = logging.getLogger(__name__)

_WIDEST = {socket.AF_INET: 8, socket.AF_INET6: 16}  # prefixes; shorter ones are ways to everywhere, see networks.pools


async def facts(live: Sequence[LiveNetwork], host: Host, alias: str) -> Facts:
    """Return what is so; ``alias`` is how our links are marked."""
    firewall = host.firewall
    return Facts(
        table=firewall.name if firewall else "",
        bridges=_bridges(live),
        obstacles=firewall.obstacles() if firewall else (),
        respect_host=firewall is not None and firewall.respect_host,
        collisions=await collisions(live, alias),
        userland_proxy=host.userland_proxy,
    )


async def collisions(live: Sequence[LiveNetwork], alias: str) -> dict[str, list[str]]:
    """Return, by name, the networks that hide addresses which the host reaches elsewhere, and what of it.

    Subnets are chosen apart from all that; but a VPN or another network card may come later.
    """
    own = {link for network in live for link in network.driver.host_links(network.spec)}
    try:
        others = await asyncio.to_thread(_elsewhere, own, alias)
    except OSError as exc:  # what the networks do doesn't hang on it
        _log.warning("the host's addresses and routes can't be listed: %s", exc.strerror)
        return {}
    found = {}
    for name, bridge in _bridges(live).items():
        overlapping = explain.overlaps(filter(None, (bridge.subnet, bridge.subnet_v6)), others)
        if overlapping:
            found[name] = overlapping
    return found


def warnings(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the collisions as ``docker info`` shows them."""
    return [
        f"WARNING: the subnet of network {name} overlaps {', '.join(others)}: one hides the other"
        for name, others in sorted(found.items())
    ]


def _bridges(live: Iterable[LiveNetwork]) -> dict[str, BridgeRules]:
    return {network.name: rules for network in live if (rules := network.driver.rules(network.spec)) is not None}


def _elsewhere(own: set[str], alias: str) -> dict[str, str]:
    """Return the networks that the host has or reaches through links of others, each with a description."""
    found: dict[str, str] = {}
    with Socket.open() as sock:
        links = rtnetlink.list_links(sock)
        names = {link.index: link.name for link in links}
        ours = {link.index for link in links if link.name in own or link.alias.startswith(alias)}
        for family, widest in _WIDEST.items():
            for address in rtnetlink.list_addresses(sock, family):
                if address.index not in ours:
                    network = ip_network(f"{address.address}/{address.prefix}", strict=False)
                    found[str(network)] = f"address {address.address}/{address.prefix} of {names.get(address.index)}"
            for route in rtnetlink.list_routes(sock, family):
                if route.index in ours or route.table == guard.TABLE or route.prefix < widest:
                    continue
                way = f" by {names[route.index]}" if route.index in names else ""
                network = ip_network(f"{route.destination}/{route.prefix}")
                found.setdefault(str(network), f"route {network}{way}")
    return found
