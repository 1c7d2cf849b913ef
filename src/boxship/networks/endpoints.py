"""An endpoint in the kernel: a veth pair between the bridge and a namespace, and its end."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable

from boxship.linux import conntrack, rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks.bridge import Bridge
from boxship.networks.models import Endpoint, PublishedPort

_INSIDE = "eth0"


def connect(
    host: Socket,
    inside: Socket,
    bridge: Bridge,
    endpoint: Endpoint,
    *,
    namespace: str,
    alias: str,
    hairpin: bool,
    isolated: bool,
) -> None:
    """Make the veth pair of ``endpoint`` and configure its inner end; two batches, two thirds of a millisecond.

    ``hairpin`` lets it reach its own published ports where br_netfilter is loaded, which forwards such packets as frames.
    ``isolated`` keeps it from talking to its neighbours on the bridge. Raises OSError, ValueError for a bad MAC address;
    the host's end may exist then.
    """
    ns_fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        requests = [
            rtnetlink.new_veth(
                endpoint.host_link,
                master=bridge.link,
                mtu=endpoint.mtu,
                peer_name=_INSIDE,
                peer_mac=endpoint.mac_address,
                peer_ns_fd=ns_fd,
            ),
            rtnetlink.set_link(endpoint.host_link, alias=alias),
        ]
        if hairpin or isolated:
            requests.append(rtnetlink.set_bridge_port(endpoint.host_link, hairpin=hairpin, isolated=isolated))
        host.execute(requests)
    finally:
        os.close(ns_fd)
    link = rtnetlink.find_link(inside, _INSIDE)
    if link is None:
        raise OSError(errno.ENODEV, f"{_INSIDE} is not in the namespace")
    inside.execute(
        [
            rtnetlink.set_no_link_local(link.index),
            rtnetlink.set_link(link.index, up=True),
            rtnetlink.new_address(
                link.index, endpoint.address, endpoint.prefix_length, broadcast=str(bridge.subnet.broadcast_address)
            ),
            rtnetlink.new_route("0.0.0.0", 0, gateway=endpoint.gateway),
        ]
    )


def disconnect(host: Socket, link: str) -> None:
    """Take a veth's host end down and off the bridge, which stops its traffic at once; one that is gone is no error.

    Deleting it would take 15 to 24 ms; the kernel does that when the namespace ends.
    """
    with contextlib.suppress(OSError):
        host.execute([rtnetlink.set_link(link, up=False, master=0)])


def forget_flows(sock: Socket, address: str) -> None:
    """End the tracked connections of an address; a kernel without the filter keeps them until they time out."""
    with contextlib.suppress(OSError):
        conntrack.forget_flows(sock, address)


def forget_datagrams(sock: Socket, ports: Iterable[PublishedPort]) -> None:
    """End the tracked flows of UDP to these host ports, which would go on to the old place; TCP connections stay."""
    with contextlib.suppress(OSError):
        for port in {port.host_port for port in ports if port.protocol == "udp"}:
            conntrack.forget_datagrams_to(sock, port)


def adopt(host: Socket, bridge: Bridge, claimed: set[str], alias_prefix: str) -> None:
    """Put claimed host ends back on the bridge and delete those of our alias that nobody claims; raises OSError."""
    orphans = []
    for link in rtnetlink.list_links(host):
        if link.name in claimed:
            if link.master != bridge.link or not link.up:
                host.execute([rtnetlink.set_link(link.index, master=bridge.link, up=True)])
        elif link.alias.startswith(alias_prefix):
            orphans.append(link.index)
    rtnetlink.delete_links(host, orphans)
