"""Mounts that have no place in the mount table: seen through a descriptor, gone with its last user."""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from boxship.linux import fscontext, mount, namespaces
from boxship.snapshots import tree

_TOO_OLD = frozenset((errno.ENOSYS, errno.EINVAL, errno.E2BIG))


def bind(path: str, *, writable: bool) -> int:
    """Return a mount of the directory ``path`` as the root of a tree of its own. Raises OSError."""
    tree_fd = mount.open_tree(mount.AT_FDCWD, path, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    if not writable:
        try:
            mount.mount_setattr(tree_fd, mount.MOUNT_ATTR_RDONLY, 0)
        except BaseException:
            os.close(tree_fd)
            raise
    return tree_fd


def overlay(lower: Sequence[str], place: str, upper: str | None = None, work: str | None = None) -> int:
    """Return an overlay mount of the directories, the topmost first; read-only without ``upper``. Raises OSError.

    Kernels before 6.5 get it mounted at the directory ``place`` for a moment, in a mount namespace of its own.
    """
    try:
        return _by_context(lower, upper, work)
    except OSError as exc:
        if exc.errno not in _TOO_OLD:
            raise
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_by_path, lower, place, upper, work).result()


def _by_context(lower: Sequence[str], upper: str | None, work: str | None) -> int:
    with tree.opened(fscontext.fsopen("overlay")) as context:
        fscontext.fsconfig_set_string(context, "source", "overlay")
        for directory in lower:
            fscontext.fsconfig_set_string(context, "lowerdir+", directory)
        if upper is not None and work is not None:
            fscontext.fsconfig_set_string(context, "upperdir", upper)
            fscontext.fsconfig_set_string(context, "workdir", work)
        fscontext.fsconfig_set_string(context, "index", "off")
        fscontext.fsconfig_create(context)
        return fscontext.fsmount(context, 0 if upper is not None else mount.MOUNT_ATTR_RDONLY)


def _by_path(lower: Sequence[str], place: str, upper: str | None, work: str | None) -> int:
    """Mount with mount(2), whose options fit on one page: directories are named by short-lived descriptors.

    The thread that calls it is in a mount namespace of its own afterwards, so that nobody else meets the mount.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE)
    with ExitStack() as stack:

        def name(path: str) -> str:
            fd = tree.open_root(path)
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        options = ["index=off", "lowerdir=" + ":".join(name(path) for path in lower)]
        if upper is not None and work is not None:
            options += [f"upperdir={name(upper)}", f"workdir={name(work)}"]
        mount.mount("overlay", place, "overlay", 0 if upper is not None else mount.MS_RDONLY, ",".join(options))
        try:
            # A copy, since what is unmounted can be attached nowhere, and "..", walked in it, ends in EAGAIN.
            return bind(place, writable=True)
        finally:
            mount.umount2(place, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
