"""Addresses: which subnet a network gets, and which address a container.

Pure bookkeeping; what is taken on the host is told by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.networks.options import AddressPool


def subnets(pools: Iterable[AddressPool]) -> Iterator[IPv4Network]:
    """Yield the subnets of the pools in the order in which networks take them."""
    for pool in pools:
        base = IPv4Network(pool.base)
        if not base.prefixlen <= pool.size <= 30:
            raise InvalidInput(f"invalid default-address-pool: size {pool.size} does not fit into {pool.base}")
        yield from base.subnets(new_prefix=pool.size)


def free_subnet(pools: Iterable[AddressPool], taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first subnet of the pools that overlaps nothing taken; raises SystemFailure when there is none."""
    used = list(taken)
    for subnet in subnets(pools):
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise SystemFailure(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )


class AddressSpace:
    """The addresses of one network: the lowest free one is next, as Docker does it.

    Network address, broadcast address and gateway are never given out. ``allocation_range`` limits what is.
    """

    def __init__(
        self, network: str, subnet: IPv4Network, gateway: IPv4Address, allocation_range: IPv4Network | None = None
    ) -> None:
        if gateway not in subnet:
            raise InvalidInput(f"gateway {gateway} is not in {subnet}")
        if allocation_range is not None and not allocation_range.subnet_of(subnet):
            raise InvalidInput(f"fixed-cidr {allocation_range} is not in {subnet}")
        self.network = network
        self.subnet = subnet
        self.gateway = gateway
        self._range = allocation_range or subnet
        self._reserved = {int(gateway), int(subnet.network_address), int(subnet.broadcast_address)}
        self._taken: set[int] = set()

    def allocate(self) -> IPv4Address:
        """Take the lowest free address; raises SystemFailure when all are in use."""
        for number in range(int(self._range.network_address), int(self._range.broadcast_address) + 1):
            if number not in self._taken and number not in self._reserved:
                self._taken.add(number)
                return IPv4Address(number)
        raise SystemFailure(f"no available IPv4 addresses on this network's address pools: {self.network}")

    def reserve(self, address: IPv4Address) -> bool:
        """Take one address; return False if it is in use, reserved, or of another subnet."""
        number = int(address)
        if address not in self.subnet or number in self._taken or number in self._reserved:
            return False
        self._taken.add(number)
        return True

    def release(self, address: IPv4Address) -> None:
        """Give an address back; one that is not taken is no error."""
        self._taken.discard(int(address))

    def __len__(self) -> int:
        return len(self._taken)


def mac_of(address: IPv4Address) -> str:
    """Return the MAC address that belongs to an IPv4 address: locally administered 02:42 and its four bytes."""
    return "02:42:" + address.packed.hex(":")
