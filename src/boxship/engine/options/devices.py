"""The host's device nodes that a container's options name; every function looks at the host's files (blocking)."""

from __future__ import annotations

import os
import stat
from typing import Any

from boxship.base.errors import InvalidInput
from boxship.spec.docker.container import HostConfig


def devices(limits: HostConfig) -> list[dict[str, Any]]:
    """Return the OCI devices of ``--device`` and of privileged containers (all of the host's).

    Raises InvalidInput for what is no device. Devices by name are those of :mod:`boxship.engine.cdi`.
    """
    found = []
    if limits.privileged:
        for directory, _, names in os.walk("/dev"):
            if directory.startswith(("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/.")):
                continue
            found += [
                _device(f"{directory}/{name}", f"{directory}/{name}", "rwm")
                for name in names
                if name not in ("console", "ptmx", "tty")
            ]
    for mapping in limits.devices or []:
        device = _device(
            mapping.path_on_host, mapping.path_in_container or mapping.path_on_host, mapping.cgroup_permissions or "rwm"
        )
        if device is None:
            reason = "not a device node" if os.path.exists(mapping.path_on_host) else "no such file or directory"
            raise InvalidInput(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": {reason}'
            )
        found.append(device)
    return [device for device in found if device]


def numbers(limits: HostConfig) -> dict[str, tuple[int, int]]:
    """Return major and minor of every path that block I/O limits name; raise InvalidInput for one that is none."""
    paths = [
        entry.path
        for entries in (
            limits.blkio_weight_device,
            limits.blkio_device_read_bps,
            limits.blkio_device_write_bps,
            limits.blkio_device_read_iops,
            limits.blkio_device_write_iops,
        )
        for entry in entries or []
    ]
    result = {}
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as exc:
            raise InvalidInput(f"stat {path}: {(exc.strerror or '').lower()}") from None
        if not stat.S_ISBLK(found.st_mode):  # its number may be that of another device, a block device
            raise InvalidInput(f"{path}: not a block device")
        result[path] = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return result


def _device(source: str, target: str, access: str) -> dict[str, Any] | None:
    try:
        found = os.stat(source)
    except OSError:
        return None
    if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        return None
    return {
        "path": target,
        "type": "c" if stat.S_ISCHR(found.st_mode) else "b",
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "access": access,
        "source": source,  # not of the runtime-spec: what is bound where a container may make no nodes
    }
