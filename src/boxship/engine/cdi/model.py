"""CDI specifications as documents, versions 0.3 to 1.1 (github.com/cncf-tags/container-device-interface, SPEC.md)."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
_VENDOR = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z")
_CLASS = re.compile(r"[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?\Z")
_DEVICE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?\Z")


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A device node of the container; what is not said is as the host's node has it."""

    path: str
    host_path: str = ""  # empty: the same as in the container
    type: str = ""  # b, c, u, p
    major: _Number = 0
    minor: _Number = 0
    file_mode: _Number | None = None
    permissions: str = ""  # of r, w, m; empty is all
    uid: _Number | None = None
    gid: _Number | None = None


class Mount(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    host_path: str
    container_path: str
    options: list[str] | None = None
    type: str = ""


class Hook(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    hook_name: str
    path: str
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: _Number | None = None  # seconds


class Edits(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What is added to a container that gets the device."""

    env: list[str] | None = None
    device_nodes: list[DeviceNode] | None = None
    mounts: list[Mount] | None = None
    hooks: list[Hook] | None = None
    intel_rdt: dict[str, Any] | None = None
    additional_gids: list[_Number] | None = msgspec.field(default=None, name="additionalGids")
    net_devices: list[dict[str, Any]] | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    name: str
    annotations: dict[str, str] | None = None
    container_edits: Edits


class Specification(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One file."""

    cdi_version: str
    kind: str  # vendor/class
    annotations: dict[str, str] | None = None
    devices: list[Device]
    container_edits: Edits = Edits()  # for whoever gets any of the devices


def check(spec: Specification) -> None:
    """Raise ValueError for what the types let through."""
    if spec.cdi_version not in VERSIONS:
        raise ValueError(f'unknown CDI Spec version "{spec.cdi_version}"')
    vendor, _, kind = spec.kind.partition("/")
    if not _VENDOR.match(vendor):
        raise ValueError(f'invalid vendor "{vendor}"')
    if not _CLASS.match(kind):
        raise ValueError(f'invalid class "{kind}"')
    if not spec.devices:
        raise ValueError("invalid spec, no devices")
    names = set()
    for device in spec.devices:
        if not _DEVICE.match(device.name):
            raise ValueError(f'invalid device name "{device.name}"')
        if device.name in names:
            raise ValueError(f'invalid spec, multiple device "{device.name}"')
        names.add(device.name)
        if device.container_edits == Edits():
            raise ValueError(f'invalid device "{device.name}", empty device edits')
        _check_edits(device.container_edits)
    _check_edits(spec.container_edits)


def _check_edits(edits: Edits) -> None:
    for entry in edits.env or []:
        if not entry.partition("=")[0] or "=" not in entry:
            raise ValueError(f'invalid environment variable "{entry}"')
    for node in edits.device_nodes or []:
        if not node.path.startswith("/"):
            raise ValueError(f'invalid device node path "{node.path}"')
        if node.type not in ("", "b", "c", "u", "p"):
            raise ValueError(f'device "{node.path}": invalid type "{node.type}"')
        if not set(node.permissions) <= set("rwm"):
            raise ValueError(f'device "{node.path}": invalid permissions "{node.permissions}"')
    for mount in edits.mounts or []:
        if not mount.host_path:
            raise ValueError("invalid mount, empty host path")
        if not mount.container_path.startswith("/"):
            raise ValueError(f'invalid mount, container path "{mount.container_path}"')
    for hook in edits.hooks or []:
        if hook.hook_name not in HOOKS:
            raise ValueError(f'invalid hook name "{hook.hook_name}"')
        if not hook.path.startswith("/"):
            raise ValueError(f'invalid hook "{hook.hook_name}" with path "{hook.path}"')
