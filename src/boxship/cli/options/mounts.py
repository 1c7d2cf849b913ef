"""Mounts of a container: ``--mount``, ``-v`` and ``--tmpfs``."""

from __future__ import annotations

import os

from boxship.cli import csvfields
from boxship.cli.flags import parse_bool
from boxship.cli.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

TYPES = ("bind", "volume", "tmpfs", "npipe", "cluster", "image")
BARE_BOOLEANS = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
OWNERS = "idmap"  # our own: ranges may follow, the owner of the source is meant without


def parse_mount(text: str) -> dict[str, Any]:
    """Return one element of ``Mounts`` from ``type=bind,src=/a,dst=/b,readonly``. Raises ValueError."""
    fields = csvfields.split(text.strip())
    if not fields:
        raise ValueError("value is empty")
    mount: dict[str, Any] = {"Type": "volume"}
    options: dict[str, dict[str, Any]] = {"bind": {}, "volume": {}, "tmpfs": {}, "image": {}}
    read_only = ""
    owners: str | None = None
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key != OWNERS:
            if key not in BARE_BOOLEANS:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        match key:
            case "type":
                mount["Type"] = value.lower()
            case "source" | "src":
                mount["Source"] = (
                    os.path.abspath(value)
                    if value == "." or value.startswith(("./", "../")) or value == ".."
                    else value
                )
            case "target" | "dst" | "destination":
                mount["Target"] = value
            case "readonly" | "ro":
                mount["ReadOnly"] = _boolean(key, value)
            case "consistency":
                mount["Consistency"] = value.lower()
            case "bind-recursive":
                read_only = value
                _bind_recursive(value, options["bind"])
            case "idmap":
                owners = value
            case _:
                _type_option(key, value, field, options)
    if owners is not None:
        if mount["Type"] not in ("bind", "volume"):
            raise ValueError(f"cannot mix 'idmap' with mount type '{mount['Type']}'")
        options[mount["Type"]]["IDMap"] = owners
    return _finish(mount, options, read_only)


def _boolean(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _bind_recursive(value: str, bind: dict[str, Any]) -> None:
    match value:
        case "enabled":
            pass
        case "disabled":
            bind["NonRecursive"] = True
        case "writable":
            bind["ReadOnlyNonRecursive"] = True
        case "readonly":
            bind["ReadOnlyForceRecursive"] = True
        case _:
            raise ValueError(
                f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )


def _type_option(key: str, value: str, field: str, options: dict[str, dict[str, Any]]) -> None:
    volume, tmpfs = options["volume"], options["tmpfs"]
    match key:
        case "bind-propagation":
            options["bind"]["Propagation"] = value.lower()
        case "bind-nonrecursive":
            options["bind"]["NonRecursive"] = _boolean(key, value)
        case "bind-create-src":
            options["bind"]["CreateMountpoint"] = _boolean(key, value)
        case "volume-nocopy":
            volume["NoCopy"] = _boolean("volume-nocopy", value)
        case "volume-subpath":
            volume["Subpath"] = value
        case "volume-label":
            name, _, label = value.partition("=")
            volume.setdefault("Labels", {})[name] = label
        case "volume-driver":
            volume.setdefault("DriverConfig", {})["Name"] = value
        case "volume-opt":
            name, _, option = value.partition("=")
            volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = option
        case "image-subpath":
            options["image"]["Subpath"] = value
        case "tmpfs-size":
            try:
                tmpfs["SizeBytes"] = parse_size(value)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        case "tmpfs-mode":
            try:
                tmpfs["Mode"] = int(value, 8)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        case _:
            raise ValueError(f"unexpected key '{key}' in '{field}'")


def _finish(mount: dict[str, Any], options: dict[str, dict[str, Any]], recursive: str) -> dict[str, Any]:
    type = mount["Type"]
    if type not in TYPES and not type:
        raise ValueError("type is required")
    if "Target" not in mount:
        raise ValueError("target is required")
    for other, given in options.items():
        if given and other != type:
            raise ValueError(f"cannot mix '{other}-*' options with mount type '{type}'")
    if recursive == "readonly":
        if not mount.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if options["bind"].get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    ordered = {key: mount[key] for key in ("Type", "Source", "Target", "ReadOnly", "Consistency") if mount.get(key)}
    if options.get(type):
        ordered[f"{type.capitalize()}Options"] = options[type]
    return ordered


def parse_volumes(specs: Iterable[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the binds and the anonymous volumes of ``-v`` values. Raises ValueError."""
    binds: list[str] = []
    volumes: dict[str, dict[str, str]] = {}
    for spec in dict.fromkeys(specs):
        if not spec:
            raise ValueError("invalid empty volume spec")
        source, colon, rest = spec.partition(":")
        if not source or not colon:
            volumes[spec] = {}
            continue
        if source.startswith("."):
            source = os.path.abspath(source)
        binds.append(f"{source}:{rest}")
    return binds, volumes


def parse_tmpfs(specs: Iterable[str]) -> dict[str, str]:
    """Return ``Tmpfs``: options by path, from ``/run:size=64m`` values."""
    return {path: options for path, _, options in (spec.partition(":") for spec in specs)}
