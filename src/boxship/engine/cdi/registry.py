"""The CDI devices that the host has: all specifications in some directories, read anew for each question (blocking).

Vendors' tools replace the files while the daemon runs, and a container with such a device starts rarely.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from boxship.base.errors import SystemFailure
from boxship.engine.cdi import model

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")  # of rising priority

_MAX_FILE = 4 << 20  # bytes; a host with sixteen GPUs in slices has 300 KiB
_MAX_FILES = 256  # in a directory


class Entry(msgspec.Struct, frozen=True):
    """A device, and where it is from."""

    device: model.Device
    spec: model.Specification
    path: str
    priority: int


class Found(msgspec.Struct, frozen=True):
    """``devices`` by qualified name (``vendor.com/class=name``); ``errors`` about files that are left out."""

    devices: dict[str, Entry]
    errors: list[str]


def scan(directories: Sequence[str]) -> Found:
    """Read all specifications; never raises. A device that two files of one directory define is none."""
    devices: dict[str, Entry] = {}
    conflicts: dict[str, int] = {}  # priority
    errors: list[str] = []
    for priority, directory in enumerate(directories):
        for path in _files(directory, errors):
            try:
                spec = _load(path)
            except (
                OSError,
                ValueError,
                RecursionError,
            ) as exc:  # msgspec's and PyYAML's complaints are ValueErrors here
                reason = exc.strerror if isinstance(exc, OSError) else str(exc)
                errors.append(f'failed to load CDI Spec "{path}": {reason}')
                continue
            for device in spec.devices:
                name = f"{spec.kind}={device.name}"
                other = devices.get(name)
                if other is not None and other.priority == priority:
                    conflicts[name] = priority
                    errors.append(f'conflicting device "{name}" (specs "{other.path}", "{path}")')
                else:
                    devices[name] = Entry(device, spec, path, priority)
    for name, priority in conflicts.items():
        if devices[name].priority == priority:
            del devices[name]
    return Found(devices, errors)


def edits(found: Found, names: Iterable[str]) -> list[model.Edits]:
    """Return what the devices ``names`` add to a container, in order; that of a specification once, before its devices.

    Raises SystemFailure in Docker's words for those that there are not.
    """
    wanted = list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in found.devices]:
        raise SystemFailure(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
    result = []
    seen = set()
    for name in wanted:
        entry = found.devices[name]
        if entry.path not in seen:
            seen.add(entry.path)
            result.append(entry.spec.container_edits)
        result.append(entry.device.container_edits)
    return result


def _files(directory: str, errors: list[str]) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith((".json", ".yaml")))
    except FileNotFoundError:
        return []
    except OSError as exc:
        errors.append(f'failed to read CDI Spec directory "{directory}": {exc.strerror}')
        return []
    if len(names) > _MAX_FILES:
        errors.append(f'CDI Spec directory "{directory}" has more than {_MAX_FILES} files')
    return [f"{directory}/{name}" for name in names[:_MAX_FILES]]


def _load(path: str) -> model.Specification:
    """Raises OSError, ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a regular file")
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise ValueError(f"larger than {_MAX_FILE} bytes")
    document = msgspec.json.decode(content) if path.endswith(".json") else _yaml(content)
    spec = msgspec.convert(document, model.Specification)
    model.check(spec)
    return spec


def _yaml(content: bytes) -> Any:
    """Return the document; one with aliases, which could be far larger than its file, is refused. Raises ValueError."""
    import yaml  # 12 ms that only hosts with such files pay

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, yaml.CSafeLoader)):
            raise ValueError("aliases are not supported")
        return yaml.load(content, yaml.CSafeLoader)
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from exc
