"""What the engine and the networks tell each other: requests to attach, and sandboxes."""

from __future__ import annotations

from typing import Protocol

import msgspec

from boxship.base.identity import IdentityMapping
from boxship.spec.docker.container import PortBinding

USER_SUFFIX = ".user"


class UserNamespace(msgspec.Struct, frozen=True, kw_only=True):
    """The user namespace that a network namespace is to belong to: a new one, or the one at ``path``."""

    identity: IdentityMapping
    path: str = ""

    def message(self) -> dict[str, object]:
        """Return what the launcher is told."""
        return {"path": self.path} if self.path else dict(self.identity.message())


class NamespaceFactory(Protocol):
    """Makes network namespaces; boxshipd itself never enters one, its launcher does."""

    async def create(self, path: str, owner: UserNamespace | None = None) -> int:
        """Make a network namespace with ``lo`` up, bind-mounted on a new file at ``path``.

        With ``owner`` it belongs to that user namespace, which is bound beside it at ``path + USER_SUFFIX``.
        Returns the descriptor of an AF_NETLINK/NETLINK_ROUTE socket opened inside it; the caller owns both.
        """

    async def open(self, path: str, *, ipv6: bool) -> int:
        """Return the descriptor of such a socket opened inside the namespace at ``path``; the caller owns it.

        ``ipv6`` says whether interfaces that are made there from now on have IPv6; without, they have none.
        """


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a container wants of one network, which ``network`` names by name, id or beginning of an id.

    Empty addresses are chosen by the network; ``link_local`` are further ones for the interface. Of the endpoints with the
    highest ``priority`` one gives the default route. ``names`` are the container's names in the network, without its own.
    """

    network: str = "bridge"
    address: str = ""
    address_v6: str = ""
    link_local: list[str] = []
    mac_address: str = ""
    names: list[str] = []
    priority: int = 0
    options: dict[str, str] = {}


class Resolving(msgspec.Struct, frozen=True, kw_only=True):
    """What a container wants of the nameserver in it, where a network of it has one."""

    dns: list[str] = []  # servers for names outside; empty: the daemon's
    links: dict[str, str] = {}  # further names that only this container knows -> name in its networks
    single_labels: bool = True  # False: names without a dot are not asked outside


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a container wants of its networks; none of them has a place in "host" or "none" beside others.

    ``exposed_ports`` are keys like "80/tcp"; ``port_bindings`` map such keys to where on the host they are published (an
    empty list: nowhere).
    """

    container_id: str
    name: str
    endpoints: tuple[EndpointRequest, ...] = (EndpointRequest(),)
    hostname: str = ""
    exposed_ports: list[str] = []
    port_bindings: dict[str, list[PortBinding] | None] = {}
    publish_all: bool = False
    user_namespace: UserNamespace | None = None  # who owns the namespace; None is the host
    resolving: Resolving = Resolving()


class StaticRoute(msgspec.Struct, frozen=True):
    """A route of one endpoint to a subnet; ``next_hop`` is empty for what is on the link itself."""

    destination: str
    next_hop: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One container's place in one network; the addresses are empty on "host" and "none", and of a family not in use."""

    network: str  # name
    network_id: str
    endpoint_id: str
    mac_address: str = ""
    address: str = ""
    prefix_length: int = 0
    gateway: str = ""
    address_v6: str = ""
    prefix_length_v6: int = 0
    gateway_v6: str = ""
    link_local: list[str] = []
    link: str = "eth0"  # the interface in the container
    host_link: str = ""  # the host's end of the veth pair; empty for other kinds of links
    mtu: int = 0
    names: list[str] = []  # the container's names in this network, its own first; none where names are not resolved
    priority: int = 0
    plugin_link: str = ""  # where a plugin made the interface: its name on the host
    routes: list[StaticRoute] = []  # besides the default one


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to a port of a container; ``protocol`` is tcp, udp or sctp."""

    protocol: str
    host_ip: str
    host_port: int
    container_ip: str
    container_port: int


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A container's network namespace and all that was set up for it.

    The engine keeps this with the container's status and gives it back after a restart. ``key`` is the path the namespace
    is bound at (on "host" there is no such file). ``name`` is the container's name when it was attached.
    """

    id: str  # 64 hexadecimal digits
    key: str
    name: str = ""
    endpoints: list[Endpoint] = []
    ports: list[PublishedPort] = []
    resolving: Resolving = Resolving()

    @property
    def resolves(self) -> bool:
        """Whether a nameserver answers in it."""
        return any(endpoint.names for endpoint in self.endpoints)
