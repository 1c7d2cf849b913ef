"""A directory of tools beside a container's files, seen by one process and its children only.

The process gets a mount namespace of its own, a copy of the container's, in which the directory covers a place that every
container has and none needs. Nothing of it shows in the container's own namespace, and it ends with its last process.
"""

import os

from boxship.linux import fs, mount, namespaces
from boxship.runtime import places
from boxship.runtime.failure import RuntimeFailure, reason

PLACE = "/sys/firmware"  # in every sysfs; masked in containers that are not privileged

_ATTRIBUTES = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV


def clone(directory: str) -> int:
    """Return a detached, read-only mount of a directory of the host. Raises OSError."""
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
    tree_fd = mount.open_tree(mount.AT_FDCWD, directory, flags)
    mount.mount_setattr(tree_fd, _ATTRIBUTES, 0)
    return tree_fd


def attach(tree_fd: int, proc_fd: int) -> int:
    """Leave the container's mount namespace, which the caller is in, for a copy with the tools; return its inode.

    ``proc_fd`` is the host's procfs. Raises RuntimeFailure.
    """
    try:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
        root_fd = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        place_fd = places.find(root_fd, PLACE)
        mount.move_mount(tree_fd, place_fd)
        for fd in (place_fd, root_fd, tree_fd):
            os.close(fd)
        return os.stat("self/ns/mnt", dir_fd=proc_fd).st_ino
    except OSError as exc:
        raise RuntimeFailure(f"unable to mount the toolbox at {PLACE}: {reason(exc)}") from exc
