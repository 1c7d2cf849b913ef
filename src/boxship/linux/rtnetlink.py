"""Links, addresses and routes as requests to the kernel, and what the kernel tells of them; see rtnetlink(7).

Functions return a :class:`~boxship.linux.netlink.Request` to be sent alone or in a batch; ``list_*`` ask a socket. A link
is named by its index or, where the index is not known yet in the same batch, by its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from boxship.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    Socket,
    attribute,
    nested,
    read_attributes,
    text,
    uint32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19  # linux/rtnetlink.h
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE = 32, 33

IFF_UP = 0x1  # linux/if.h

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10  # linux/if_link.h
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD = 18, 20, 26, 27, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
VETH_INFO_PEER = 1  # linux/veth.h
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4  # linux/if_addr.h
IFA_F_NODAD = 0x02
IFLA_MACVLAN_MODE = 1  # linux/if_link.h
IFLA_VLAN_ID = 1
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
FRA_IIFNAME, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK = 3, 4, 6, 10, 15, 16  # linux/fib_rules.h
FR_ACT_TO_TBL, FR_ACT_GOTO, FR_ACT_NOP = 1, 2, 3
FIB_RULE_INVERT = 0x2

RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = 0, 253, 254, 255
RTN_UNICAST, RTN_PROHIBIT = 1, 8

_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, device type, index, flags, mask of flags to change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst bits, src bits, tos, table, protocol, scope, type, flags


class Link:
    """One network interface; ``master`` and ``peer`` are indexes or 0, ``kind`` is "" for hardware."""

    __slots__ = ("address", "alias", "index", "kind", "master", "mtu", "name", "peer", "up")

    def __init__(
        self, *, index: int, name: str, up: bool, kind: str, alias: str, address: str, mtu: int, master: int, peer: int
    ) -> None:
        self.index = index
        self.name = name
        self.up = up
        self.kind = kind
        self.alias = alias
        self.address = address
        self.mtu = mtu
        self.master = master
        self.peer = peer


class Address:
    """One address of an interface, as text, with its prefix length."""

    __slots__ = ("address", "index", "prefix")

    def __init__(self, index: int, address: str, prefix: int) -> None:
        self.index = index
        self.address = address
        self.prefix = prefix


class Place:
    """Where an address or a route is: packed, with its prefix length; ``table`` is 0 for an address."""

    __slots__ = ("address", "prefix", "table")

    def __init__(self, address: bytes, prefix: int, table: int) -> None:
        self.address = address
        self.prefix = prefix
        self.table = table


class Route:
    """One route; ``destination`` is "" for the default route, ``gateway`` "" for a route on the link."""

    __slots__ = ("destination", "gateway", "index", "metric", "prefix", "table")

    def __init__(self, destination: str, prefix: int, gateway: str, index: int, table: int, metric: int = 0) -> None:
        self.destination = destination
        self.prefix = prefix
        self.gateway = gateway
        self.index = index
        self.table = table
        self.metric = metric


def new_bridge(name: str, *, mac: str, mtu: int | None = None) -> Request:
    """Make a bridge. A fixed ``mac`` keeps its address from following the lowest one of its ports."""
    return Request(
        f"create bridge {name}",
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, mac_bytes(mac))
        + (uint32(IFLA_MTU, mtu) if mtu else b"")
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge")),
    )


def new_veth(
    name: str,
    *,
    master: int,
    mtu: int,
    peer_name: str,
    peer_mac: str,
    peer_ns_fd: int,
) -> Request:
    """Make a veth pair: ``name`` here, up and a port of ``master``; its peer, still down, in the namespace ``peer_ns_fd``.

    The kernel refuses a peer that is to be up in the same request (ENOTCONN).
    """
    peer = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, peer_name)
        + attribute(IFLA_ADDRESS, mac_bytes(peer_mac))
        + uint32(IFLA_MTU, mtu)
        + uint32(IFLA_NET_NS_FD, peer_ns_fd)
    )
    return Request(
        f"create veth {name}",
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
        + text(IFLA_IFNAME, name)
        + uint32(IFLA_MTU, mtu)
        + uint32(IFLA_MASTER, master)
        + nested(
            IFLA_LINKINFO,
            text(IFLA_INFO_KIND, "veth"),
            nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)),
        ),
    )


def new_macvlan(name: str, *, parent: int, mode: str, mac: str, mtu: int, ns_fd: int) -> Request:
    """Make a macvlan link over the link ``parent``, in the namespace ``ns_fd``, down; ``mode`` is one of MACVLAN_MODES."""
    return Request(
        f"create macvlan {name}",
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + uint32(IFLA_LINK, parent)
        + attribute(IFLA_ADDRESS, mac_bytes(mac))
        + (uint32(IFLA_MTU, mtu) if mtu else b"")
        + uint32(IFLA_NET_NS_FD, ns_fd)
        + nested(
            IFLA_LINKINFO,
            text(IFLA_INFO_KIND, "macvlan"),
            nested(IFLA_INFO_DATA, uint32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])),
        ),
    )


def new_vlan(name: str, *, parent: int, id: int) -> Request:
    """Make the link of the VLAN ``id`` (IEEE 802.1Q) over the link ``parent``, down."""
    return Request(
        f"create vlan {name}",
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + uint32(IFLA_LINK, parent)
        + nested(
            IFLA_LINKINFO,
            text(IFLA_INFO_KIND, "vlan"),
            nested(IFLA_INFO_DATA, attribute(IFLA_VLAN_ID, struct.pack("=H", id))),
        ),
    )


def new_ipvlan(name: str, *, parent: int, mode: int, flags: int, mtu: int = 0, ns_fd: int | None = None) -> Request:
    """Make an ipvlan link over the link ``parent``, in the namespace ``ns_fd`` (None: here), down.

    For ``mode`` and ``flags`` see linux/if_link.h, IPVLAN_MODE_* and IPVLAN_F_*.
    """
    data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", mode)) + attribute(IFLA_IPVLAN_FLAGS, struct.pack("=H", flags))
    return Request(
        f"create ipvlan {name}",
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + uint32(IFLA_LINK, parent)
        + (uint32(IFLA_MTU, mtu) if mtu else b"")
        + (b"" if ns_fd is None else uint32(IFLA_NET_NS_FD, ns_fd))
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "ipvlan"), nested(IFLA_INFO_DATA, data)),
    )


def set_link(
    link: int | str,
    *,
    up: bool | None = None,
    master: int | None = None,
    alias: str | None = None,
    mtu: int | None = None,
    name: str | None = None,
    mac: str | None = None,
    ns_fd: int | None = None,
) -> Request:
    """Change what is given of a link; ``master`` 0 takes it out of its bridge, ``name`` needs an index and a link down.

    With ``ns_fd`` it moves into that namespace first, where it is down and may get another ``name`` at once.
    """
    index, attributes = _target(link)
    if master is not None:
        attributes += uint32(IFLA_MASTER, master)
    if alias is not None:
        attributes += attribute(IFLA_IFALIAS, alias.encode())
    if mtu is not None:
        attributes += uint32(IFLA_MTU, mtu)
    if name is not None:
        attributes += text(IFLA_IFNAME, name)
    if mac is not None:
        attributes += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if ns_fd is not None:
        attributes += uint32(IFLA_NET_NS_FD, ns_fd)
    flags = IFF_UP if up else 0
    mask = 0 if up is None else IFF_UP
    return Request(f"change link {link}", RTM_SETLINK, 0, _IFINFO.pack(0, 0, index, flags, mask) + attributes)


def set_no_link_local(link: int | str) -> Request:
    """Keep the kernel from giving the link an IPv6 link-local address when it comes up."""
    index, attributes = _target(link)
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    attributes += nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
    return Request(f"no link-local address on {link}", RTM_SETLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + attributes)


def set_bridge_port(link: int | str, *, hairpin: bool = False, isolated: bool = False) -> Request:
    """Set how a bridge treats a port.

    ``hairpin`` lets frames leave by the port they came from; ``isolated`` keeps them from other isolated ports, while the
    bridge itself stays reachable.
    """
    index, attributes = _target(link)
    attributes += nested(
        IFLA_LINKINFO,
        text(IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(
            IFLA_INFO_SLAVE_DATA,
            attribute(IFLA_BRPORT_MODE, bytes([hairpin])),
            attribute(IFLA_BRPORT_ISOLATED, bytes([isolated])),
        ),
    )
    return Request(f"set bridge port {link}", RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + attributes)


def delete_link(link: int | str) -> Request:
    """Remove a link; of a veth pair both ends go."""
    index, attributes = _target(link)
    return Request(f"delete link {link}", RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + attributes)


def _group_link(index: int, group: int) -> Request:
    payload = _IFINFO.pack(0, 0, index, 0, 0) + uint32(IFLA_GROUP, group)
    return Request(f"group link {index}", RTM_NEWLINK, 0, payload)


def new_address(index: int, address: str, prefix: int, *, broadcast: str | None = None) -> Request:
    """Give the link ``index`` an IPv4 or IPv6 address; one that it has already is no error.

    One of IPv6 is used at once, without looking for others that have it (IFA_F_NODAD): who gives it out knows.
    """
    family, packed = _packed(address)
    local = address.startswith(("fe80:", "169.254."))
    flags = IFA_F_NODAD if family == socket.AF_INET6 else 0
    payload = _IFADDR.pack(family, prefix, flags, RT_SCOPE_LINK if local else RT_SCOPE_UNIVERSE, index)
    payload += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if broadcast is not None:
        payload += attribute(IFA_BROADCAST, _packed(broadcast)[1])
    return Request(f"add address {address}/{prefix}", RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, payload)


def delete_address(index: int, address: str, prefix: int) -> Request:
    """Take an address from the link ``index``."""
    family, packed = _packed(address)
    payload = _IFADDR.pack(family, prefix, 0, 0, index) + attribute(IFA_LOCAL, packed)
    return Request(f"delete address {address}/{prefix}", RTM_DELADDR, 0, payload)


def new_route(
    destination: str, prefix: int, *, gateway: str | None = None, index: int = 0, replace: bool = False
) -> Request:
    """Add a route to the main table, or ``replace`` the one there is; "0.0.0.0" or "::" with prefix 0 is the default."""
    flags = NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL)
    payload = _route(destination, prefix, gateway, index, RTPROT_BOOT)
    return Request(f"add route {destination}/{prefix}", RTM_NEWROUTE, flags, payload)


def delete_route(destination: str, prefix: int) -> Request:
    """Remove the route to a destination from the main table."""
    return Request(f"delete route {destination}/{prefix}", RTM_DELROUTE, 0, _route(destination, prefix, None, 0, 0))


def new_prohibition(destination: str, prefix: int, *, table: int, metric: int) -> Request:
    """Add a route to ``table`` that refuses packets to a destination."""
    payload = _prohibition(destination, prefix, table, metric)
    return Request(f"prohibit {destination}/{prefix}", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload)


def delete_prohibition(destination: str, prefix: int, *, table: int, metric: int) -> Request:
    """Remove what :func:`new_prohibition` added."""
    payload = _prohibition(destination, prefix, table, metric)
    return Request(f"allow {destination}/{prefix}", RTM_DELROUTE, 0, payload)


def new_rule(
    family: int, priority: int, *, from_host: bool = False, goto: int = 0, without_mark: int = 0, table: int = 0
) -> Request:
    """Add a routing rule; see ip-rule(8).

    For packets of the host itself (``from_host``) or those that lack the bits ``without_mark``, or all: ``goto`` a later
    rule, look up in ``table``, or do nothing.
    """
    action = FR_ACT_GOTO if goto else FR_ACT_TO_TBL if table else FR_ACT_NOP
    payload = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, action, FIB_RULE_INVERT if without_mark else 0)
    payload += uint32(FRA_PRIORITY, priority)
    if from_host:
        payload += text(FRA_IIFNAME, "lo")
    if goto:
        payload += uint32(FRA_GOTO, goto)
    if without_mark:
        payload += uint32(FRA_FWMARK, without_mark) + uint32(FRA_FWMASK, without_mark)
    if table:
        payload += uint32(FRA_TABLE, table)
    return Request(f"add routing rule {priority}", RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, payload)


def delete_rule(family: int, priority: int) -> Request:
    """Remove the routing rule of this priority."""
    payload = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + uint32(FRA_PRIORITY, priority)
    return Request(f"delete routing rule {priority}", RTM_DELRULE, 0, payload)


def _prohibition(destination: str, prefix: int, table: int, metric: int) -> bytes:
    family, packed = _packed(destination)
    payload = _RTMSG.pack(family, prefix, 0, 0, 0, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_PROHIBIT, 0)
    return payload + attribute(RTA_DST, packed) + uint32(RTA_PRIORITY, metric) + uint32(RTA_TABLE, table)


def _route(destination: str, prefix: int, gateway: str | None, index: int, protocol: int) -> bytes:
    family, packed = _packed(destination)
    scope = RT_SCOPE_UNIVERSE if gateway or family == socket.AF_INET6 else RT_SCOPE_LINK
    if not protocol:
        scope = RT_SCOPE_NOWHERE
    payload = _RTMSG.pack(family, prefix, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST if protocol else 0, 0)
    if prefix:
        payload += attribute(RTA_DST, packed)
    if gateway is not None:
        payload += attribute(RTA_GATEWAY, _packed(gateway)[1])
    if index:
        payload += uint32(RTA_OIF, index)
    return payload


def list_links(sock: Socket) -> list[Link]:
    """Return all links of the socket's namespace."""
    request = Request("list links", RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0))
    return [read_link(message.payload) for message in sock.dump(request) if message.type == RTM_NEWLINK]


def list_addresses(sock: Socket, family: int = socket.AF_INET) -> list[Address]:
    """Return the addresses of one family in the socket's namespace."""
    request = Request("list addresses", RTM_GETADDR, 0, _IFADDR.pack(family, 0, 0, 0, 0))
    return [read_address(message.payload) for message in sock.dump(request) if message.type == RTM_NEWADDR]


def list_routes(sock: Socket, family: int = socket.AF_INET) -> list[Route]:
    """Return the routes of one family, all tables, in the socket's namespace."""
    request = Request("list routes", RTM_GETROUTE, 0, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    return [read_route(message.payload) for message in sock.dump(request) if message.type == RTM_NEWROUTE]


def list_places(sock: Socket, family: int) -> list[Place]:
    """Return where the addresses and routes of one family are, without the routes that go with addresses.

    Reads nothing else of them: a host may have thousands. A route to everywhere has no address.
    """
    found = []
    request = Request("list addresses", RTM_GETADDR, 0, _IFADDR.pack(family, 0, 0, 0, 0))
    for message in sock.dump(request):
        if message.type == RTM_NEWADDR:
            attributes = read_attributes(message.payload, _IFADDR.size)
            address = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
            found.append(Place(address, message.payload[1], 0))
    bits = 32 if family == socket.AF_INET else 128
    request = Request("list routes", RTM_GETROUTE, 0, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
    for message in sock.dump(request):
        if message.type == RTM_NEWROUTE and (message.payload[4], message.payload[1]) != (RT_TABLE_LOCAL, bits):
            attributes = read_attributes(message.payload, _RTMSG.size)
            table = _number(attributes.get(RTA_TABLE, b"")) or message.payload[4]
            found.append(Place(attributes.get(RTA_DST, b""), message.payload[1], table))
    return found


def find_link(sock: Socket, name: str) -> Link | None:
    """Return the link with that name, or None."""
    request = Request(f"find link {name}", RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name))
    try:
        return read_link(sock.query(request).payload)
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        raise


def delete_links(sock: Socket, links: list[int]) -> None:
    """Remove links by index; one that has gone meanwhile is no error.

    Several are put into a group, which the kernel removes as fast as one: each alone takes it 15 ms and more.
    """
    if len(links) > 1:
        group = int.from_bytes(os.urandom(4), "big") >> 1 or 1  # nobody else's
        for index in links:
            with contextlib.suppress(OSError):
                sock.execute([_group_link(index, group)])
        with contextlib.suppress(OSError):
            sock.execute(
                [Request("delete links", RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + uint32(IFLA_GROUP, group))]
            )
    for index in links:
        try:
            sock.execute([delete_link(index)])
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise


def read_link(payload: bytes) -> Link:
    """Return the link of an RTM_NEWLINK message."""
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    attributes = read_attributes(payload, _IFINFO.size)
    info = read_attributes(attributes.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_text(attributes.get(IFLA_IFNAME, b"")),
        up=bool(flags & IFF_UP),
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        alias=_text(attributes.get(IFLA_IFALIAS, b"")),
        address=mac_text(attributes.get(IFLA_ADDRESS, b"")),
        mtu=_number(attributes.get(IFLA_MTU, b"")),
        master=_number(attributes.get(IFLA_MASTER, b"")),
        peer=_number(attributes.get(IFLA_LINK, b"")),
    )


def read_address(payload: bytes) -> Address:
    """Return the address of an RTM_NEWADDR message."""
    family, prefix, _, _, index = _IFADDR.unpack_from(payload)
    attributes = read_attributes(payload, _IFADDR.size)
    local = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]  # IPv6 has IFA_ADDRESS only
    return Address(index, socket.inet_ntop(family, local), prefix)


def read_route(payload: bytes) -> Route:
    """Return the route of an RTM_NEWROUTE message."""
    family, prefix, _, _, table, _, _, _, _ = _RTMSG.unpack_from(payload)
    attributes = read_attributes(payload, _RTMSG.size)
    destination = attributes.get(RTA_DST)
    gateway = attributes.get(RTA_GATEWAY)
    return Route(
        destination=socket.inet_ntop(family, destination) if destination else "",
        prefix=prefix,
        gateway=socket.inet_ntop(family, gateway) if gateway else "",
        index=_number(attributes.get(RTA_OIF, b"")),
        table=_number(attributes.get(RTA_TABLE, b"")) or table,
        metric=_number(attributes.get(RTA_PRIORITY, b"")),
    )


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of a MAC address written with colons; raises ValueError."""
    parts = mac.split(":")
    try:
        packed = bytes(int(part, 16) for part in parts if len(part) == 2)
    except ValueError:
        packed = b""
    if len(packed) != 6 or len(parts) != 6:
        raise ValueError(f"not a MAC address: {mac}")
    return packed


def mac_text(packed: bytes) -> str:
    """Return a MAC address with colons, "" for none."""
    return packed.hex(":") if packed else ""


def _target(link: int | str) -> tuple[int, bytes]:
    return (link, b"") if isinstance(link, int) else (0, text(IFLA_IFNAME, link))


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes) -> int:
    return struct.unpack("=I", value)[0] if len(value) == 4 else 0
