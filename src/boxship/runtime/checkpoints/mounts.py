"""Which of a container's mounts a checkpoint leaves to its restore: what shows files of the host, not of the container.

CRIU saves the file systems that belong to the container alone (tmpfs with their files, procfs, devpts) and takes the others
as *external*: it notes their place, and the restore says what to mount there. These are volumes and other binds, Docker's
three files in ``/etc``, and with version 1 the cgroups.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from boxship.linux.mountinfo import MountInfo

# File systems of the kernel that CRIU makes anew, although host and container may share one.
_MADE_ANEW = frozenset(("proc", "sysfs", "mqueue", "devpts", "cgroup2"))


def external(
    mounts: "Iterable[MountInfo]", host: "Iterable[MountInfo]", bound: "Collection[str]"
) -> "list[dict[str, str]]":
    """Return ``{"target"}``, of a cgroup with ``"cgroup"``, for each external one of a container's ``mounts``.

    ``host`` are the mounts of the host; ``bound`` the places where the user's volumes and binds are, whatever is there.
    """
    devices = {(entry.major, entry.minor) for entry in host}
    found: dict[str, dict[str, str]] = {}
    for entry in mounts:
        target = entry.mount_point
        if entry.fstype == "cgroup":
            found[target] = {"target": target, "cgroup": entry.super_options}
        elif target != "/" and (target in bound or _is_shared(entry, devices)):
            found[target] = {"target": target}
    return list(found.values())


def sources(
    found: "Iterable[Mapping[str, str]]", mounts: "Iterable[Mapping[str, Any]]", cgroups: "Mapping[str, str]"
) -> dict[str, str]:
    """Return what of the host to mount at each target of :func:`external`.

    ``mounts`` are the binds of the container's configuration now; what lies below one of their places is taken from the
    same depth of its source. ``cgroups``: the container's directory by version 1 controller. Raises ValueError for a
    target that the container has no more.
    """
    binds = {os.path.normpath(entry["destination"]): str(entry["source"]) for entry in mounts}
    result = {}
    for entry in found:
        target = entry["target"]
        options = entry.get("cgroup")
        source = _cgroup(options, cgroups) if options is not None else _below(target, binds)
        if source is None:
            raise ValueError(f"the container has no mount at {target} any more")
        result[target] = source
    return result


def _is_shared(entry: "MountInfo", devices: "Collection[tuple[int, int]]") -> bool:
    return entry.fstype not in _MADE_ANEW and (entry.major, entry.minor) in devices


def _cgroup(options: str, cgroups: "Mapping[str, str]") -> str | None:
    for name in options.split(","):
        if name in cgroups:
            return cgroups[name]
    return None


def _below(target: str, binds: "Mapping[str, str]") -> str | None:
    place = target
    while place not in binds:
        if place == "/":
            return None
        place = os.path.dirname(place)
    rest = os.path.relpath(target, place)
    return binds[place] if rest == "." else os.path.join(binds[place], rest)
