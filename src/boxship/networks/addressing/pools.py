"""The subnets that a network takes when its user names none, apart from what the host itself reaches; and gateways."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network, ip_address, ip_network

import msgspec

from boxship.base.errors import InvalidInput
from boxship.linux import rtnetlink
from boxship.linux.netlink import Socket
from boxship.networks import files
from boxship.networks.addressing import ipam
from boxship.networks.addressing.ipam import Span
from boxship.networks.catalog import Network, Pool
from boxship.networks.filtering import guard
from boxship.networks.options import AddressPool

_WIDEST = 8  # a shorter prefix is a way to everywhere, as VPNs have it (0.0.0.0/1), and no network to keep away from
_WIDEST_V6 = 16


def complete(
    network: Network,
    pools: Sequence[AddressPool],
    *,
    several: bool,
    others: Iterable[Pool],
    servers: str,
    seed: str,
) -> Network:
    """Return the network with a subnet for each family that it has, and a gateway for each subnet. Blocking.

    ``others`` are pools of other networks, ``servers`` the host's resolv.conf; ``seed`` tells this engine's local IPv6
    addresses from those of others. Raises InvalidInput, SystemFailure when no subnet is left.
    """
    taken = [ipam.span(pool.subnet) for pool in [*others, *network.pools]]
    found = list(network.pools)
    with Socket.open() as sock:
        for version, wanted in ((4, network.ipv4), (6, network.ipv6)):
            if len(network.pools_of(version)) > 1 and not several:
                raise InvalidInput(f"{network.driver} driver doesn't support multiple subnets")
            if wanted and not network.pools_of(version):
                choices = [pool for pool in pools if ip_network(pool.base).version == version]
                if version == 6 and not choices:
                    choices = [local_pool(seed)]
                subnet = ipam.free_subnet(choices, [*taken, *host_networks(sock, version, servers)])
                found.append(Pool(subnet=str(subnet)))
    return msgspec.structs.replace(network, pools=[with_gateway(pool) for pool in found])


def with_gateway(pool: Pool) -> Pool:
    """Return a pool with its gateway: the one it names, else the first address of its range or subnet."""
    if pool.gateway:
        return pool
    subnet = ip_network(pool.ip_range or pool.subnet)
    whole = ip_network(pool.subnet)
    first = int(subnet.network_address) + (1 if subnet.network_address == whole.network_address else 0)
    if whole.num_addresses <= 2:
        first = int(whole.network_address)
    auxiliary = {int(ip_address(text)) for text in pool.auxiliary.values()}
    while first in auxiliary:
        first += 1
    address = type(whole.network_address)(first)
    if address not in whole:
        raise InvalidInput(f"no address for the gateway is left in {pool.subnet}")
    return msgspec.structs.replace(pool, gateway=str(address))


def host_networks(sock: Socket, version: int, servers: str) -> list[Span]:
    """Return the networks that a new subnet must not hide: the host's addresses, routes, and name servers.

    Ways to everywhere don't count.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    bits = 32 if version == 4 else 128
    found = []
    for place in rtnetlink.list_places(sock, family):
        if place.prefix >= (_WIDEST if version == 4 else _WIDEST_V6) and place.table != guard.TABLE:
            first = int.from_bytes(place.address, "big") >> bits - place.prefix << bits - place.prefix
            found.append(Span(version, first, first + (1 << bits - place.prefix) - 1))
    named = [ipam.span(text.partition("%")[0]) for text in files.name_servers(servers) if _is_address(text)]
    return found + [server for server in named if server.version == version]


def local_pool(seed: str) -> AddressPool:
    """Return the /48 of unique local IPv6 addresses (RFC 4193) that belongs to a seed, cut into networks of /64."""
    number = hashlib.sha256(f"boxship {seed}".encode()).digest()[:5]
    base = IPv6Network((int.from_bytes(b"\xfd" + number + bytes(10)), 48))
    return AddressPool(base=str(base), size=64)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
