"""Control groups of either version behind one class: find the host's hierarchies, open a cgroup in them.

A path such as ``/boxship/<id>`` counts from the mount points of the hierarchies, wherever the caller itself sits, as
dockerd's cgroupfs driver has it. A host that mounts any controller as version 1 uses version 1 here, also when an empty
version 2 hierarchy is mounted beside it (hybrid).
"""

from __future__ import annotations

import errno

from boxship.linux.cgroup_base import Cgroup, CgroupError
from boxship.linux.cgroup_v1 import CgroupV1
from boxship.linux.cgroup_v2 import CgroupV2

__all__ = ["Cgroup", "CgroupError", "Layout", "layout", "open_cgroup", "parse_mountinfo", "version"]

_CONTROLLERS_V1 = frozenset(
    [
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ]
)


class Layout:
    """Where the host mounts its hierarchies: ``controllers`` of version 1 to mount point, ``unified`` or None."""

    __slots__ = ("controllers", "unified")

    def __init__(self, controllers: dict[str, str], unified: str | None) -> None:
        self.controllers = controllers
        self.unified = unified

    @property
    def version(self) -> int:
        """1 when any controller lives in a version 1 hierarchy, else 2; 0 when nothing is mounted."""
        if any(not name.startswith("name=") for name in self.controllers):
            return 1
        return 2 if self.unified is not None else 0


_layout: Layout | None = None


def layout() -> Layout:
    """Return the layout of the mount namespace in which this was first called; read once per process."""
    global _layout
    if _layout is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            _layout = parse_mountinfo(file.read())
    return _layout


def version() -> int:
    """Return the cgroup version of this host: 1, 2, or 0 without any."""
    return layout().version


def open_cgroup(path: str, host: Layout | None = None) -> Cgroup:
    """Return the cgroup at ``path`` below the hierarchies of ``host`` (this one's); it need not exist yet.

    Raises ValueError for a path that is empty or climbs, CgroupError when the host mounts no cgroups.
    """
    host = host or layout()
    if host.version == 1:
        return CgroupV1(path, host.controllers)
    if host.unified is not None:
        return CgroupV2(path, host.unified)
    raise CgroupError(errno.ENOENT, "cgroups: no cgroup hierarchy is mounted on this host")


def parse_mountinfo(text: str) -> Layout:
    """Find the hierarchies in the text of /proc/<pid>/mountinfo (see proc(5)); of several mounts the first counts."""
    controllers: dict[str, str] = {}
    unified = None
    for line in text.splitlines():
        fields = line.split(" ")
        try:
            kind, _, options = fields[fields.index("-", 6) + 1 :][:3]
        except ValueError:
            continue
        mount_point = _unescape(fields[4])
        if kind == "cgroup2" and unified is None:
            unified = mount_point
        elif kind == "cgroup":
            for option in options.split(","):
                if option in _CONTROLLERS_V1 or option.startswith("name="):
                    controllers.setdefault(option, mount_point)
    return Layout(controllers, unified)


def _unescape(path: str) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    first, *rest = path.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
