"""Addresses: which subnet a network gets, and which address a container.

Pure bookkeeping; what is taken on the host is told by the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple

from boxship.base.errors import Forbidden, InvalidInput, SystemFailure
from boxship.networks.options import AddressPool

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network


class AddressInUse(Forbidden):
    """An address of the user's choice is somebody else's."""

    def __init__(self) -> None:
        super().__init__("Address already in use")


def subnets(pools: Iterable[AddressPool]) -> Iterator[Subnet]:
    """Yield the subnets of the pools in the order in which networks take them."""
    for pool in pools:
        yield from _checked(pool).subnets(new_prefix=pool.size)


class Span(NamedTuple):
    """Addresses of one family from ``first`` to ``last``, as numbers."""

    version: int
    first: int
    last: int


@functools.lru_cache(maxsize=32768)
def span(subnet: str) -> Span:
    """Return the addresses of a subnet that may have host bits; thousands are asked for again and again."""
    network = ip_network(subnet, strict=False)
    return Span(network.version, int(network.network_address), int(network.broadcast_address))


def free_subnet(pools: Iterable[AddressPool], taken: Iterable[Span]) -> Subnet:
    """Return the first subnet of the pools that overlaps nothing taken; raises SystemFailure when there is none.

    Costs as much as there is taken, not as there are subnets in the pools.
    """
    used = sorted(set(taken))
    version = 4
    for pool in pools:
        base = _checked(pool)
        version = base.version
        size = 1 << (base.max_prefixlen - pool.size)
        candidate, end = int(base.network_address), int(base.broadcast_address)
        for other_version, start, last in used:
            if other_version == version and start > candidate + size - 1:
                break
            if other_version == version and last >= candidate:
                candidate += -(-(last + 1 - candidate) // size) * size
        if candidate + size - 1 <= end:
            return type(base)((candidate, pool.size))
    raise SystemFailure(
        f"could not find an available, non-overlapping IPv{version} address pool among the defaults to assign to the network"
    )


class AddressSpace:
    """The addresses of one subnet: the lowest free one is next, as Docker does it.

    Network address, IPv4's broadcast address, the gateway and ``auxiliary`` ones are never given out. ``allocation_range``
    limits what is given to those who don't choose.
    """

    def __init__(
        self,
        network: str,
        subnet: Subnet,
        gateway: Address | None,
        allocation_range: Subnet | None = None,
        auxiliary: Iterable[Address] = (),
    ) -> None:
        if gateway is not None and gateway not in subnet:
            raise InvalidInput(f"gateway {gateway} is not in {subnet}")
        if allocation_range is not None and not _is_within(allocation_range, subnet):
            raise InvalidInput(f"fixed-cidr {allocation_range} is not in {subnet}")
        self.network = network
        self.subnet = subnet
        self.gateway = gateway
        self._range = allocation_range or subnet
        self._reserved = {int(address) for address in auxiliary}
        if subnet.num_addresses > 2:
            self._reserved.add(int(subnet.network_address))
            if subnet.version == 4:
                self._reserved.add(int(subnet.broadcast_address))
        if gateway is not None:
            self._reserved.add(int(gateway))
        self._taken: set[int] = set()

    def allocate(self) -> Address:
        """Take the lowest free address; raises SystemFailure when all are in use."""
        for number in range(int(self._range.network_address), int(self._range.broadcast_address) + 1):
            if number not in self._taken and number not in self._reserved:
                self._taken.add(number)
                return self._address(number)
        version = self.subnet.version
        raise SystemFailure(f"no available IPv{version} addresses on this network's address pools: {self.network}")

    def reserve(self, address: Address) -> bool:
        """Take one address; return False if it is in use, reserved, or of another subnet."""
        number = int(address)
        if address not in self.subnet or number in self._taken or number in self._reserved:
            return False
        self._taken.add(number)
        return True

    def choose(self, address: Address) -> Address:
        """Take the address that a user wants; raises AddressInUse."""
        if not self.reserve(address):
            raise AddressInUse
        return address

    def release(self, address: Address) -> None:
        """Give an address back; one that is not taken is no error."""
        self._taken.discard(int(address))

    def __len__(self) -> int:
        return len(self._taken)

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self.subnet.version == 4 else IPv6Address(number)


def mac_of(address: IPv4Address) -> str:
    """Return the MAC address that belongs to an IPv4 address: locally administered 02:42 and its four bytes."""
    return "02:42:" + address.packed.hex(":")


def overlap(one: Subnet, other: Subnet) -> bool:
    """Tell whether two subnets, perhaps of different families, have an address in common."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def _is_within(inner: Subnet, outer: Subnet) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _checked(pool: AddressPool) -> Subnet:
    base = ip_network(pool.base)
    if not base.prefixlen <= pool.size <= base.max_prefixlen - 2:
        raise InvalidInput(f"invalid default-address-pool: size {pool.size} does not fit into {pool.base}")
    return base
