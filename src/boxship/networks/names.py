"""What the network service tells the nameserver: which names exist in which network, and who may ask for what.

Words: an *endpoint's names* are what its container is called in that network; a sandbox's *resolver* is what answers at
127.0.0.11 inside it; an *upstream* is a server that is asked for all other names.

What a resolver answers (docs/dns.md has the whole of it): a name of any network of the sandbox, also as
``name.network``, in the order of its networks; addresses of these networks, backwards; all else is asked of the upstreams,
unless the sandbox has only internal networks. A name that exists with addresses of the other family only has an empty answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol

import msgspec

ADDRESS = "127.0.0.11"


class EndpointNames(msgspec.Struct, frozen=True, kw_only=True):
    """The names of one endpoint, while its container runs."""

    endpoint_id: str
    network_id: str
    network: str  # its name: ``name.network`` is a name too
    name: str  # the container's, which reverse look-ups give
    aliases: list[str] = []  # short id, --network-alias, host name; several endpoints may share one
    addresses: list[str] = []  # IPv4 and IPv6, without prefix length


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """A server to ask for names outside."""

    address: str
    port: int = 53
    on_host: bool = False  # asked from the host's namespace: it listens on the host's loopback


class Resolver(msgspec.Struct, frozen=True, kw_only=True):
    """What answers in one sandbox."""

    sandbox_id: str
    key: str  # path of its network namespace
    network_ids: list[str] = []  # the first one that knows a name answers
    links: dict[str, str] = {}  # --link: further names that only this sandbox knows -> name in its networks
    upstreams: list[Upstream] = []  # in the order of preference
    forward: bool = True  # False: only internal networks, nothing outside is resolved
    single_labels: bool = True  # False: names without a dot are not asked outside (the user chose ndots above 0)


class NameTable(Protocol):
    """The nameserver as the network service sees it.

    Changes take effect in the order of the calls; :meth:`publish` and :meth:`withdraw` do not wait for that, a later
    :meth:`attach` does. Calls are idempotent. The nameserver may die and come back between any two of them: whoever
    implements this remembers everything and tells it again.
    """

    async def start(self, resolvers: Sequence[Resolver], endpoints: Sequence[EndpointNames]) -> None:
        """Say all there is, once before the other calls; everything else that the nameserver knows is forgotten.

        Never raises: a sandbox that cannot be served is logged.
        """

    async def attach(self, resolver: Resolver) -> None:
        """Have names answered in a sandbox, or change what is answered there; on return it is.

        Raises SystemFailure, with nothing left in the sandbox.
        """

    async def detach(self, sandbox_id: str) -> None:
        """Free what the nameserver holds of a sandbox, whose namespace could not end otherwise; an unknown one is no error."""

    def publish(self, endpoint: EndpointNames) -> None:
        """Add an endpoint's names, or replace those of the same ``endpoint_id``."""

    def withdraw(self, endpoint_id: str) -> None:
        """Take an endpoint's names away; unknown ones are no error."""

    async def close(self, *, stop: bool) -> None:
        """Let go of the nameserver; ``stop`` ends it, else it goes on answering."""


class NoNames:
    """The names of a service without a nameserver: none."""

    async def start(self, resolvers: Sequence[Resolver], endpoints: Sequence[EndpointNames]) -> None:
        """Do nothing."""

    async def attach(self, resolver: Resolver) -> None:
        """Do nothing."""

    async def detach(self, sandbox_id: str) -> None:
        """Do nothing."""

    def publish(self, endpoint: EndpointNames) -> None:
        """Do nothing."""

    def withdraw(self, endpoint_id: str) -> None:
        """Do nothing."""

    async def close(self, *, stop: bool) -> None:
        """Do nothing."""


def upstreams(chosen: Sequence[str], host: Sequence[str]) -> list[Upstream]:
    """Return the servers of a sandbox: those ``chosen`` by --dns, else those of the ``host``'s resolv.conf.

    The host's loopback servers are asked from the host itself; chosen ones are always meant as the container sees them.
    Words that are no addresses are left out.
    """
    servers = [Upstream(address=text) for text in chosen] or [
        Upstream(address=text, on_host=ip_address(text.partition("%")[0]).is_loopback)
        for text in host
        if _is_address(text)
    ]
    return [server for server in servers if _is_address(server.address)]


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
