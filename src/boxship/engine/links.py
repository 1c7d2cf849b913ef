"""Links between containers of the default bridge (``--link``): names in /etc/hosts, and variables that tell of the other.

Networks that users make need none of it: their nameserver knows all names, and a link there is one name more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from boxship.base import ids
from boxship.base.errors import Conflict, InvalidInput, NotFound
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.model import ContainerSpec
from boxship.engine.networking import link_parts
from boxship.networks.publishing.publish import parse_port
from boxship.spec.docker.container import HostConfig

_OWN_VARIABLES = ("HOME", "PATH")  # of the other container's, those that say nothing about it


class Link(NamedTuple):
    """Another container and what it is called here."""

    target: Container
    alias: str


def canonical(host: HostConfig, name: str, index: ContainerIndex) -> HostConfig:
    """Return the host configuration with its links as Docker keeps them (``/target:/name/alias``).

    Raises InvalidInput for a bad one, and for a container that does not exist.
    """
    if host.network_mode != "bridge" or not host.links:
        return host
    found = []
    for text in host.links:
        alias, target = link_parts(text)
        try:
            other = index.find(target)
        except NotFound as exc:
            raise InvalidInput(f"could not get container for {target}: {exc}") from exc
        found.append(f"/{other.spec.name}:/{name}/{alias}")
    return msgspec.structs.replace(host, links=found)


def of(spec: ContainerSpec, index: ContainerIndex, *, running: bool = False) -> list[Link]:
    """Return the links of a container whose other ends exist.

    With ``running`` raises Conflict for one that does not run, in Docker's words.
    """
    if spec.host_config.network_mode != "bridge":
        return []
    found = []
    for text in spec.host_config.links or []:
        alias, target = link_parts(text)
        try:
            other = index.find(target)
        except NotFound:
            continue
        if running and not other.status.alive:
            raise Conflict(f"Cannot link to a non running container: /{other.spec.name} AS /{spec.name}/{alias}")
        found.append(Link(other, alias))
    return found


def without(spec: ContainerSpec, alias: str) -> ContainerSpec:
    """Return the specification without the link of this alias. Raises NotFound."""
    links = spec.host_config.links or []
    rest = [text for text in links if link_parts(text)[0] != alias]
    if len(rest) == len(links):
        raise NotFound(f"No such link: /{spec.name}/{alias}")
    return msgspec.structs.replace(spec, host_config=msgspec.structs.replace(spec.host_config, links=rest or None))


def hosts(links: Iterable[Link]) -> list[tuple[str, str]]:
    """Return address and names of the other containers, for /etc/hosts."""
    found = []
    for link in links:
        spec = link.target.spec
        names = [link.alias, spec.config.hostname or ids.short(spec.id), spec.name]
        found += [(address, " ".join(dict.fromkeys(names))) for address in [_address(link.target)] if address]
    return found


def environment(spec: ContainerSpec, links: Iterable[Link]) -> list[str]:
    """Return the variables that tell a container of those that it is linked to."""
    found: list[str] = []
    for link in links:
        prefix = link.alias.replace("-", "_").upper()
        other, address = link.target.spec, _address(link.target)
        ports = sorted(
            (parse_port(key) for key in other.config.exposed_ports or {}), key=lambda port: (port[0], port[1])
        )
        for number, (port, protocol) in enumerate(ports):
            url = f"{protocol}://{address}:{port}"
            if number == 0:
                found.append(f"{prefix}_PORT={url}")
            name = f"{prefix}_PORT_{port}_{protocol.upper()}"
            found += [f"{name}={url}", f"{name}_ADDR={address}", f"{name}_PORT={port}", f"{name}_PROTO={protocol}"]
        found.append(f"{prefix}_NAME=/{spec.name}/{link.alias}")
        for entry in other.config.env or []:
            name, equals, value = entry.partition("=")
            if equals and name not in _OWN_VARIABLES:
                found.append(f"{prefix}_ENV_{name}={value}")
    return found


def _address(target: Container) -> str:
    sandbox = target.status.sandbox
    return next((e.address for e in sandbox.endpoints if e.network == "bridge"), "") if sandbox else ""
