"""Devices of a container: ``--device`` and ``--gpus``."""

from __future__ import annotations

from boxship.cli import csvfields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def parse_devices(specs: Iterable[str]) -> tuple[list[dict[str, str]], list[str]]:
    """Return the mappings of ``--device`` values and the names of CDI devices among them. Raises ValueError."""
    mappings: list[dict[str, str]] = []
    qualified: list[str] = []
    for spec in specs:
        if _is_qualified(spec):
            qualified.append(spec)
        else:
            mappings.append(_mapping(spec))
    return mappings, qualified


def _is_qualified(spec: str) -> bool:
    """Whether ``spec`` is a CDI name: ``vendor.com/class=device``."""
    kind, equals, name = spec.partition("=")
    vendor, slash, cls = kind.partition("/")
    return bool(equals and slash and name and vendor and cls) and not spec.startswith("/")


def _mapping(spec: str) -> dict[str, str]:
    parts = spec.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {spec}")
    source = parts[0]
    target, permissions = source, "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
        if not _is_permissions(permissions):
            raise ValueError(f"bad mode specified: {permissions}")
    elif len(parts) == 2:
        if _is_permissions(parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    if not target.startswith("/"):
        raise ValueError(f"{target} is not an absolute path")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}


def _is_permissions(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def parse_gpus(text: str) -> dict[str, Any]:
    """Return one device request. Raises ValueError."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": {}}
    seen = set()
    for field in csvfields.split(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            request["Count"] = _count(key)
            continue
        match key:
            case "driver":
                request["Driver"] = value
            case "count":
                request["Count"] = _count(value)
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "capabilities":
                request["Capabilities"] = [[*value.split(","), "gpu"]]
            case "options":
                options = (option.partition("=") for option in csvfields.split(value))
                request["Options"] = {name: setting for name, _, setting in options}
            case _:
                raise ValueError(f"unexpected key '{key}' in '{field}'")
    if not seen & {"count", "device"}:
        request["Count"] = 1
    request["Capabilities"] = request["Capabilities"] or [["gpu"]]
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax') from None
