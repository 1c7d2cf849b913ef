"""A network that is made, with its addresses; and the choice of addresses for an endpoint."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from boxship.base.errors import InvalidInput, SystemFailure
from boxship.linux.rtnetlink import mac_bytes
from boxship.networks.addressing.ipam import Address, AddressSpace, mac_of
from boxship.networks.catalog import Network, Pool
from boxship.networks.drivers import Driver
from boxship.networks.models import Endpoint, EndpointRequest


class Chosen(NamedTuple):
    """An address that an endpoint has, with its subnet's prefix length and gateway; empty: none of this family."""

    address: str = ""
    prefix_length: int = 0
    gateway: str = ""


class LiveNetwork:
    """One network of this engine: what is kept of it, its driver, and who has which of its addresses."""

    def __init__(self, spec: Network, driver: Driver) -> None:
        self.spec = spec
        self.driver = driver
        self.spaces = [
            _space(spec, pool) for pool in spec.pools if not pool.id
        ]  # those with an id an IPAM plugin keeps
        self.joining = 0  # containers that are being attached

    @property
    def id(self) -> str:
        """The 64-digit id."""
        return self.spec.id

    @property
    def name(self) -> str:
        """What users call it."""
        return self.spec.name

    @property
    def resolves_names(self) -> bool:
        """Whether containers in it find one another by name: in all that users made."""
        return not self.spec.built_in

    @property
    def publishes(self) -> bool:
        """Whether ports of its containers can be published."""
        return not self.spec.internal and self.driver.rules(self.spec) is not None

    def allocate(self, version: int, wish: str) -> Chosen:
        """Take an address of a family, the one that is wished for if there is a wish.

        Raises InvalidInput for an address that this network can't give, AddressInUse, SystemFailure when none is left.
        """
        if not wish:
            spaces = [space for space in self.spaces if space.subnet.version == version]
            for number, space in enumerate(spaces, 1):
                try:
                    return self._chosen(space, space.allocate())
                except SystemFailure:
                    if number == len(spaces):
                        raise
            return Chosen()
        address = _parse(wish, version)
        if self.spec.built_in:
            raise InvalidInput("user specified IP address is supported on user defined networks only")
        chosen = [pool.subnet for pool in self.spec.pools_of(version) if pool.chosen]
        if not chosen:
            raise InvalidInput(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
        for space in self.spaces:
            if address in space.subnet:
                return self._chosen(space, space.choose(address))
        raise InvalidInput(f"no configured subnet or ip-range contain the IP address {wish}")

    def reserve(self, endpoint: Endpoint) -> None:
        """Note the addresses of an endpoint that exists."""
        for text in (endpoint.address, endpoint.address_v6):
            for space in self.spaces if text else ():
                space.reserve(ip_address(text))

    def release(self, *addresses: str) -> None:
        """Give addresses back; empty ones and those that are free are no error."""
        for text in addresses:
            address = ip_address(text) if text else None
            for space in self.spaces:
                if address is not None and address in space.subnet:
                    space.release(address)

    def _chosen(self, space: AddressSpace, address: Address) -> Chosen:
        gateway = "" if self.spec.internal or space.gateway is None else str(space.gateway)
        return Chosen(str(address), space.subnet.prefixlen, gateway)


def mac_address(wish: EndpointRequest, address: str) -> str:
    """Return the MAC address of an endpoint: as wished for, else made of the IPv4 address, else random.

    Raises InvalidInput for a wish that is none.
    """
    if not wish.mac_address:
        return mac_of(IPv4Address(address)) if address else "02:42:" + os.urandom(4).hex(":")
    try:
        mac_bytes(wish.mac_address)
    except ValueError as exc:
        raise InvalidInput(f"invalid MAC address: {wish.mac_address}") from exc
    return wish.mac_address


def _parse(text: str, version: int) -> Address:
    try:
        address = ip_address(text)
    except ValueError as exc:
        raise InvalidInput(f"invalid IPv{version} address: {text}") from exc
    if address.version != version:
        raise InvalidInput(f"invalid IPv{version} address: {text}")
    return address


def _space(spec: Network, pool: Pool) -> AddressSpace:
    subnet: IPv4Network | IPv6Network = ip_network(pool.subnet)
    return AddressSpace(
        spec.name,
        subnet,
        ip_address(pool.gateway) if pool.gateway else None,
        ip_network(pool.ip_range) if pool.ip_range else None,
        [ip_address(text) for text in pool.auxiliary.values()],
    )
