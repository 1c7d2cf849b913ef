"""Who reaches a container, and why: the rules of :mod:`boxship.networks.filtering.rules` said in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from boxship.networks.filtering.host_rules import Obstacle
from boxship.networks.filtering.rules import (
    IPV4,
    IPV6,
    ROUTED,
    UNPROTECTED,
    BridgeRules,
    Family,
    entering_chain,
    place_of,
)
from boxship.networks.models import Endpoint, PublishedPort, Sandbox
from boxship.networks.publishing.relay import crosses
from boxship.spec.boxship.explanation import Reach, Way

HOST, LOOPBACK, LAN = "the host", "loopback of the host", "the LAN"
_HINT_COLUMN = 30
_PROXY = "the proxy (boxship-proxy) listens there and carries connections on"


class Facts(NamedTuple):
    """What is so on this host."""

    table: str  # of the firewall; "" where the administrator wants none
    bridges: Mapping[str, BridgeRules]  # by the network's name
    obstacles: Sequence[Obstacle] = ()
    respect_host: bool = False
    collisions: Mapping[str, Sequence[str]] = {}  # by the network's name: what of the host overlaps its subnets
    userland_proxy: bool = False


def published(port: PublishedPort, sandbox: Sandbox, facts: Facts) -> Way:
    """Explain a port of the host."""
    family = _family(port.container_ip)
    way = Way(
        place=f"{_host_port(port.host_ip, port.host_port)}/{port.protocol}",
        container=sandbox.name,
        target=_host_port(port.container_ip, port.container_port),
    )
    if crosses(port) or (facts.userland_proxy and not facts.table):
        return _with(way, _by_proxy(port, facts))
    if not facts.table:
        why = "the daemon runs with --iptables=false: nothing is forwarded to containers"
        return _with(way, [_no(who, why) for who in (HOST, LAN)])
    where, key = place_of(port)
    rule = f"table {family.name} {facts.table}, map {where}: {key}"
    host, loopback_only = ip_address(port.host_ip), ip_address(port.host_ip).is_loopback
    bound = f"the port is bound to {port.host_ip}"
    reach = [_no(HOST, f"{bound}: at that address only") if loopback_only else _yes(HOST, f"chain output, {rule}")]
    if not host.is_unspecified and not loopback_only:
        reach.append(_no(LOOPBACK, bound))
    elif family is IPV6 or facts.userland_proxy:
        reach.append(_yes(LOOPBACK, _PROXY))
    else:
        reach.append(_yes(LOOPBACK, f"chain output, {rule}"))
    if loopback_only:
        reach.append(_no(LAN, bound))
    else:
        hooks = ("input", "forward") if facts.respect_host else ("forward",)
        chain = "chains input and prerouting" if facts.respect_host else "chain prerouting"
        reach.append(_subject_to(facts, family, hooks, _yes(LAN, f"{chain}, {rule}")))
    for name, bridge in facts.bridges.items():
        who = f"containers of {name}"
        if bridge.internal:
            reach.append(_no(who, f"{name} is internal: {_chain(facts, family, 'shut')} drops"))
        elif not bridge.of(family)[0]:
            reach.append(_no(who, f"{name} has no {_version(family)}"))
        elif loopback_only:
            reach.append(_no(who, bound))
        else:
            reach.append(_subject_to(facts, family, ("forward",), _yes(who, f"chain prerouting, {rule}")))
    return _with(way, reach)


def _by_proxy(port: PublishedPort, facts: Facts) -> list[Reach]:
    """Explain a port that is a socket of the host: rules about the host's own ports count for it."""
    host, family = ip_address(port.host_ip), _family(port.host_ip)
    bound = f"the port is bound to {port.host_ip}"
    places = [
        (HOST, not host.is_loopback, ()),
        (LOOPBACK, host.is_unspecified or host.is_loopback, ()),
        (LAN, not host.is_loopback, ("input",)),
    ]
    reach = [
        _subject_to(facts, family, hooks, _yes(who, _PROXY)) if open else _no(who, bound) for who, open, hooks in places
    ]
    for name, bridge in facts.bridges.items():
        who = f"containers of {name}"
        if host.is_loopback:
            reach.append(_no(who, bound))
        elif bridge.internal:
            reach.append(_no(who, f"{name} is internal: no route leads out of it"))
        elif not bridge.of(family)[0]:
            reach.append(_no(who, f"{name} has no {_version(family)}"))
        else:
            reach.append(_subject_to(facts, family, ("input",), _yes(who, _PROXY)))
    return reach


def own_address(endpoint: Endpoint, sandbox: Sandbox, facts: Facts) -> list[Way]:
    """Explain the addresses that a container has in one network."""
    ways = []
    for address in filter(None, (endpoint.address, endpoint.address_v6)):
        way = Way(place=address, container=sandbox.name, target=f"network {endpoint.network}")
        bridge = facts.bridges.get(endpoint.network)
        if bridge is None and endpoint.plugin_link:
            reason = f"network {endpoint.network} is a plugin's: what its rules are is not known here"
            reach = [Reach(who=who, reached="depends", reason=reason) for who in (HOST, LAN)]
        elif bridge is None:
            reach = [
                _no(HOST, f"network {endpoint.network} is on a link of its parent, which keeps the host apart"),
                Reach(
                    who=LAN, reached="depends", reason="whoever is on the parent's network; no rule of Boxship counts"
                ),
            ]
        else:
            reach = _at_bridge(_family(address), endpoint, bridge, sandbox.ports, facts)
        hints = [f"the host's {other} overlaps it" for other in facts.collisions.get(endpoint.network, ())]
        ways.append(Way(place=way.place, container=way.container, target=way.target, reach=reach, hints=hints))
    return ways


def _at_bridge(
    family: Family, endpoint: Endpoint, bridge: BridgeRules, ports: Iterable[PublishedPort], facts: Facts
) -> list[Reach]:
    same = f"containers of {endpoint.network}"
    reach = [_yes(HOST, f"the bridge {bridge.link} is an interface of the host")]
    if bridge.icc:
        reach.append(_yes(same, f"the same bridge {bridge.link}"))
    else:
        reach.append(_no(same, f"icc=false: the ports of bridge {bridge.link} are isolated from each other"))
    if not facts.table:
        return [*reach, Reach(who=LAN, reached="depends", reason="--iptables=false: the host's own rules decide")]
    mode = bridge.of(family)[1]
    opened = [f"{port.container_port}/{port.protocol}" for port in ports if not port.host_port]
    directly = ""
    if not bridge.internal and mode == UNPROTECTED:
        directly = f"gateway mode {UNPROTECTED}"
    elif not bridge.internal and mode == ROUTED and opened:
        directly = f"gateway mode {ROUTED}, ports {', '.join(opened)}: {_chain(facts, family, entering_chain(family, bridge))}, set open"
    for name, other in facts.bridges.items():
        if name == endpoint.network:
            continue
        who = f"containers of {name}"
        if other.internal:
            reach.append(_no(who, f"{name} is internal: {_chain(facts, family, 'shut')} drops"))
        elif directly:
            reach.append(_subject_to(facts, family, ("forward",), _yes(who, directly)))
        else:
            reach.append(_no(who, f"another network: {_chain(facts, family, f'from-{other.id}')} drops"))
    if directly:
        reach.append(
            _subject_to(facts, family, ("forward",), _yes(LAN, f"by a route to {endpoint.network}; {directly}"))
        )
    elif bridge.internal:
        reach.append(
            _no(LAN, f"{endpoint.network} is internal: {_chain(facts, family, entering_chain(family, bridge))} drops")
        )
    else:
        reach.append(
            _no(LAN, f"through published ports only: {_chain(facts, family, 'raw-prerouting')} drops the rest")
        )
    return reach


def overlaps(subnets: Iterable[str], others: Mapping[str, str]) -> list[str]:
    """Return the descriptions of those ``others`` (by network: "route 10.0.0.0/8 by tun0") that overlap a subnet."""
    own = [ip_network(subnet) for subnet in subnets]
    return [
        text
        for network, text in others.items()
        if any(subnet.version == ip_network(network).version and subnet.overlaps(ip_network(network)) for subnet in own)
    ]


def text(ways: Iterable[Way], notes: Iterable[str]) -> str:
    """Return ways and notes as people read them."""
    lines = []
    for way in ways:
        lines.append(f"{way.place} leads to {way.container.removeprefix('/')}, {way.target}")
        lines += [f"  {reach.reached:<8}{reach.who:<{_HINT_COLUMN}} {reach.reason}" for reach in way.reach]
        lines += [f"  hint: {hint}" for hint in way.hints]
    return "\n".join([*lines, *notes])


def _subject_to(facts: Facts, family: Family, hooks: Sequence[str], reach: Reach) -> Reach:
    """Return what becomes of ``reach`` under the rules of others at these hooks."""
    met = [obstacle for obstacle in facts.obstacles if obstacle.hook in hooks and obstacle.concerns(family.name)]
    for obstacle in sorted(met, key=lambda obstacle: not obstacle.certain):
        verdict = "no" if obstacle.certain else "depends"
        return Reach(who=reach.who, reached=verdict, reason=f"firewall of the host: {obstacle}")
    return reach


def _with(way: Way, reach: list[Reach]) -> Way:
    return Way(place=way.place, container=way.container, target=way.target, reach=reach)


def _yes(who: str, reason: str) -> Reach:
    return Reach(who=who, reached="yes", reason=reason)


def _no(who: str, reason: str) -> Reach:
    return Reach(who=who, reached="no", reason=reason)


def _chain(facts: Facts, family: Family, name: str) -> str:
    return f"table {family.name} {facts.table}, chain {name}"


def _family(address: str) -> Family:
    return IPV6 if ":" in address else IPV4


def _version(family: Family) -> str:
    return "IPv4" if family is IPV4 else "IPv6"


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
