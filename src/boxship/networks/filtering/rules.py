"""The firewall's rules as text for nft: one table of IPv4 and one of IPv6, described from values.

What the rules promise, for each bridge:

- containers reach out, masqueraded as the host; answers come back. Those of an internal network reach nothing else;
- from outside, the host's other interfaces and other bridges, a container is reached through published ports only. Packets
  that name a container's address directly are dropped before anything else looks at them, so also for a port that is
  published on 127.0.0.1; so are packets with loopback or container addresses that come from a wrong interface. Of a network
  whose gateway mode is "routed" the published ports are open at the container's own address, of "nat-unprotected" all are;
- a published port is one element of a map, wildcard addresses in a map of their own; the container sees the client's
  address, except that loopback clients and containers of the same bridge show up as the bridge's address;
- containers of one bridge reach each other when ``icc`` is on.

Packets of others pass as if this table weren't there, unless forwarding was off before Boxship turned it on: then
nothing else is forwarded, as the administrator had it. Rules of the administrator in the chain ``USER_CHAIN`` come first.

What a packet costs does not grow with the number of networks or ports: each is an element of sets and maps. Neither does
what a change costs, as far as we can help it: nft reads all chains, and all elements of sets of plain intervals, before each
change. So a bridge has one chain of its own only, and subnets are in sets whose keys have a second part.

Where the host is to be respected, a published port is open to the outside as far as the host's own rules let packets to that
port of the host itself in. The first packet of a client is not translated but goes the way to a program of the host: through
every chain of the hook input. If it comes out of them all, the client's address and the port are admitted for a while, and
the packet is dropped; the client sends it again, and this one is translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from boxship.networks.models import PublishedPort
from boxship.networks.publishing import relay
from boxship.networks.publishing.publish import ANY, ANY_V6

USER_CHAIN = "BOXSHIP-USER"
ADMITTED_SECONDS = 60  # how long a change of the host's rules may go unnoticed where nobody tells of it
_ADMITTED_SIZE = 262144  # clients and ports; as many as the kernel tracks connections by default
_LAST_PRIORITY = 1000000  # after every other chain of input

_ALL_PROTOCOLS = "0-255"

MARK = 0x100000  # of packets to containers that passed these rules; see boxship.networks.filtering.guard

NAT, ROUTED, UNPROTECTED, ISOLATED = "nat", "routed", "nat-unprotected", "isolated"


class Family(NamedTuple):
    """How nft calls things of one IP version."""

    name: str
    address: str
    loopback: str
    icmp: str
    any: str


IPV4 = Family("ip", "ipv4_addr", "127.0.0.0/8", "icmp", ANY)
IPV6 = Family("ip6", "ipv6_addr", "::1", "icmpv6", ANY_V6)  # a name that nft knows without /etc/protocols


class BridgeRules(NamedTuple):
    """What the firewall knows of one bridge; ``id`` is of letters and digits, a subnet "" where there is none."""

    id: str
    link: str
    subnet: str = ""
    subnet_v6: str = ""
    icc: bool = True
    masquerade: bool = True
    internal: bool = False
    mode: str = NAT
    mode_v6: str = NAT

    def of(self, family: Family) -> tuple[str, str]:
        """Return subnet and gateway mode of a family."""
        return (self.subnet, self.mode) if family is IPV4 else (self.subnet_v6, self.mode_v6)


def table(
    family: Family,
    name: str,
    bridges: Iterable[BridgeRules],
    ports: Sequence[PublishedPort],
    *,
    forward_drop: bool,
    respect_host: bool = False,
    loopback: bool = True,
    user_rules: Sequence[str] = (),
) -> str:
    """Return the commands that put the whole table of a family in place of an older one, in one transaction.

    Without ``loopback`` packets to the host's loopback addresses are left to the proxy, as those of IPv6 always are.
    """
    ip, address = family.name, family.address
    local = f"{ip} daddr != {family.loopback} fib daddr type local jump publish"
    incoming = [local]
    if respect_host:
        admitted = f"{ip} saddr . meta l4proto . {ip} daddr . th dport @admitted"
        incoming = [f"iifname @bridges {local}", f"{admitted} fib daddr type local jump publish"]
    # Loopback packets of IPv6 can't be routed anywhere; of IPv4 they can, once the bridge allows it.
    output = "fib daddr type local jump publish" if family is IPV4 and loopback else local
    protocols = "meta l4proto { tcp, udp, sctp }"
    body = [
        *(_set(kind, f"{address} . inet_proto", interval=True) for kind in ("subnets", "masqueraded", "reachable")),
        _set("own", f"{address} . {address}", interval=True),
        *(_set(kind, "ifname") for kind in ("bridges", "closed", "internal")),
        *(_set(kind, "ifname . ifname") for kind in ("same", "inner")),
        _set("open", f"inet_proto . {address} . inet_service"),
        *(_map(kind, "ifname", "verdict") for kind in ("leaving", "entering")),
        _map("published", f"inet_proto . {address} . inet_service", f"{address} . inet_service"),
        _map("published-any", "inet_proto . inet_service", f"{address} . inet_service"),
        _chain(USER_CHAIN, "", user_rules),
        _chain(
            "publish",
            "",
            [
                f"{protocols} dnat {ip} to meta l4proto . {ip} daddr . th dport map @published",
                f"{protocols} dnat {ip} to meta l4proto . th dport map @published-any",
            ],
        ),
        _chain(
            "raw-prerouting",
            "type filter hook prerouting priority raw; policy accept;",
            [
                'iifname "lo" accept',
                f"{ip} daddr {family.loopback} drop",
                f"{ip} saddr {family.loopback} drop",
                "iifname vmap @leaving",
                f"{_is(family, 'saddr', 'subnets')} drop",
                f"{_foreign(family)} drop",
            ],
        ),
        _chain("prerouting", "type nat hook prerouting priority dstnat; policy accept;", incoming),
        *(_respect(family) if respect_host else []),
        _chain(
            "passed",
            "type filter hook prerouting priority -99; policy accept;",  # when destinations have been translated
            [f"{_is(family, 'daddr', 'subnets')} meta mark set meta mark | {MARK:#x}"],
        ),
        *_entering_chains(family),
        _chain("shut", "", ["iifname . oifname @inner return", "drop"]),
        _chain(
            "arriving",
            "",
            [
                f"{ip} saddr . {ip} daddr @own ct status dnat masquerade",
                f"{ip} saddr . {ip} daddr @own accept",
                *([f"ip saddr {family.loopback} masquerade"] if family is IPV4 else []),
            ],
        ),
        _chain("output", "type nat hook output priority -100; policy accept;", [output]),
        _chain(
            "forward",
            f"type filter hook forward priority filter; policy {'drop' if forward_drop else 'accept'};",
            [
                f"jump {USER_CHAIN}",
                "iifname @internal jump shut",
                "oifname vmap @entering",
                "oifname @closed drop",
                "iifname @bridges accept",
            ],
        ),
        _chain(
            "postrouting",
            "type nat hook postrouting priority srcnat; policy accept;",
            ["oifname @bridges jump arriving", f"{_is(family, 'saddr', 'masqueraded')} masquerade"],
        ),
    ]
    text = f"add table {ip} {name}\ndelete table {ip} {name}\ntable {ip} {name} {{\n{''.join(body)}}}\n"
    text += add_bridges(family, name, bridges) + add_ports(family, name, ports)
    return text + (guard_ports(family, name, ports) if respect_host else "")


def add_bridges(family: Family, name: str, bridges: Iterable[BridgeRules]) -> str:
    """Return the commands that make bridges known."""
    chains: list[str] = []
    elements: dict[str, list[str]] = {}
    for bridge in bridges:
        chains += _chains(family, bridge)
        for place, element in _bridge_elements(family, bridge):
            elements.setdefault(place, []).append(element)
    text = f"table {family.name} {name} {{\n{''.join(chains)}}}\n" if chains else ""
    return text + "".join(
        f"add element {family.name} {name} {place} {{ {', '.join(listed)} }}\n" for place, listed in elements.items()
    )


def delete_bridge(family: Family, name: str, bridge: BridgeRules) -> str:
    """Return the commands that forget a bridge."""
    ip = family.name
    text = "".join(
        f"delete element {ip} {name} {place} {{ {element.partition(' : ')[0]} }}\n"
        for place, element in _bridge_elements(family, bridge)
    )
    if bridge.of(family)[0]:
        text += f"flush chain {ip} {name} from-{bridge.id}\ndelete chain {ip} {name} from-{bridge.id}\n"
    return text


def entering_chain(family: Family, bridge: BridgeRules) -> str:
    """Return the chain for packets that are forwarded to a bridge; bridges of one kind share it."""
    mode = bridge.of(family)[1]
    words = ["internal"] if bridge.internal else [mode] if mode in (ROUTED, UNPROTECTED) else ["nat"]
    return "-".join(["to", *words, *(["icc"] if bridge.icc else [])])


def add_ports(family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that publish those of the ports that belong to a family."""
    return _port_commands("add", family, name, ports)


def delete_ports(family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that end the publishing of ports."""
    return _port_commands("delete", family, name, ports)


def guard_ports(family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that put published ports under the host's rules; see ``respect_host``."""
    return _guard_commands("add", family, name, ports)


def unguard_ports(family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    """Return the commands that end that."""
    return _guard_commands("delete", family, name, ports)


def forget_admitted(family: Family, name: str) -> str:
    """Return the command that lets the host's rules decide anew."""
    return f"flush set {family.name} {name} admitted\n"


def _respect(family: Family) -> list[str]:
    """Return the sets and chains that ask the host's rules."""
    ip, address = family.name, family.address
    key = f"{ip} saddr . meta l4proto . {ip} daddr . th dport"
    protocols = "meta l4proto { tcp, udp, sctp }"
    return [
        f" set admitted {{ type {address} . inet_proto . {address} . inet_service; flags dynamic,timeout;"
        f" timeout {ADMITTED_SECONDS}s; size {_ADMITTED_SIZE};\n }}\n",
        _set("guarded", f"inet_proto . {address} . inet_service"),
        _set("guarded-any", "inet_proto . inet_service"),
        _chain("admit", "", [f"{protocols} update @admitted {{ {key} }}", "drop"]),
        _chain(
            "input",
            f"type filter hook input priority {_LAST_PRIORITY}; policy accept;",
            [
                'iifname "lo" accept',
                f"ct state new fib daddr type local meta l4proto . {ip} daddr . th dport @guarded jump admit",
                "ct state new fib daddr type local meta l4proto . th dport @guarded-any jump admit",
            ],
        ),
    ]


def _chains(family: Family, bridge: BridgeRules) -> list[str]:
    subnet, _ = bridge.of(family)
    if not subnet:
        return []
    ip = family.name
    leaving = [
        f"{ip} saddr != {subnet} {_is(family, 'saddr', 'subnets')} drop",
        f"{ip} daddr != {subnet} {_foreign(family)} drop",
        "accept",
    ]
    return [_chain(f"from-{bridge.id}", "", leaving)]


def _entering_chains(family: Family) -> list[str]:
    """Return the chains of all kinds of bridges."""
    ip = family.name
    chains = []
    for kind in ("internal", NAT, ROUTED, UNPROTECTED):
        for icc in (False, True):
            rules = [] if kind == "internal" else ["ct state established,related accept", "ct status dnat accept"]
            rules += ["iifname . oifname @same accept"] if icc else []
            if kind == ROUTED:
                rules += [f"meta l4proto . {ip} daddr . th dport @open accept", f"meta l4proto {family.icmp} accept"]
            rules += ["accept" if kind == UNPROTECTED else "drop"]
            chains.append(_chain(f"to-{kind}{'-icc' if icc else ''}", "", rules))
    return chains


def _is(family: Family, which: str, name: str) -> str:
    """Return the match of an address, "saddr" or "daddr", in one of the sets of subnets."""
    return f"{family.name} {which} . meta l4proto @{name}"


def _foreign(family: Family) -> str:
    """Return the match of packets that name a container's address which is not open to all."""
    reachable = f"{family.name} daddr . meta l4proto != @reachable"
    return f"{_is(family, 'daddr', 'subnets')} {reachable} fib daddr type != local"


def _bridge_elements(family: Family, bridge: BridgeRules) -> list[tuple[str, str]]:
    """Return set or map and element of everything that is known of a bridge."""
    subnet, mode = bridge.of(family)
    link = f'"{bridge.link}"'
    if not subnet:
        return [("closed", link)]
    key = f"{subnet} . {_ALL_PROTOCOLS}"
    elements = [
        ("leaving", f"{link} : jump from-{bridge.id}"),
        ("entering", f"{link} : jump {entering_chain(family, bridge)}"),
        ("own", f"{subnet} . {subnet}"),
        ("subnets", key),
        ("bridges", link),
    ]
    if bridge.icc:
        elements.append(("same", f"{link} . {link}"))
    if bridge.internal:
        return [*elements, ("internal", link), ("inner", f"{link} . {link}")]
    if mode in (ROUTED, UNPROTECTED):
        elements.append(("reachable", key))
    if bridge.masquerade and mode in (NAT, UNPROTECTED):
        elements.append(("masqueraded", key))
    return elements


def place_of(port: PublishedPort) -> tuple[str, str]:
    """Return the set or map that makes a port known, and its key there."""
    if not port.host_port:  # routed: open at the container's own address
        return "open", f"{port.protocol} . {port.container_ip} . {port.container_port}"
    if port.host_ip in (ANY, ANY_V6):
        return "published-any", f"{port.protocol} . {port.host_port}"
    return "published", f"{port.protocol} . {port.host_ip} . {port.host_port}"


def _port_commands(verb: str, family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    found: dict[str, list[str]] = {}
    for port in _of(family, ports):
        place, key = place_of(port)
        value = f" : {port.container_ip} . {port.container_port}" if verb == "add" and place != "open" else ""
        found.setdefault(place, []).append(key + value)
    return _commands(verb, family, name, found)


def _guard_commands(verb: str, family: Family, name: str, ports: Iterable[PublishedPort]) -> str:
    found: dict[str, list[str]] = {}
    for port in _of(family, ports):
        place, key = place_of(port)
        if place != "open":
            found.setdefault(place.replace("published", "guarded"), []).append(key)
    return _commands(verb, family, name, found)


def _of(family: Family, ports: Iterable[PublishedPort]) -> list[PublishedPort]:
    return [port for port in ports if (":" in port.container_ip) is (family is IPV6) and not relay.crosses(port)]


def _commands(verb: str, family: Family, name: str, found: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f"{verb} element {family.name} {name} {place} {{ {', '.join(elements)} }}\n"
        for place, elements in found.items()
    )


def _set(name: str, key: str, *, interval: bool = False) -> str:
    return f" set {name} {{ type {key};{' flags interval;' if interval else ''}\n }}\n"


def _map(name: str, key: str, value: str) -> str:
    return f" map {name} {{ type {key} : {value};\n }}\n"


def _chain(name: str, head: str, rules: Sequence[str]) -> str:
    return f" chain {name} {{ {head}\n" + "".join(f"  {rule}\n" for rule in rules) + " }\n"
