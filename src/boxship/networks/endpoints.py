"""An endpoint inside its namespace: addresses, routes, and its end."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from ipaddress import ip_network

from boxship.linux import conntrack, rtnetlink
from boxship.linux.netlink import Request, Socket
from boxship.networks.gateways import Gateways
from boxship.networks.models import Endpoint, PublishedPort

_DEFAULT = {4: "0.0.0.0", 6: "::"}


def configure(inside: Socket, endpoint: Endpoint) -> None:
    """Give the endpoint's interface its addresses and set it up, in one batch; raises OSError."""
    link = rtnetlink.find_link(inside, endpoint.link)
    if link is None:
        raise OSError(errno.ENODEV, f"{endpoint.link} is not in the namespace")
    requests: list[Request] = [] if endpoint.address_v6 else [rtnetlink.set_no_link_local(link.index)]
    requests.append(rtnetlink.set_link(link.index, up=True))
    if endpoint.address:
        network = ip_network(f"{endpoint.address}/{endpoint.prefix_length}", strict=False)
        broadcast = str(network.broadcast_address) if network.num_addresses > 2 else None
        requests.append(
            rtnetlink.new_address(link.index, endpoint.address, endpoint.prefix_length, broadcast=broadcast)
        )
    if endpoint.address_v6:
        requests.append(rtnetlink.new_address(link.index, endpoint.address_v6, endpoint.prefix_length_v6))
    requests += [
        rtnetlink.new_address(link.index, address, 64 if ":" in address else 16) for address in endpoint.link_local
    ]
    for static in endpoint.routes:
        subnet, gateway = ip_network(static.destination), static.next_hop or None
        requests.append(
            rtnetlink.new_route(
                str(subnet.network_address), subnet.prefixlen, gateway=gateway, index=link.index, replace=True
            )
        )
    inside.execute(requests)


def route(inside: Socket, before: Gateways, after: Gateways) -> None:
    """Put the default routes where ``after`` says; raises OSError."""
    for version, old, new in ((4, before.v4, after.v4), (6, before.v6, after.v6)):
        if new is None:
            if old is not None:  # with its interface it may be gone already
                with contextlib.suppress(OSError):
                    inside.execute([rtnetlink.delete_route(_DEFAULT[version], 0)])
            continue
        if old is not None and old.endpoint_id == new.endpoint_id:
            continue
        link = rtnetlink.find_link(inside, new.link)
        gateway = new.gateway if version == 4 else new.gateway_v6
        if version == 6 and old is not None:  # IPv6 would keep both
            with contextlib.suppress(OSError):
                inside.execute([rtnetlink.delete_route(_DEFAULT[version], 0)])
        index = link.index if link else 0
        inside.execute([rtnetlink.new_route(_DEFAULT[version], 0, gateway=gateway, index=index, replace=True)])


def remove(inside: Socket, endpoint: Endpoint) -> None:
    """Delete the endpoint's interface, both ends of a veth pair; blocks for 15 to 24 ms. One that is gone is no error."""
    with contextlib.suppress(OSError):
        inside.execute([rtnetlink.delete_link(endpoint.link)])


def give_up(inside: Socket, endpoint: Endpoint) -> None:
    """Take the endpoint's interface out of the namespace; blocks for 15 to 24 ms. One that is gone is no error.

    One that a plugin made goes back to the host under its old name, all others are deleted, both ends of a veth pair.
    """
    with contextlib.suppress(OSError):
        link = rtnetlink.find_link(inside, endpoint.link)
        if link is not None and endpoint.plugin_link:
            host_ns_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                inside.execute([rtnetlink.set_link(link.index, name=endpoint.plugin_link, ns_fd=host_ns_fd)])
            finally:
                os.close(host_ns_fd)
            return
    remove(inside, endpoint)


def disconnect(host: Socket, endpoint: Endpoint) -> None:
    """Take a veth's host end down and off the bridge, which stops its traffic at once; one that is gone is no error.

    Deleting it would take 15 to 24 ms; the kernel does that when the namespace ends.
    """
    if endpoint.host_link:
        with contextlib.suppress(OSError):
            host.execute([rtnetlink.set_link(endpoint.host_link, up=False, master=0)])


def forget_flows(sock: Socket, addresses: Iterable[str]) -> None:
    """End the tracked connections of addresses; a kernel without the filter keeps them until they time out."""
    for address in addresses:
        with contextlib.suppress(OSError):
            conntrack.forget_flows(sock, address)


def forget_datagrams(sock: Socket, ports: Iterable[PublishedPort]) -> None:
    """End the tracked flows of UDP to these host ports, which would go on to the old place; TCP connections stay."""
    with contextlib.suppress(OSError):
        for port in {port.host_port for port in ports if port.protocol == "udp"}:
            conntrack.forget_datagrams_to(sock, port)
