"""A container as the API shows it: inspect document, list row, status text, filters (pure functions of snapshots)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from boxship.base import clock
from boxship.base.errors import InvalidInput
from boxship.base.moments import parse_moment
from boxship.engine import networking
from boxship.engine.container import Container, ContainerIndex
from boxship.engine.health.policy import Health
from boxship.engine.model import ContainerSpec, ContainerStatus, ResolvedMount, State
from boxship.networks import Endpoint, PublishedPort, Sandbox
from boxship.spec.docker.container import (
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    GraphDriver,
    HealthResult,
    HealthSummary,
    MountPoint,
    NetworkSettings,
    Port,
    PortBinding,
    SummaryHostConfig,
    SummaryNetworks,
)
from boxship.spec.docker.container import Health as HealthDocument
from boxship.spec.docker.network import EndpointSettings

_FILTERS = frozenset(
    [
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    ]
)
_STATUSES = frozenset(State)


def inspect(
    container: Container, *, files_dir: str, graph: GraphDriver, sizes: tuple[int, int] | None = None
) -> ContainerInspect:
    """Return the inspect document; ``sizes`` are the bytes of the writable layer and of all layers, when asked for."""
    spec, status = container.spec, container.status
    log = spec.host_config.log_config
    document = ContainerInspect(
        id=spec.id,
        created=clock.rfc3339(spec.created_ns),
        path=spec.path,
        args=spec.args,
        state=_state(status),
        image=spec.image_id,
        resolv_conf_path=f"{files_dir}/resolv.conf" if status.started_ns else "",
        hostname_path=f"{files_dir}/hostname" if status.started_ns else "",
        hosts_path=f"{files_dir}/hosts" if status.started_ns else "",
        log_path=f"{files_dir}/{spec.id}-json.log" if log.type == "json-file" and status.started_ns else "",
        name=f"/{spec.name}",
        restart_count=status.restart_count,
        driver=graph.name,
        platform=spec.platform,
        mount_label=spec.mount_label,
        process_label=spec.process_label,
        app_armor_profile=spec.apparmor_profile,
        exec_ids=(list(container.exec_ids) or None) if status.alive else None,
        host_config=spec.host_config,
        graph_driver=graph,
        mounts=[mount_point(mount) for mount in spec.mounts if mount.type != "tmpfs" or mount.name],
        config=spec.config,
        network_settings=_network_settings(spec, status.sandbox),
    )
    if sizes:
        document = msgspec.structs.replace(document, size_rw=sizes[0], size_root_fs=sizes[1])
    return document


def summary(container: Container, *, image: str, sizes: tuple[int, int] | None = None) -> ContainerSummary:
    """Return the list row; ``image`` is what the user typed, or the id when that name means another image now."""
    spec, status = container.spec, container.status
    row = ContainerSummary(
        id=spec.id,
        names=[f"/{spec.name}"],
        image=image,
        image_id=spec.image_id,
        command=command_text(spec),
        created=spec.created_ns // 1_000_000_000,
        ports=_ports(spec, status),
        labels=spec.config.labels or {},
        state=status.state,
        status=status_text(status, now_ns=clock.now_ns()),
        host_config=SummaryHostConfig(network_mode=spec.host_config.network_mode),
        network_settings=SummaryNetworks(networks=_endpoints(spec, status.sandbox)),
        mounts=[mount_point(mount) for mount in spec.mounts if mount.type != "tmpfs" or mount.name],
        health=HealthSummary(status=status.health.verdict, failing_streak=status.health.failing_streak)
        if status.health
        else HealthSummary(),
    )
    if sizes:
        row = msgspec.structs.replace(row, size_rw=sizes[0], size_root_fs=sizes[1])
    return row


def command_text(spec: ContainerSpec) -> str:
    """Return the command as ``ps`` shows it: words with spaces are quoted."""
    return " ".join([spec.path, *(f"'{word}'" if " " in word else word for word in spec.args)])


def status_text(status: ContainerStatus, *, now_ns: int) -> str:
    """Return Docker's STATUS column."""
    match status.state:
        case State.RUNNING:
            health = f" ({status.health.text})" if status.health else ""
            return f"Up {human_duration((now_ns - status.started_ns) / 1e9)}{health}"
        case State.PAUSED:
            return f"Up {human_duration((now_ns - status.started_ns) / 1e9)} (Paused)"
        case State.RESTARTING:
            return f"Restarting ({status.exit_code}) {human_duration((now_ns - status.finished_ns) / 1e9)} ago"
        case State.REMOVING:
            return "Removal In Progress"
        case State.DEAD:
            return "Dead"
        case State.CREATED:
            return "Created"
        case _:
            return f"Exited ({status.exit_code}) {human_duration((now_ns - status.finished_ns) / 1e9)} ago"


def human_duration(seconds: float) -> str:
    """Return a duration in Docker's words ("Less than a second", "About a minute", "3 weeks")."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    for limit, unit, name in (
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def mount_point(mount: ResolvedMount) -> MountPoint:
    """Return a mount as inspect shows it."""
    point = MountPoint(
        type=mount.type,
        source=mount.source,
        destination=mount.target,
        mode=mount.mode,
        rw=not mount.read_only,
        propagation=mount.propagation if mount.type == "bind" else "",
    )
    if mount.type == "volume":
        return msgspec.structs.replace(point, name=mount.name, driver=mount.driver)
    if mount.type == "image":
        return msgspec.structs.replace(point, name=mount.name)
    return point


def check_filters(filters: Mapping[str, Sequence[str]]) -> None:
    """Raise InvalidInput for unknown keys and values, in Docker's words."""
    for key, values in filters.items():
        if key not in _FILTERS:
            raise InvalidInput(f"invalid filter '{key}'")
        for value in values:
            if key == "status" and value not in _STATUSES:
                raise InvalidInput(f"invalid filter 'status={value}'")
            if key == "exited" and not value.lstrip("-").isdecimal():
                raise InvalidInput(f"invalid filter 'exited={value}'")
            if key == "health" and value not in ("none", "starting", "healthy", "unhealthy"):
                raise InvalidInput(f"invalid filter 'health={value}'")


def select(
    index: ContainerIndex,
    *,
    stopped_too: bool,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    ancestors: frozenset[str],
) -> list[Container]:
    """Return the containers of a listing, newest first.

    ``ancestors`` are the image ids that the ``ancestor`` filter's values name. Without ``stopped_too`` only live ones are listed,
    unless ``limit`` or a filter on status or exit code asks for more, as in Docker.
    """
    check_filters(filters)
    before = index.find(filters["before"][0]).spec.created_ns if filters.get("before") else None
    since = index.find(filters["since"][0]).spec.created_ns if filters.get("since") else None
    everything = stopped_too or limit > 0 or bool(filters.get("status") or filters.get("exited"))
    chosen = []
    for container in sorted(index, key=lambda c: c.spec.created_ns, reverse=True):
        if not everything and not (container.status.alive or container.status.state is State.RESTARTING):
            continue
        if before is not None and container.spec.created_ns >= before:
            continue
        if since is not None and container.spec.created_ns <= since:
            continue
        if _passes(container, filters, ancestors):
            chosen.append(container)
            if 0 < limit <= len(chosen):
                break
    return chosen


def prunable(spec: ContainerSpec, filters: Mapping[str, Sequence[str]]) -> bool:
    """Return whether the filters of a prune (``until``, ``label``, ``label!``) select this container."""
    labels = spec.config.labels or {}
    for value in filters.get("until", []):
        try:
            moment = parse_moment(value, now_ns=clock.now_ns())
        except ValueError as exc:
            raise InvalidInput(f"invalid filter 'until={value}': {exc}") from exc
        if spec.created_ns >= moment:
            return False
    return all(_has_label(labels, value) for value in filters.get("label", [])) and not any(
        _has_label(labels, value) for value in filters.get("label!", [])
    )


def _name_matches(pattern: str, name: str) -> bool:
    """Tell whether a regular expression is found in a name, with or without its slash, as in Docker."""
    try:
        return pattern in name or any(re.search(pattern, text) for text in (name, f"/{name}"))
    except re.error:
        return False


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return labels.get(name) == value if equals else name in labels


def _passes(container: Container, filters: Mapping[str, Sequence[str]], ancestors: frozenset[str]) -> bool:
    spec, status = container.spec, container.status
    labels = spec.config.labels or {}
    for key, values in filters.items():
        if not values:
            continue
        match key:
            case "id":
                ok = any(spec.id.startswith(value) for value in values)
            case "name":
                ok = any(_name_matches(value, spec.name) for value in values)
            case "label":
                ok = all(_has_label(labels, value) for value in values)
            case "status":
                ok = status.state in values
            case "exited":
                ok = status.state is State.EXITED and status.exit_code in {int(value) for value in values}
            case "ancestor":
                ok = spec.image_id in ancestors
            case "volume":
                ok = any(value in (mount.name, mount.target) for mount in spec.mounts for value in values)
            case "network":
                ok = any(value in _network_names(spec, status) for value in values)
            case "publish":
                ok = any(
                    _port_matches(value, {str(p.public_port) for p in _ports(spec, status) if p.public_port})
                    for value in values
                )
            case "expose":
                ok = any(
                    _port_matches(value, {port.partition("/")[0] for port in spec.config.exposed_ports or {}})
                    for value in values
                )
            case "health":
                ok = (status.health.verdict if status.health else "none") in values
            case "is-task":
                ok = values[0] in ("false", "0")
            case "isolation":
                ok = any(value in ("", "default") for value in values)
            case _:
                ok = True
        if not ok:
            return False
    return True


def _network_names(spec: ContainerSpec, status: ContainerStatus) -> set[str]:
    names = {spec.host_config.network_mode, *networking.connections(spec)}
    if status.sandbox:
        for endpoint in status.sandbox.endpoints:
            names |= {endpoint.network, endpoint.network_id}
    return names


def _port_matches(value: str, ports: set[str]) -> bool:
    number = value.partition("/")[0]
    low, _, high = number.partition("-")
    if not low.isdecimal() or (high and not high.isdecimal()):
        raise InvalidInput(f"invalid port: {value}")
    return any(int(low) <= int(port) <= int(high or low) for port in ports)


def _state(status: ContainerStatus) -> ContainerState:
    return ContainerState(
        status=status.state,
        running=status.alive or status.state is State.RESTARTING,
        paused=status.state is State.PAUSED,
        restarting=status.state is State.RESTARTING,
        oom_killed=status.oom_killed,
        dead=status.state is State.DEAD,
        pid=status.pid,
        exit_code=status.exit_code,
        error=status.error,
        started_at=clock.rfc3339(status.started_ns),
        finished_at=clock.rfc3339(status.finished_ns),
        health=_health(status.health) if status.health else msgspec.UNSET,
    )


def _health(health: Health) -> HealthDocument:
    return HealthDocument(
        status=health.verdict,
        failing_streak=health.failing_streak,
        log=[
            HealthResult(
                start=clock.rfc3339(probe.start_ns),
                end=clock.rfc3339(probe.end_ns),
                exit_code=probe.exit_code,
                output=probe.output,
            )
            for probe in health.log
        ],
    )


def _endpoints(spec: ContainerSpec, sandbox: Sandbox | None) -> dict[str, EndpointSettings]:
    found = dict(networking.connections(spec))
    for endpoint in sandbox.endpoints if sandbox else ():
        found[endpoint.network] = msgspec.structs.replace(
            found.get(endpoint.network, EndpointSettings()),
            network_id=endpoint.network_id,
            dns_names=endpoint.names or None,
            **_addresses(endpoint),
        )
    return found


def _addresses(endpoint: Endpoint) -> dict[str, Any]:
    """Return what a network's settings and, for the default bridge, the container's own settings tell alike."""
    return {
        "endpoint_id": endpoint.endpoint_id,
        "gateway": endpoint.gateway,
        "ip_address": endpoint.address,
        "ip_prefix_len": endpoint.prefix_length,
        "mac_address": endpoint.mac_address,
        "ipv6_gateway": endpoint.gateway_v6,
        "global_ipv6_address": endpoint.address_v6,
        "global_ipv6_prefix_len": endpoint.prefix_length_v6,
    }


def _network_settings(spec: ContainerSpec, sandbox: Sandbox | None) -> NetworkSettings:
    settings = NetworkSettings(networks=_endpoints(spec, sandbox))
    if sandbox is None:
        return settings
    ports: dict[str, list[PortBinding] | None] = dict.fromkeys(spec.config.exposed_ports or {})
    for published in sandbox.ports:
        bindings = ports.get(_port_key(published)) or []
        ports[_port_key(published)] = [
            *bindings,
            PortBinding(host_ip=published.host_ip, host_port=str(published.host_port or "")),
        ]
    settings = msgspec.structs.replace(settings, sandbox_id=sandbox.id, sandbox_key=sandbox.key, ports=ports)
    for endpoint in sandbox.endpoints:
        if endpoint.network == "bridge":
            settings = msgspec.structs.replace(settings, **_addresses(endpoint))
    return settings


def _port_key(port: PublishedPort) -> str:
    return f"{port.container_port}/{port.protocol}"


def _ports(spec: ContainerSpec, status: ContainerStatus) -> list[Port]:
    if not status.alive or status.sandbox is None:
        return []
    rows = [
        Port(ip=port.host_ip, private_port=port.container_port, public_port=port.host_port, type=port.protocol)
        for port in status.sandbox.ports
        if port.host_port
    ]
    published = {_port_key(port) for port in status.sandbox.ports if port.host_port}
    for key in spec.config.exposed_ports or {}:
        number, _, protocol = key.partition("/")
        if f"{number}/{protocol or 'tcp'}" not in published:
            rows.append(Port(private_port=int(number), type=protocol or "tcp"))
    return rows
