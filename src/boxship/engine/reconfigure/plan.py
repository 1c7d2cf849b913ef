"""What a container's specification becomes by a request for changes (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from boxship.base.errors import InvalidInput, NotFound
from boxship.engine.model import ContainerSpec, ResolvedMount
from boxship.engine.options import oci
from boxship.engine.options.mounts import clean_target
from boxship.networks import PublishedPort
from boxship.spec.boxship.changes import LATER, RESTART, ContainerChanges
from boxship.spec.docker.container import ContainerConfig, HostConfig, PortBinding

Bindings = Mapping[str, Sequence[PortBinding] | None]
HostAddress = Callable[[str], str]


class Ports(NamedTuple):
    """The bindings afterwards, and which published ports of a running container end."""

    bindings: dict[str, list[PortBinding] | None]
    ended: list[PublishedPort]


def check(changes: ContainerChanges) -> None:
    """Raise InvalidInput for a request that contradicts itself."""
    if changes.apply not in ("", RESTART, LATER):
        raise InvalidInput(f'invalid value for Apply: "{changes.apply}": use "{RESTART}" or "{LATER}"')
    for entry in changes.set_env:
        name, equals, _ = entry.partition("=")
        if not name or not equals:
            raise InvalidInput(f"invalid environment variable: {entry}")
    for name in changes.remove_env:
        if not name or "=" in name:
            raise InvalidInput(f"invalid environment variable: {name}")
    for label in (*changes.set_labels, *changes.remove_labels):
        if not label:
            raise InvalidInput("invalid label: the name is empty")


def ports(spec: ContainerSpec, changes: ContainerChanges, published: Sequence[PublishedPort], at: HostAddress) -> Ports:
    """Return the port bindings afterwards; ``published`` is what of the present ones a running container has.

    ``at`` gives the canonical host address of a binding. Raises NotFound for a port that is not bound, InvalidInput for a
    binding that is there already.
    """
    bindings = {key: list(places or []) for key, places in (spec.host_config.port_bindings or {}).items()}
    ended: list[PublishedPort] = []
    pairs = _pairs(bindings, published, at)
    for key, places in changes.remove_ports.items():
        for wanted in places or [PortBinding()]:
            found = [
                pair for pair in pairs.get(key, []) if pair[0] in bindings.get(key, []) and _matches(pair, wanted, at)
            ]
            if not found:
                raise NotFound(f"No public port '{_text(key, wanted)}' published for {spec.name}")
            for binding, port in found:
                bindings[key].remove(binding)
                if port is not None:
                    ended.append(port)
        if not bindings[key]:
            del bindings[key]
    for key, new in changes.add_ports.items():
        present = bindings.setdefault(key, [])
        for binding in new:
            if binding.host_port and binding in present:
                raise InvalidInput(f"port {_text(key, binding)} is already published for {spec.name}")
            present.append(binding)
    return Ports({**bindings}, ended)


def config(
    spec: ContainerSpec, changes: ContainerChanges, bindings: Bindings, image_ports: Collection[str]
) -> ContainerConfig:
    """Return the container's own configuration afterwards; ``image_ports`` are those that its image exposes."""
    old = spec.config
    exposed = {**(old.exposed_ports or {}), **{key: {} for key in changes.add_ports}}
    for key in changes.remove_ports:
        if key not in bindings and key not in image_ports:
            exposed.pop(key, None)
    labels = {name: text for name, text in (old.labels or {}).items() if name not in changes.remove_labels}
    return msgspec.structs.replace(
        old,
        env=oci.replace_env(old.env or [], [*changes.remove_env, *changes.set_env]),
        labels={**labels, **changes.set_labels},
        exposed_ports=exposed or None,
    )


def removed_mounts(spec: ContainerSpec, changes: ContainerChanges) -> list[ResolvedMount]:
    """Return the mounts that end. Raises NotFound for a target where none is."""
    by_target = {mount.target: mount for mount in spec.mounts}
    found = []
    for text in dict.fromkeys(changes.remove_mounts):
        mount = by_target.get(clean_target(text))
        if mount is None:
            raise NotFound(f"No mount at '{text}' in {spec.name}")
        found.append(mount)
    return found


def host_config(
    host: HostConfig, changes: ContainerChanges, bindings: dict[str, list[PortBinding] | None], gone: Collection[str]
) -> HostConfig:
    """Return the host configuration afterwards; ``gone`` are the targets of the mounts that end."""

    def target(bind: str) -> str:
        parts = bind.split(":")
        return clean_target(parts[0] if len(parts) == 1 else parts[1])

    binds = [bind for bind in host.binds or [] if target(bind) not in gone] + changes.add_binds
    mounts = [mount for mount in host.mounts or [] if clean_target(mount.target) not in gone] + changes.add_mounts
    tmpfs = {path: options for path, options in (host.tmpfs or {}).items() if clean_target(path) not in gone}
    return msgspec.structs.replace(
        host,
        port_bindings=bindings if bindings or host.port_bindings is not None else None,
        binds=binds or (None if host.binds is None else []),
        mounts=mounts or (None if host.mounts is None else []),
        tmpfs=tmpfs or (None if host.tmpfs is None else {}),
    )


Pair = tuple[PortBinding, PublishedPort | None]


def _pairs(bindings: Bindings, published: Sequence[PublishedPort], at: HostAddress) -> dict[str, list[Pair]]:
    """Tell for each binding which host port it got; those that leave least choice take theirs first."""
    left = list(published)
    pairs: dict[str, list[Pair]] = {}
    for key, places in bindings.items():
        for binding in sorted(places or (), key=_freedom):
            got = next((port for port in left if _key(port) == _full(key) and _serves(port, binding, at)), None)
            if got is not None:
                left.remove(got)
            pairs.setdefault(key, []).append((binding, got))
    return pairs


def _matches(pair: Pair, wanted: PortBinding, at: HostAddress) -> bool:
    """Tell whether a binding is the one that the user means, by what they typed or by what it got."""
    binding, port = pair
    if wanted.host_ip and at(wanted.host_ip) != at(binding.host_ip):
        return False
    got = str(port.host_port) if port is not None else binding.host_port
    return wanted.host_port in ("", binding.host_port, got)


def _serves(port: PublishedPort, binding: PortBinding, at: HostAddress) -> bool:
    low, _, high = binding.host_port.partition("-")
    fits = not low or int(low) == 0 or int(low) <= port.host_port <= int(high or low)
    return fits and port.host_ip == at(binding.host_ip)


def _freedom(binding: PortBinding) -> tuple[bool, bool]:
    return binding.host_port in ("", "0"), "-" in binding.host_port


def _key(port: PublishedPort) -> str:
    return f"{port.container_port}/{port.protocol}"


def _full(key: str) -> str:
    return key if "/" in key else f"{key}/tcp"


def _text(key: str, binding: PortBinding) -> str:
    address = f"{binding.host_ip}:" if binding.host_ip else ""
    return f"{address}{binding.host_port}:{key}" if binding.host_port or address else key
