"""System documents: version, info, events (Engine API, tag System)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field


class ComponentVersion(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str
    version: str
    details: dict[str, str] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of GET /version. ``go_version`` carries the Python version: clients print that field."""

    platform: dict[str, str]
    components: list[ComponentVersion]
    version: str
    api_version: str
    min_api_version: str = field(name="MinAPIVersion")
    git_commit: str
    go_version: str
    os: str
    arch: str
    kernel_version: str
    experimental: bool | msgspec.UnsetType = msgspec.UNSET
    build_time: str


class EventActor(msgspec.Struct, frozen=True, kw_only=True):
    id: str = field(name="ID")
    attributes: dict[str, str] = field(default_factory=dict, name="Attributes")


class EventMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One line of GET /events."""

    status: str | msgspec.UnsetType = msgspec.UNSET  # the old fields, for containers and images only
    id: str | msgspec.UnsetType = msgspec.UNSET
    from_: str | msgspec.UnsetType = field(default=msgspec.UNSET, name="from")
    type: str = field(name="Type")
    action: str = field(name="Action")
    actor: EventActor = field(name="Actor")
    scope: str = "local"
    time: int  # Unix seconds
    time_nano: int = field(name="timeNano")


Info = dict[str, Any]
"""Answer of GET /info: a flat bag of about ninety fields, filled by the engine, reshaped nowhere else."""
