"""What the operator chose for the default network (dockerd's flags of the same names)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import msgspec

from boxship.base.errors import InvalidInput

MIN_MTU = 68  # the least an IPv4 link may have, RFC 791
_LINK_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")  # linux/if.h: IFNAMSIZ; narrower than the kernel, it goes into rules


class AddressPool(msgspec.Struct, frozen=True, kw_only=True):
    """A range of addresses that is cut into subnets of prefix length ``size``."""

    base: str
    size: int


DEFAULT_ADDRESS_POOLS = (
    AddressPool(base="172.17.0.0/16", size=16),
    AddressPool(base="172.18.0.0/16", size=16),
    AddressPool(base="172.19.0.0/16", size=16),
    AddressPool(base="172.20.0.0/14", size=16),
    AddressPool(base="172.24.0.0/14", size=16),
    AddressPool(base="172.28.0.0/14", size=16),
    AddressPool(base="192.168.0.0/16", size=20),
    AddressPool(base="10.0.0.0/8", size=16),
)

# What users' networks take when the operator names no pools: small, so that there is room for thousands.
SMALL_ADDRESS_POOLS = (
    AddressPool(base="172.18.0.0/15", size=24),
    AddressPool(base="172.20.0.0/14", size=24),
    AddressPool(base="172.24.0.0/13", size=24),
    AddressPool(base="192.168.0.0/16", size=24),
    AddressPool(base="10.0.0.0/8", size=24),
)


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the default bridge, and of all networks.

    With ``userland_proxy`` a program carries the host's loopback connections to published ports, and those of a family that
    the container has no address of; without, only those of IPv6's loopback. See :mod:`boxship.networks.publishing.relay`.
    """

    bridge: str = ""  # an existing bridge to use; "none": no default network
    bip: str = ""  # the bridge's address with its prefix length
    fixed_cidr: str = ""  # containers get addresses of this part of the subnet
    default_address_pools: tuple[AddressPool, ...] = DEFAULT_ADDRESS_POOLS
    mtu: int = 1500
    icc: bool = True
    ip: str = "0.0.0.0"  # where ports are published that name no address
    ip_forward: bool = True
    ip_masq: bool = True
    iptables: bool = True
    userland_proxy: bool = False
    ipv6: bool = False
    fixed_cidr_v6: str = ""
    ip6tables: bool = True
    respect_host: bool = False  # the host's own rules decide who of the outside reaches published ports

    @property
    def pools(self) -> tuple[AddressPool, ...]:
        """The pools of users' networks, of IPv4 and perhaps of IPv6."""
        own = self.default_address_pools
        return SMALL_ADDRESS_POOLS if own is DEFAULT_ADDRESS_POOLS else own

    def __post_init__(self) -> None:
        if self.bridge and self.bip:
            raise InvalidInput(
                "You specified -b & --bip, mutually exclusive options. Please specify only one of the options"
            )
        if not self.iptables and not self.icc:
            raise InvalidInput(
                "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. "
                "Please set --icc or --iptables to true"
            )
        if self.bridge and not _LINK_NAME.fullmatch(self.bridge):
            raise InvalidInput(f"invalid bridge name: {self.bridge}")
        if self.mtu < MIN_MTU:
            raise InvalidInput(f"invalid MTU: {self.mtu}")
        checks: list[tuple[str, Callable[[str], object], str]] = [
            ("bip", ipaddress.IPv4Interface, self.bip),
            ("fixed-cidr", ipaddress.IPv4Network, self.fixed_cidr),
            ("ip", ipaddress.IPv4Address, self.ip),
            ("fixed-cidr-v6", ipaddress.IPv6Network, self.fixed_cidr_v6),
            *(("default-address-pool", ipaddress.ip_network, pool.base) for pool in self.default_address_pools),
        ]
        for option, check, value in checks:
            try:
                if value:
                    check(value)
            except ValueError as exc:
                raise InvalidInput(f"invalid {option}: {exc}") from exc
