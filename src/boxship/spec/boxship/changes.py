"""POST /boxship/containers/{id}/change: what a container is given, or loses, after it was created."""

from __future__ import annotations

from typing import Any

import msgspec

from boxship.spec.docker.container import Mount, PortBinding

RESTART, LATER = "restart", "later"


class ContainerChanges(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """All of it is done, or nothing. What is removed goes before what is added."""

    resources: dict[str, Any] = {}  # the body of Docker's POST /containers/{id}/update
    add_ports: dict[str, list[PortBinding]] = {}  # as HostConfig.PortBindings
    remove_ports: dict[str, list[PortBinding]] = {}  # an empty HostIp or HostPort means any, an empty list all bindings
    add_mounts: list[Mount] = []  # as HostConfig.Mounts
    add_binds: list[str] = []  # as HostConfig.Binds
    remove_mounts: list[str] = []  # their targets
    set_env: list[str] = []  # NAME=value
    remove_env: list[str] = []  # names
    set_labels: dict[str, str] = {}
    remove_labels: list[str] = []
    apply: str = ""  # how a running container gets what needs a restart: "restart", "later"; empty refuses
    timeout: int | None = None  # seconds to stop in, for that restart; None is the container's own


class ChangesMade(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer."""

    warnings: list[str] = []
    restarted: bool = False
    later: list[str] = []  # what takes effect at the next start: "environment", "mounts"
