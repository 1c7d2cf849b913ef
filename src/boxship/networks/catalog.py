"""The networks as a client sees them: identities that stay, documents, filters, look-up by reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from boxship.base import clock, ids
from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.base.moments import parse_moment
from boxship.networks.models import Sandbox
from boxship.spec.docker.network import IPAM, IPAMPool, NetworkContainer, NetworkInspect
from boxship.store import ReadTransaction, Transaction

KIND = "network"
BUILT_IN = {"bridge": "bridge", "host": "host", "none": "null"}  # name: driver

Filters = Mapping[str, Sequence[str]]
_FILTERS = frozenset(("dangling", "driver", "id", "label", "name", "scope", "type"))
_PRUNE_FILTERS = frozenset(("label", "label!", "until"))
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network with what of it is for what; ``chosen`` by the user, who may then choose addresses too."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = {}
    chosen: bool = False
    id: str = ""  # of an IPAM plugin that keeps it
    space: str = ""  # that plugin's address space

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.subnet else 4


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps of a network."""

    id: str
    name: str
    driver: str
    created_ns: int
    scope: str = "local"
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""  # name of the network that the configuration is of
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: list[Pool] = []
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def built_in(self) -> bool:
        """Whether it is there without a user who made it."""
        return self.name in BUILT_IN

    def pools_of(self, version: int) -> list[Pool]:
        """Return the pools of IPv4 or of IPv6."""
        return [pool for pool in self.pools if pool.version == version]


def create_built_in(tx: Transaction, now_ns: int) -> list[Network]:
    """Return the built-in networks, made at the first time."""
    found: list[Network] = []
    for name, driver in BUILT_IN.items():
        id = tx.lookup(KIND, name)
        document = tx.get(KIND, id) if id else None
        if document is not None:
            found.append(msgspec.json.decode(document, type=Network))
            continue
        network = Network(id=ids.new_id(), name=name, driver=driver, created_ns=now_ns)
        tx.claim(KIND, name, network.id)
        tx.put(KIND, network.id, msgspec.json.encode(network))
        found.append(network)
    return found


def load(tx: ReadTransaction) -> list[Network]:
    """Return all networks."""
    return [msgspec.json.decode(document, type=Network) for _, document in tx.list(KIND)]


def insert(tx: Transaction, network: Network) -> None:
    """Add a network; raises NameTaken."""
    tx.claim(KIND, network.name, network.id)
    tx.put(KIND, network.id, msgspec.json.encode(network))


def delete(tx: Transaction, network: Network) -> None:
    """Remove a network; one that is gone is no error."""
    tx.release(KIND, network.name)
    tx.delete(KIND, network.id)


def find(networks: Iterable[Network], ref: str) -> Network:
    """Return the network of an id, a name, or a unique beginning of an id, in this order; raises NotFound or Conflict."""
    networks = list(networks)
    for network in networks:
        if ref == network.id:
            return network
    for network in networks:
        if ref == network.name:
            return network
    matches = [network for network in networks if ref and network.id.startswith(ref)]
    if len(matches) > 1:
        raise Conflict(f"network {ref} is ambiguous ({len(matches)} matches found on ID prefix)")
    if not matches:
        raise NotFound(f"network {ref} not found")
    return matches[0]


def matches(network: Network, filters: Filters, *, used: bool) -> bool:
    """Tell whether a network passes the filters of a listing; raises InvalidInput for one that there is not."""
    for key, values in filters.items():
        if key not in _FILTERS:
            raise InvalidInput(f"invalid filter '{key}'")
        match key:
            case "driver":
                passes = network.driver in values
            case "id":
                passes = any(_resembles(value, network.id) for value in values)
            case "name":
                passes = any(_resembles(value, network.name) for value in values)
            case "scope":
                passes = network.scope in values
            case "label":
                passes = all(_has_label(network, value) for value in values)
            case "type":
                unknown = [value for value in values if value not in ("builtin", "custom")]
                if unknown:
                    raise InvalidInput(f"invalid filter: 'type'='{unknown[0]}'")
                passes = ("builtin" if network.built_in else "custom") in values
            case _:
                passes = _truth(key, values) is (not used and not network.built_in)
        if not passes:
            return False
    return True


def check_prune(filters: Filters, now_ns: int) -> None:
    """Raise InvalidInput for a filter of a prune that there is not, or for an ``until`` that is no moment."""
    for key, values in filters.items():
        if key not in _PRUNE_FILTERS:
            raise InvalidInput(f"invalid filter '{key}'")
        for value in values if key == "until" else ():
            try:
                parse_moment(value, now_ns=now_ns)
            except ValueError as exc:
                raise InvalidInput(f"invalid filter 'until={value}': {exc}") from exc


def prunable(network: Network, filters: Filters, now_ns: int) -> bool:
    """Tell whether checked filters of a prune choose a network."""
    if network.built_in or network.ingress:
        return False
    return (
        all(network.created_ns < parse_moment(value, now_ns=now_ns) for value in filters.get("until", ()))
        and all(_has_label(network, value) for value in filters.get("label", ()))
        and not any(_has_label(network, value) for value in filters.get("label!", ()))
    )


def document(network: Network, attached: Mapping[str, Sandbox]) -> NetworkInspect:
    """Return the document of a network with the containers of ``attached`` (container id to sandbox) that are in it."""
    containers = {
        container_id: NetworkContainer(
            name=sandbox.name.removeprefix("/"),
            endpoint_id=endpoint.endpoint_id,
            mac_address=endpoint.mac_address,
            ipv4_address=f"{endpoint.address}/{endpoint.prefix_length}" if endpoint.address else "",
            ipv6_address=f"{endpoint.address_v6}/{endpoint.prefix_length_v6}" if endpoint.address_v6 else "",
        )
        for container_id, sandbox in attached.items()
        for endpoint in sandbox.endpoints
        if endpoint.network_id == network.id
    }
    return NetworkInspect(
        name=network.name,
        id=network.id,
        created=clock.rfc3339(network.created_ns),
        scope=network.scope,
        driver=network.driver,
        enable_ipv4=network.ipv4,
        enable_ipv6=network.ipv6,
        ipam=IPAM(
            driver=network.ipam_driver,
            options=network.ipam_options,
            config=[
                IPAMPool(
                    subnet=pool.subnet,
                    ip_range=pool.ip_range,
                    gateway=pool.gateway,
                    auxiliary_addresses=pool.auxiliary or None,
                )
                for pool in network.pools
            ],
        ),
        internal=network.internal,
        attachable=network.attachable,
        ingress=network.ingress,
        config_from={"Network": network.config_from},
        config_only=network.config_only,
        containers=containers,
        options=network.options,
        labels=network.labels,
    )


def _has_label(network: Network, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return network.labels.get(name) == value if equals else name in network.labels


def _resembles(pattern: str, text: str) -> bool:
    """Tell whether a filter's value occurs in the text, as such or as a regular expression, as Docker has it."""
    if pattern in text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _truth(key: str, values: Sequence[str]) -> bool:
    chosen = {_TRUTH.get(value) for value in values}
    if len(chosen) != 1 or None in chosen:
        raise InvalidInput(f'invalid value for filter \'{key}\', must be "true" (or "1"), or "false" (or "0")')
    return bool(chosen.pop())
