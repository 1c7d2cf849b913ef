"""Mounts taken out of another mount namespace: how a container shares the /dev/shm of another one.

The kernel clones a mount only for a process of the namespace that it stands in, so the caller goes there and back. The
clone belongs to nobody's namespace until it is attached: nothing is left on the host, whoever dies in between.
"""

import errno
import os

from boxship.linux import fs, mount, namespaces


def clone(namespace: str, path: str, fstype: int) -> int:
    """Return a detached clone (open_tree(2)) of what is mounted at ``path`` in the mount namespace file ``namespace``.

    ``path`` is walked below that namespace's root, without links; ``fstype`` is the magic number of statfs(2) that must be
    found there. For a process with one thread only; its working directory is the root afterwards. Raises OSError.
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.setns(there, namespaces.CLONE_NEWNS)
        finally:
            os.close(there)
        try:
            return _clone(path, fstype)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNS)
    finally:
        os.close(home)


def _clone(path: str, fstype: int) -> int:
    root = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rules = fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_SYMLINKS
        place = fs.openat2(root, path.lstrip("/"), fs.O_PATH | os.O_DIRECTORY, resolve=rules)
    finally:
        os.close(root)
    try:
        if fs.fstatfs_type(place) != fstype:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)  # not what that container was given
        return mount.open_tree(place, "", mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH)
    finally:
        os.close(place)
