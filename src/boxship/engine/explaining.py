"""Who reaches a port or a container, for ``network explain``: the networks' facts and what the containers add to them."""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address

import msgspec

from boxship.base.errors import NotFound
from boxship.engine import networking
from boxship.engine.container import Container, ContainerIndex
from boxship.linux.listeners import listening
from boxship.networks import NetworkService, PublishedPort
from boxship.networks import explain as words
from boxship.networks.explain import Facts
from boxship.spec.boxship.explanation import NetworkExplanation, Way

_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?")


async def explain(networks: NetworkService, index: ContainerIndex, target: str) -> NetworkExplanation:
    """Explain a port of the host ("8080", "8080/udp") or a container; raises NotFound."""
    facts = await networks.facts()
    match = _PORT.fullmatch(target)
    if match is not None and 0 < int(match[1]) < 65536:
        ways, notes = await _port(networks, index, int(match[1]), match[2] or "", facts)
    else:
        ways, notes = await _container(networks, index, index.find(target), facts)
    return NetworkExplanation(text=words.text(ways, notes), ways=ways, notes=notes)


async def _port(
    networks: NetworkService, index: ContainerIndex, number: int, protocol: str, facts: Facts
) -> tuple[list[Way], list[str]]:
    ways = []
    for container_id, sandbox, port in networks.publishers(number, protocol):
        container = index.find(container_id)
        sandbox = msgspec.structs.replace(sandbox, name=container.spec.name)
        ways.append(await _hinted(words.published(port, sandbox, facts), container, port))
    if ways:
        return ways, []
    shown = f"{number}/{protocol}" if protocol else f"{number}"
    notes = [f"no running container publishes port {shown}"]
    for container in index:
        if not container.status.alive and _wants(container, number, protocol):
            notes.append(f"{container.spec.name} is stopped; it publishes this port when it runs")
        elif container.status.alive and container.spec.host_config.network_mode == "host":
            notes.append(
                f"{container.spec.name} is in the host's network and may listen on it like a program of the host"
            )
    return [], notes


async def _container(
    networks: NetworkService, index: ContainerIndex, container: Container, facts: Facts
) -> tuple[list[Way], list[str]]:
    mode = container.spec.host_config.network_mode
    if mode.startswith("container:"):
        other = index.find(mode.removeprefix("container:"))
        ways, notes = await _container(networks, index, other, facts)
        return ways, [f"{container.spec.name} shares the network of {other.spec.name}", *notes]
    if not container.status.alive:
        return [], [f"{container.spec.name} is stopped: nobody reaches it"]
    if mode == "host":
        return [], [
            f"{container.spec.name} is in the host's network: the host's own rules decide who reaches what it listens on"
        ]
    sandbox = networks.attached(container.id)
    if sandbox is None:
        raise NotFound(f"container {container.spec.name} has no network")
    sandbox = msgspec.structs.replace(sandbox, name=container.spec.name)
    ways = [
        await _hinted(words.published(port, sandbox, facts), container, port)
        for port in sandbox.ports
        if port.host_port
    ]
    for endpoint in sandbox.endpoints:
        ways += words.own_address(endpoint, sandbox, facts)
    notes = []
    if not ways:
        notes.append(f"{container.spec.name} has loopback only: nobody reaches it")
    elif not any(port.host_port for port in sandbox.ports):
        notes.append(f"{container.spec.name} publishes no port")
        if container.spec.host_config.port_bindings:
            named = ", ".join(networking.connections(container.spec))
            notes.append(f"ports were asked for, but its networks publish none: {named}")
    return ways, notes


async def _hinted(way: Way, container: Container, port: PublishedPort) -> Way:
    """Add what is wrong inside the container: nobody listens there, or on loopback only."""
    if port.protocol == "sctp":
        return way
    try:
        found = await asyncio.to_thread(listening, container.status.pid, port.protocol)
    except OSError:  # it ended meanwhile
        return way
    addresses = [ip_address(address) for address, number in found if number == port.container_port]
    where = f"{port.container_port}/{port.protocol}"
    if not addresses:
        return msgspec.structs.replace(way, hints=[*way.hints, f"nothing in the container listens on {where}"])
    if all(address.is_loopback for address in addresses):
        hint = f"the program in the container listens on {addresses[0]} only; it has to listen on 0.0.0.0 at {where}"
        return msgspec.structs.replace(way, hints=[*way.hints, hint])
    return way


def _wants(container: Container, number: int, protocol: str) -> bool:
    """Tell whether a container asks for a port of the host."""
    return any(
        binding.host_port == str(number) and protocol in ("", key.partition("/")[2] or "tcp")
        for key, bindings in (container.spec.host_config.port_bindings or {}).items()
        for binding in bindings or ()
    )
