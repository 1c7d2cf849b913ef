"""Volume documents (Engine API, tag Volume)."""

from __future__ import annotations

from typing import Any

import msgspec


class Volume(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    created_at: str = ""
    driver: str = "local"
    labels: dict[str, str] | None = None
    mountpoint: str
    name: str
    options: dict[str, str] | None = None
    scope: str = "local"
    status: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET  # what a plugin tells of it
    usage_data: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class VolumeCreate(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


class VolumeList(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    volumes: list[Volume]
    warnings: list[str] | None = None
