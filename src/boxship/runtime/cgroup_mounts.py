"""What a container sees at /sys/fs/cgroup: its own cgroups only."""

import os

from boxship.linux import cgroup, fs, mount
from boxship.runtime import places
from boxship.runtime.mount_options import MountOptions

_DEFAULT_FLAGS = mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC | mount.MS_RELATIME


def mount_all(root_fd: int, destination: str, target_fd: int, options: MountOptions, *, namespaced: bool) -> int:
    """Mount the caller's cgroups at ``target_fd``, which is at ``destination``; return the mount's descriptor.

    On a version 1 host that is a tmpfs with one mount per hierarchy, each from the caller's cgroup down; on version 2 one
    mount. A version 2 hierarchy beside version 1 (hybrid) has no controllers and is left out, as in Docker.
    ``namespaced`` tells whether the caller is in a cgroup namespace of its own.
    """
    flags = options.flags & ~mount.MS_REC
    target = f"/proc/self/fd/{target_fd}"
    if cgroup.layout().version == 2:
        mount.mount("cgroup", target, "cgroup2", flags)
        return places.find(root_fd, destination)
    mount.mount("tmpfs", target, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC, "mode=755")
    tree_fd = places.find(root_fd, destination)
    try:
        own = {} if namespaced else _own_paths()
        for mount_point, controllers in _hierarchies().items():
            name = os.path.basename(mount_point)
            os.mkdir(name, 0o755, dir_fd=tree_fd)
            place_fd = os.open(name, fs.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree_fd)
            try:
                if namespaced:
                    data = ",".join(controllers)
                    mount.mount("cgroup", f"/proc/self/fd/{place_fd}", "cgroup", flags or _DEFAULT_FLAGS, data)
                else:
                    _bind_own(mount_point, own[controllers[0]], place_fd, flags or _DEFAULT_FLAGS)
            finally:
                os.close(place_fd)
            for controller in controllers:
                if len(controllers) > 1 and controller != name:
                    os.symlink(name, controller, dir_fd=tree_fd)
        if flags & mount.MS_RDONLY:
            places.set_attributes(tree_fd, mount.MS_RDONLY, 0)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def _hierarchies() -> dict[str, list[str]]:
    """Return the version 1 hierarchies: mount point and what names them, controllers or ``name=systemd``."""
    found: dict[str, list[str]] = {}
    for controller, mount_point in cgroup.layout().controllers.items():
        found.setdefault(mount_point, []).append(controller)
    return found


def _own_paths() -> dict[str, str]:
    """Return the caller's cgroup in each version 1 hierarchy, by controller."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(":", 2) for line in file.read().splitlines()]
    return {controller: path for _, controllers, path in rows for controller in controllers.split(",")}


def _bind_own(mount_point: str, path: str, place_fd: int, flags: int) -> None:
    # Where the host is a container itself, its mounts start below the hierarchy's root: the first parts are not there.
    parts = path.strip("/").split("/")
    while parts and not os.path.isdir(os.path.join(mount_point, *parts)):
        parts.pop(0)
    source_fd = os.open(os.path.join(mount_point, *parts), fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(places.bind(source_fd, place_fd, flags=flags))
    finally:
        os.close(source_fd)
