"""A container's specification as its networks see it: which it is in, and what it asks of them (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from boxship.base.errors import InvalidInput
from boxship.engine.model import ContainerSpec
from boxship.networks import AttachRequest, EndpointRequest, Resolving, UserNamespace
from boxship.spec.docker.container import HostConfig, NetworkingConfig
from boxship.spec.docker.network import EndpointSettings

BUILT_IN = ("bridge", "host", "none")
_DEFAULT = ("", "default")

NetworkName = Callable[[str], str]
"""Return the name of the network of a reference, the reference itself where there is none."""


def endpoints(
    host: HostConfig, networking: NetworkingConfig | None, name_of: NetworkName
) -> dict[str, EndpointSettings]:
    """Return what a new container asks of each of its networks, by name; the one of the network mode comes first.

    Raises InvalidInput in Docker's words.
    """
    mode = host.network_mode
    given = {
        "bridge" if key in _DEFAULT else name_of(key): value or EndpointSettings()
        for key, value in ((networking.endpoints_config if networking else None) or {}).items()
    }
    if mode.startswith("container:"):
        if given:
            raise InvalidInput("conflicting options: network options and the container type network mode")
        return {}
    first = "bridge" if mode in _DEFAULT else name_of(mode)
    found = {first: given.pop(first, EndpointSettings()), **given}
    if len(found) > 1 and (first in ("host", "none") or {"host", "none"} & found.keys()):
        raise InvalidInput(
            "container cannot be connected to multiple networks with one of the networks in private (none) or host mode"
        )
    for name, settings in found.items():
        check(name, settings)
    return found


def check(network: str, settings: EndpointSettings) -> None:
    """Raise InvalidInput for what the networks that are there without a user can't do."""
    chosen = settings.ipam_config
    if network not in BUILT_IN:
        return
    if chosen and (chosen.ipv4_address or chosen.ipv6_address):
        raise InvalidInput("user specified IP address is supported on user defined networks only")
    if chosen and chosen.link_local_ips:
        raise InvalidInput("link-local addresses are supported on user defined networks only")
    if settings.aliases:
        raise InvalidInput("network-scoped alias is supported only for containers in user defined networks")


def connections(spec: ContainerSpec) -> Mapping[str, EndpointSettings]:
    """Return what a container asks of each of its networks, by name."""
    if spec.endpoints_complete:
        return spec.endpoints
    mode = spec.host_config.network_mode
    if mode.startswith("container:"):
        return {}
    return {mode: spec.endpoints.get(mode) or spec.endpoints.get("default") or EndpointSettings()}


def attach_request(
    spec: ContainerSpec, wanted: Mapping[str, EndpointSettings], user_namespace: UserNamespace | None = None
) -> AttachRequest:
    """Return what a container asks of these networks."""
    host = spec.host_config
    links: dict[str, str] = {}
    for settings in connections(spec).values():
        links |= dict(link_parts(link) for link in settings.links or [])
    return AttachRequest(
        container_id=spec.id,
        name=spec.name,
        hostname=spec.config.hostname,
        endpoints=tuple(_endpoint_request(spec, name, settings) for name, settings in wanted.items()),
        exposed_ports=list(spec.config.exposed_ports or {}),
        port_bindings=host.port_bindings or {},
        publish_all=host.publish_all_ports,
        user_namespace=user_namespace,
        resolving=Resolving(
            dns=host.dns or [], links=links, single_labels=not _asks_single_labels_only_inside(host.dns_options or [])
        ),
    )


def link_parts(link: str) -> tuple[str, str]:
    """Return alias and container of a link ``container:alias`` or ``container``; raises InvalidInput."""
    parts = link.split(":")
    if len(parts) > 2 or not all(parts):
        raise InvalidInput(f"bad format for links: {link}")
    return parts[-1].rpartition("/")[2], parts[0].removeprefix("/")


def with_endpoint(spec: ContainerSpec, network: str, settings: EndpointSettings | None) -> ContainerSpec:
    """Return the specification with other settings for a network; None: it is not in that network any more."""
    rest = {name: value for name, value in connections(spec).items() if name != network}
    found = rest if settings is None else {**rest, network: settings}
    return msgspec.structs.replace(spec, endpoints=found, endpoints_complete=True)


def _endpoint_request(spec: ContainerSpec, network: str, settings: EndpointSettings) -> EndpointRequest:
    chosen = settings.ipam_config
    first = network == spec.host_config.network_mode or len(connections(spec)) == 1
    return EndpointRequest(
        network=network,
        address=chosen.ipv4_address if chosen else "",
        address_v6=chosen.ipv6_address if chosen else "",
        link_local=(chosen.link_local_ips if chosen else None) or [],
        mac_address=settings.mac_address or (spec.config.mac_address if first else "") or "",
        names=settings.aliases or [],
        priority=settings.gw_priority,
        options=settings.driver_opts or {},
    )


def _asks_single_labels_only_inside(options: list[str]) -> bool:
    """Tell whether ``ndots`` keeps names without a dot from being asked outside as they are."""
    found = [option.partition(":")[2] for option in options if option.startswith("ndots:")]
    return bool(found) and found[-1].isdecimal() and int(found[-1]) > 0
