"""From a request to the network that it describes: checks and defaults, in Docker's words.

Pure; subnets that the user leaves to us are chosen by :mod:`boxship.networks.addressing.ipam` afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from boxship.base.errors import Conflict, Forbidden, InvalidInput, NotFound
from boxship.networks.addressing.ipam import Subnet, overlap
from boxship.networks.catalog import BUILT_IN, Network, Pool
from boxship.spec.docker.network import IPAMPool, NetworkCreate

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_RESERVED = (*BUILT_IN, "default")


class NetworkNameTaken(Conflict):
    """Another network has the name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network with name {name} already exists")


class PoolOverlaps(Forbidden):
    """A subnet of the user's choice is in use by another network."""

    def __init__(self) -> None:
        super().__init__("invalid pool request: Pool overlaps with other one on this address space")


def define(request: NetworkCreate, others: Sequence[Network], *, id: str, created_ns: int) -> Network:
    """Return the network that a request describes, with the pools that it names.

    Raises InvalidInput, Conflict (the name), Forbidden (predefined names, overlapping subnets), NotFound (``config_from``).
    """
    name = request.name
    if name in _RESERVED:
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    if not name.strip():
        raise InvalidInput("invalid name: name is empty")
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"invalid network name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if any(other.name == name for other in others):
        raise NetworkNameTaken(name)
    if request.scope not in ("", "local"):
        raise InvalidInput(f"cannot create a network of scope {request.scope}: this engine is in no swarm")
    if request.ingress:
        raise InvalidInput("an ingress network needs a swarm: this engine is in none")
    ipam = request.ipam
    network = Network(
        id=id,
        name=name,
        driver=request.driver or "bridge",
        created_ns=created_ns,
        ipv4=request.enable_ipv4 is not False,
        ipv6=bool(request.enable_ipv6),
        internal=request.internal,
        attachable=request.attachable,
        config_only=request.config_only,
        ipam_driver=(ipam.driver if ipam else "") or "default",
        ipam_options=ipam.options if ipam else None,
        pools=[_pool(pool) for pool in (ipam.config if ipam else None) or []],
        options=request.options or {},
        labels=request.labels or {},
    )
    if network.config_only:
        return _configuration(request, network)
    source = request.config_from.network if request.config_from else ""
    if source:
        network = _configured(network, _source(source, others))
    return _checked(network, others)


def _configuration(request: NetworkCreate, network: Network) -> Network:
    if request.config_from and request.config_from.network:
        raise InvalidInput("a configuration network cannot depend on another configuration network")
    if request.driver and request.driver not in ("null", "bridge"):
        raise InvalidInput("a configuration network cannot have a driver")
    return msgspec.structs.replace(network, driver="null")


def _source(name: str, others: Sequence[Network]) -> Network:
    for other in others:
        if name in (other.name, other.id):
            if not other.config_only:
                raise InvalidInput(f'configuration network "{name}" is not a configuration network')
            return other
    raise NotFound(f'configuration network "{name}" not found')


def _configured(network: Network, source: Network) -> Network:
    """Return ``network`` with the configuration of another, besides which it may name none of its own."""
    if network.pools or network.ipam_driver != "default" or network.ipam_options:
        raise InvalidInput("user specified IPAM configuration is not supported if a configuration network is specified")
    if network.options:
        raise InvalidInput("user specified network driver options are not supported with a configuration network")
    return msgspec.structs.replace(
        network,
        config_from=source.name,
        ipv4=source.ipv4,
        ipv6=source.ipv6,
        internal=network.internal or source.internal,
        ipam_driver=source.ipam_driver,
        ipam_options=source.ipam_options,
        pools=source.pools,
        options=source.options,
        labels={**source.labels, **network.labels},
    )


def _checked(network: Network, others: Sequence[Network]) -> Network:
    if not network.ipv4 and not network.ipv6:
        raise InvalidInput("IPv4 or IPv6 must be enabled")
    for version, wanted in ((4, network.ipv4), (6, network.ipv6)):
        if network.pools_of(version) and not wanted:
            if version == 4:
                raise InvalidInput("invalid network config:\nIPv4 has been disabled, but an IPv4 subnet was given")
            # Docker leaves such a subnet out; so does a file that is shared with an engine without IPv6.
            network = msgspec.structs.replace(network, pools=network.pools_of(4))
    check_pools(network, others)
    return network


def check_pools(network: Network, others: Sequence[Network]) -> None:
    """Raise PoolOverlaps when a subnet of the network is in use by others, or twice in it."""
    taken = [ip_network(pool.subnet) for other in others if not other.config_only for pool in other.pools]
    for number, pool in enumerate(network.pools):
        subnet = ip_network(pool.subnet)
        if any(overlap(subnet, other) for other in taken):
            raise PoolOverlaps
        if any(overlap(subnet, ip_network(other.subnet)) for other in network.pools[:number]):
            raise PoolOverlaps


def _pool(config: IPAMPool) -> Pool:
    """Return a pool of the request; raises InvalidInput as Docker's validation of a network."""
    try:
        subnet = ip_network(config.subnet, strict=False)
    except ValueError as exc:
        raise InvalidInput(
            f"invalid network config:\ninvalid subnet {config.subnet}: invalid CIDR block notation"
        ) from exc
    if str(subnet) != _canonical(config.subnet):
        raise InvalidInput(f"invalid network config:\ninvalid subnet {config.subnet}: it should be {subnet}")
    ip_range = _range(config.ip_range, subnet) if config.ip_range else ""
    gateway = _member(config.gateway, subnet, "gateway") if config.gateway else ""
    auxiliary = {
        name: _member(text, subnet, "auxiliary address") for name, text in (config.auxiliary_addresses or {}).items()
    }
    return Pool(subnet=str(subnet), gateway=gateway, ip_range=ip_range, auxiliary=auxiliary, chosen=True)


def _canonical(text: str) -> str:
    address, slash, prefix = text.partition("/")
    return f"{ip_address(address)}/{prefix}" if slash else f"{ip_address(address)}/{128 if ':' in text else 32}"


def _range(text: str, subnet: Subnet) -> str:
    try:
        found = ip_network(text, strict=False)
    except ValueError as exc:
        raise InvalidInput(f"invalid network config:\ninvalid ip-range {text}: invalid CIDR block notation") from exc
    if str(found) != _canonical(text):
        raise InvalidInput(f"invalid network config:\ninvalid ip-range {text}: it should be {found}")
    if not overlap(found, subnet) or found.prefixlen < subnet.prefixlen:
        raise InvalidInput(
            f"invalid network config:\ninvalid ip-range {text}: CIDR block must be within the parent subnet {subnet}"
        )
    return str(found)


def _member(text: str, subnet: IPv4Network | IPv6Network, what: str) -> str:
    """Return an address of the subnet in its plain form; a prefix length behind it doesn't count."""
    try:
        address = ip_address(text.partition("/")[0])
    except ValueError as exc:
        raise InvalidInput(f"invalid network config:\ninvalid {what} {text}: invalid address") from exc
    if address not in subnet:
        raise InvalidInput(f"invalid network config:\ninvalid {what} {text}: parent subnet is {subnet}")
    return str(address)
