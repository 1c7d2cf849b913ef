"""Which names exist: endpoints by network, and what a sandbox's resolver makes of a name or an address."""

from __future__ import annotations

import os
import socket

from boxship.wire import dns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    _Key = TypeVar("_Key", str, bytes)

_LOCALHOST = "localhost"
_REVERSE_4 = ".in-addr.arpa"
_REVERSE_6 = ".ip6.arpa"


class Addresses:
    """What a name stands for, packed for A and AAAA records."""

    __slots__ = ("ipv4", "ipv6")

    def __init__(self, ipv4: Sequence[bytes] = (), ipv6: Sequence[bytes] = ()) -> None:
        self.ipv4 = list(ipv4)
        self.ipv6 = list(ipv6)

    def shuffled(self, type: int) -> list[bytes]:
        """Return the addresses of a query's type in a new order, so that clients that take the first share the load."""
        found = {dns.A: self.ipv4, dns.AAAA: self.ipv6, dns.ANY: [*self.ipv4, *self.ipv6]}.get(type, [])
        return found if len(found) < 2 else sorted(found, key=lambda _: os.urandom(4))


LOOPBACK = Addresses([socket.inet_pton(socket.AF_INET, "127.0.0.1")], [socket.inet_pton(socket.AF_INET6, "::1")])


class _Endpoint:
    __slots__ = ("addresses", "name", "names", "network", "network_id")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.network_id = str(document["network_id"])
        self.network = str(document["network"])
        self.name = str(document["name"])
        self.names = {name for text in (self.name, *document["aliases"]) if (name := _normal(text))}
        self.addresses = {packed for text in document["addresses"] if (packed := _packed(text))}


class _Network:
    __slots__ = ("addresses", "name", "names")

    def __init__(self, name: str) -> None:
        self.name = _normal(name)
        self.names: dict[str, dict[str, _Endpoint]] = {}  # by name, then by endpoint id
        self.addresses: dict[bytes, dict[str, _Endpoint]] = {}


class Table:
    """All endpoints' names."""

    def __init__(self) -> None:
        self._endpoints: dict[str, _Endpoint] = {}
        self._networks: dict[str, _Network] = {}

    def __len__(self) -> int:
        return len(self._endpoints)

    def publish(self, document: Mapping[str, Any]) -> None:
        """Add an endpoint (fields of ``networks.names.EndpointNames``) in place of an older one with its id.

        Names and addresses that cannot be are left out. Raises KeyError or TypeError for what is no such document.
        """
        id, endpoint = str(document["endpoint_id"]), _Endpoint(document)
        self.withdraw(id)
        self._endpoints[id] = endpoint
        network = self._networks.setdefault(endpoint.network_id, _Network(endpoint.network))
        for name in endpoint.names:
            network.names.setdefault(name, {})[id] = endpoint
        for address in endpoint.addresses:
            network.addresses.setdefault(address, {})[id] = endpoint

    def withdraw(self, endpoint_id: str) -> None:
        """Take an endpoint away; an unknown one is no error."""
        endpoint = self._endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return
        network = self._networks[endpoint.network_id]
        for name in endpoint.names:
            _drop(network.names, name, endpoint_id)
        for address in endpoint.addresses:
            _drop(network.addresses, address, endpoint_id)
        if not network.names:
            del self._networks[endpoint.network_id]

    def replace(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Forget everything but ``documents``."""
        self._endpoints.clear()
        self._networks.clear()
        for document in documents:
            self.publish(document)

    def find(self, name: str, network_ids: Sequence[str], links: Mapping[str, str]) -> Addresses | None:
        """Return the addresses of a name of the first network that knows it, None when it is no name of theirs.

        ``links`` are further names -> names. ``name.network`` is a name, too.
        """
        if name == _LOCALHOST or name.endswith("." + _LOCALHOST):
            return LOOPBACK
        for network_id in network_ids:
            network = self._networks.get(network_id)
            if network is None:
                continue
            own = name.removesuffix(f".{network.name}") if network.name else name
            for candidate in (links.get(name, ""), name, links.get(own, ""), own):
                endpoints = network.names.get(candidate) if candidate else None
                if endpoints:
                    return _addresses(endpoints.values())
        return None

    def find_address(self, name: str, network_ids: Sequence[str]) -> list[str] | None:
        """Return the names of an address that ``name`` asks for backwards, None when no endpoint there has it."""
        packed = _reversed(name)
        if packed is None:
            return None
        for network_id in network_ids:
            network = self._networks.get(network_id)
            endpoints = network.addresses.get(packed) if network is not None else None
            if endpoints:
                return [f"{endpoint.name}.{endpoint.network}" for endpoint in endpoints.values()]
        return None


def normal_links(links: Mapping[str, str]) -> dict[str, str]:
    """Return links with both names as queries have them, without those that cannot be asked for."""
    pairs = ((_normal(alias), _normal(name)) for alias, name in links.items())
    return {alias: name for alias, name in pairs if alias and name}


def _addresses(endpoints: Iterable[_Endpoint]) -> Addresses:
    found = sorted({address for endpoint in endpoints for address in endpoint.addresses})
    return Addresses([each for each in found if len(each) == 4], [each for each in found if len(each) == 16])


def _drop(index: dict[_Key, dict[str, _Endpoint]], key: _Key, endpoint_id: str) -> None:
    endpoints = index.get(key, {})
    endpoints.pop(endpoint_id, None)
    if not endpoints:
        index.pop(key, None)


def _normal(text: str) -> str:
    try:
        return dns.normal(text)
    except dns.FormatError:
        return ""


def _packed(text: str) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except OSError:
        return b""


def _reversed(name: str) -> bytes | None:
    """Return the address in a name of in-addr.arpa (RFC 1035, 3.5) or ip6.arpa (RFC 3596, 2.5)."""
    if name.endswith(_REVERSE_4):
        parts = name.removesuffix(_REVERSE_4).split(".")
        return _packed(".".join(reversed(parts))) or None if len(parts) == 4 else None
    if name.endswith(_REVERSE_6):
        digits = "".join(reversed(name.removesuffix(_REVERSE_6).split(".")))
        try:
            return bytes.fromhex(digits) if len(digits) == 32 else None
        except ValueError:
            return None
    return None
