"""Making a directory the root of this process's mount namespace."""

import os

from boxship.linux import fs, mount, mountinfo, namespaces
from boxship.runtime import places
from boxship.runtime.failure import RuntimeFailure, reason
from boxship.runtime.mount_options import PROPAGATION

_DEFAULT_PROPAGATION = mount.MS_SLAVE | mount.MS_REC


def propagation_flags(name: str) -> int:
    """Return the ``MS_*`` of ``linux.rootfsPropagation``; 0 for none. Raises RuntimeFailure for an unknown word."""
    if not name:
        return 0
    try:
        return PROPAGATION[name if name.startswith("r") else "r" + name]
    except KeyError as exc:
        raise RuntimeFailure(f'rootfsPropagation="{name}" is not supported') from exc


def prepare(rootfs: str, propagation: int, source_fd: int = -1) -> int:
    """Detach this mount namespace from the host's and make ``rootfs`` a mount of it; return its descriptor (O_PATH).

    ``propagation`` is that of the whole tree (0: mounts of the host arrive, ours do not leave). ``source_fd`` is ``rootfs``
    for a caller that may not walk to it any more.
    """
    try:
        _change_whole_tree(propagation or _DEFAULT_PROPAGATION)
        if propagation & mount.MS_SHARED:
            # pivot_root refuses a shared parent, and what we mount must not reach the host through it.
            mount.mount(None, _mount_of(rootfs), None, mount.MS_PRIVATE)
        if source_fd >= 0:
            return places.bind(source_fd, source_fd, recursive=True)
        mount.mount(rootfs, rootfs, None, mount.MS_BIND | mount.MS_REC)
        return os.open(rootfs, fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise RuntimeFailure(f"error preparing rootfs: {rootfs}: {reason(exc)}") from exc


def enter(root_fd: int, propagation: int, *, pivot: bool = True) -> None:
    """Make ``root_fd`` the root and drop the old one, so that no path leads back.

    Without ``pivot`` (the host runs from an initial ramdisk, where pivot_root is impossible) the root is moved instead.
    """
    try:
        if pivot:
            _go_to_namespace_root()
            os.fchdir(root_fd)
            # The old root lands on top of the new one and is detached from there; no directory is needed for it.
            old_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mount.pivot_root(".", ".")
                os.fchdir(old_fd)
            finally:
                os.close(old_fd)
            mount.mount(None, ".", None, mount.MS_SLAVE | mount.MS_REC)  # the unmount must not reach the host
            mount.umount2(".", mount.MNT_DETACH)
            os.chdir("/")
        else:
            os.fchdir(root_fd)
            mount.mount(".", "/", None, mount.MS_MOVE)
            os.chroot(".")
            os.chdir("/")
        if propagation:
            mount.mount(None, "/", None, propagation)
    except OSError as exc:
        raise RuntimeFailure(f"error jailing process inside rootfs: {exc.strerror}") from exc


def _change_whole_tree(propagation: int) -> None:
    """Set the propagation of all mounts of this namespace, also of those above our root directory."""
    own_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _go_to_namespace_root()
        mount.mount(None, "/", None, propagation)
        os.fchdir(own_root)
        os.chroot(".")
    finally:
        os.close(own_root)


def _go_to_namespace_root() -> None:
    """Leave a chroot that we were started in: the root of this process becomes that of its mount namespace.

    pivot_root(2) replaces the mount that our root directory lies on. In a chroot that is not the namespace's root: the
    machine's own files would stay mounted above the container's, where setns(2) leads every exec, and ``..`` who may chroot.
    """
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(fd, namespaces.CLONE_NEWNS)
    finally:
        os.close(fd)


def _mount_of(path: str) -> str:
    """Return the mount point that ``path`` lies in."""
    path = os.path.realpath(path)
    points = {entry.mount_point for entry in mountinfo.read()}
    while path not in points:
        path = os.path.dirname(path)
    return path
