"""What a container sees at /sys/fs/cgroup: its own cgroups only."""

import errno
import os

from boxship.linux import fs, mount, mountinfo
from boxship.runtime import places
from boxship.runtime.mount_options import MountOptions

# Of a version 1 hierarchy's options those that name it; the rest is the host's set-up.
_NOT_NAMES = frozenset(("rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"))
_DEFAULT_FLAGS = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC | mount.MS_RELATIME


def mount_all(root_fd: int, destination: str, target_fd: int, options: MountOptions, *, namespaced: bool) -> int:
    """Mount the caller's cgroups at ``target_fd``, which is at ``destination``; return the mount's descriptor.

    On a version 1 host that is a tmpfs with one mount per hierarchy, each from the caller's cgroup down; on version 2
    one mount. A version 2 hierarchy beside version 1 (hybrid) has no controllers and is left out, as in Docker. ``namespaced`` tells whether the caller is in a cgroup namespace of its own.
    """
    hierarchies = _hierarchies()
    if any(entry.mount_point == "/sys/fs/cgroup" and entry.fstype == "cgroup2" for entry in hierarchies):
        flags = options.flags & ~mount.MS_REC
        mount.mount("cgroup", f"/proc/self/fd/{target_fd}", "cgroup2", flags)
        return places.find(root_fd, destination)
    return _mount_version_1(root_fd, destination, target_fd, options, hierarchies, namespaced)


def _hierarchies() -> list[mountinfo.MountInfo]:
    seen: dict[str, mountinfo.MountInfo] = {}
    for entry in mountinfo.read():
        if entry.fstype in ("cgroup", "cgroup2") and entry.mount_point.startswith("/sys/fs/cgroup"):
            seen[entry.mount_point] = entry
    return list(seen.values())


def _mount_version_1(
    root_fd: int,
    destination: str,
    target_fd: int,
    options: MountOptions,
    hierarchies: list[mountinfo.MountInfo],
    namespaced: bool,
) -> int:
    flags = options.flags & ~mount.MS_REC
    base_flags = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
    mount.mount("tmpfs", f"/proc/self/fd/{target_fd}", "tmpfs", base_flags, "mode=755")
    tree_fd = places.find(root_fd, destination)
    try:
        own = {} if namespaced else _own_paths()
        for entry in hierarchies:
            if entry.fstype == "cgroup2":
                continue
            name = os.path.basename(entry.mount_point)
            os.mkdir(name, 0o755, dir_fd=tree_fd)
            place_fd = os.open(name, fs.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree_fd)
            try:
                _mount_hierarchy(entry, place_fd, flags, own.get(_name(entry)), namespaced)
            finally:
                os.close(place_fd)
            _link_controllers(tree_fd, name)
        if flags & mount.MS_RDONLY:
            places.set_attributes(tree_fd, mount.MS_RDONLY, 0)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def _mount_hierarchy(
    entry: mountinfo.MountInfo, place_fd: int, flags: int, own_path: str | None, namespaced: bool
) -> None:
    if namespaced:
        mount.mount("cgroup", f"/proc/self/fd/{place_fd}", "cgroup", flags or _DEFAULT_FLAGS, _name(entry))
        return
    if own_path is None:
        return
    below = own_path.removeprefix(entry.root).lstrip("/") if entry.root != "/" else own_path.lstrip("/")
    source_fd = os.open(os.path.join(entry.mount_point, below), fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(places.bind(source_fd, place_fd, flags=flags or _DEFAULT_FLAGS))
    finally:
        os.close(source_fd)


def _link_controllers(tree_fd: int, name: str) -> None:
    """Give each controller of a shared hierarchy (``cpu,cpuacct``) its own name."""
    for controller in name.split(",") if "," in name else ():
        try:
            os.symlink(name, controller, dir_fd=tree_fd)
        except OSError as exc:
            if exc.errno != errno.EEXIST:
                raise


def _name(entry: mountinfo.MountInfo) -> str:
    """Return what names a version 1 hierarchy, in the form of /proc/PID/cgroup: ``cpu,cpuacct``, ``name=systemd``."""
    words = entry.super_options.split(",")
    return ",".join(word for word in words if word not in _NOT_NAMES and not word.startswith("release_agent="))


def _own_paths() -> dict[str, str]:
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    return {name: path for _, name, path in (line.split(":", 2) for line in lines)}
