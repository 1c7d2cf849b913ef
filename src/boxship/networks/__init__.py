"""Container networks: drivers, addresses, published ports, firewall rules, and the files that tell a container of them.

Owns what exists in the kernel for them (bridges, veth pairs, namespaces' files, nftables tables) and nothing on disk but
what the networks are. Does not own processes, and makes namespaces only through a :class:`NamespaceFactory`.

Words: a *sandbox* is a container's network namespace with what was set up in it; an *endpoint* is its place in one
network; a *pool* is a range of addresses that subnets are taken from. A port is *published* when the host forwards it.
"""

from boxship.networks.models import (
    USER_SUFFIX,
    AttachRequest,
    Endpoint,
    EndpointRequest,
    NamespaceFactory,
    PublishedPort,
    Resolving,
    Sandbox,
    UserNamespace,
)
from boxship.networks.options import AddressPool, NetworkOptions
from boxship.networks.service import NetworkService

__all__ = [
    "USER_SUFFIX",
    "AddressPool",
    "AttachRequest",
    "Endpoint",
    "EndpointRequest",
    "NamespaceFactory",
    "NetworkOptions",
    "NetworkService",
    "PublishedPort",
    "Resolving",
    "Sandbox",
    "UserNamespace",
]
