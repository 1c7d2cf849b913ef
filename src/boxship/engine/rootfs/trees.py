"""A container's files as the container sees them, volumes included, by a descriptor of its root directory.

Of a running container it is the tree of its first process, taken once from ``/proc/<pid>/root`` and checked to be that
process's. Of a stopped one it is the snapshot with the container's mounts attached, in a mount tree that nobody else sees.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from boxship.base.errors import SystemFailure
from boxship.engine.model import ResolvedMount
from boxship.engine.processes.launcher import UnattachedMount
from boxship.engine.rootfs import paths
from boxship.linux import mount, pidfd
from boxship.runtime import places
from boxship.snapshots import Snapshotter, tree

_CLONE = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
_NO_MOUNTS_ON_DETACHED = (errno.EINVAL, errno.EPERM, errno.ENOSYS)  # before Linux 6.15


Assemble = Callable[[int, Sequence[UnattachedMount]], socket.socket]
"""Attaches mounts below a root in a namespace of its own, which ends with the socket; see ``processes.launcher``."""


class TooOld(Exception):
    """The kernel attaches nothing to a tree that is itself unattached: before Linux 6.15."""


class NotThere(Exception):
    """The first process ended before its tree was open."""


def open_running(pid: int, start_time: int) -> int:
    """Return a handle of the root directory of process ``pid``, started at ``start_time``. Raises NotThere, SystemFailure."""
    try:
        with tree.opened(pidfd.pidfd_open(pid)) as process_fd:
            if pidfd.start_time(pid) != start_time:
                raise NotThere
            root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if pidfd.wait(process_fd, 0):  # else the pid meant this process all the time
                os.close(root_fd)
                raise NotThere
            return root_fd
    except (ProcessLookupError, FileNotFoundError) as exc:
        raise NotThere from exc
    except OSError as exc:
        raise SystemFailure(f"can't open the files of process {pid}: {exc.strerror}") from exc


def open_stopped(
    snapshotter: Snapshotter,
    key: str,
    mounts: Sequence[ResolvedMount],
    *,
    writable: bool,
    stack: ExitStack,
    assemble: Assemble,
) -> int:
    """Return a descriptor of the root of the snapshot ``key`` with ``mounts`` in place, until ``stack`` is closed.

    The caller keeps the container from starting while it is ``writable``. Raises SystemFailure.
    """
    kept = [each for each in sorted(mounts, key=lambda each: each.target) if each.type != "tmpfs"]
    trees = [_unattached(each, snapshotter, stack) for each in kept]
    if kept and not writable:
        with snapshotter.view(key, writable=True) as root_fd:
            for part in trees:
                os.close(_target(root_fd, part))
    root_fd = stack.enter_context(snapshotter.view(key, writable=writable))
    try:
        for each, part in zip(kept, trees, strict=True):
            attach(root_fd, part, each)
    except TooOld:
        stack.callback(assemble(root_fd, trees).close)
    return root_fd


def writable_place(path: str, mounts: Sequence[ResolvedMount]) -> bool | None:
    """Return whether the mount that ``path`` (without links) lies in may be written; None when it lies in none."""
    inside = [each for each in mounts if path == each.target or path.startswith(f"{each.target.rstrip('/')}/")]
    if not inside:
        return None
    return not max(inside, key=lambda each: len(each.target)).read_only


def _unattached(wanted: ResolvedMount, snapshotter: Snapshotter, stack: ExitStack) -> UnattachedMount:
    """Return a copy of the mount that the container gets, which lives until ``stack`` is closed."""
    try:
        tree_fd = _source(wanted, snapshotter, stack)
        if wanted.type != "image" or wanted.subpath:
            flags = _CLONE | mount.AT_EMPTY_PATH
            tree_fd = mount.open_tree(tree_fd, "", flags | mount.AT_RECURSIVE if wanted.recursive else flags)
            stack.callback(os.close, tree_fd)
        if wanted.read_only:
            mount.mount_setattr(tree_fd, mount.MOUNT_ATTR_RDONLY, 0, recursive=wanted.recursive)
        directory = stat.S_ISDIR(os.fstat(tree_fd).st_mode)
    except OSError as exc:
        raise SystemFailure(f"can't mount {wanted.source} at {wanted.target}: {exc.strerror}") from exc
    return UnattachedMount(tree_fd, paths.absolute(wanted.target), directory)


def _source(wanted: ResolvedMount, snapshotter: Snapshotter, stack: ExitStack) -> int:
    """Return a handle of what is mounted; of an image it is the root of a mount of its own, unless a part is wanted."""
    if wanted.type == "image":
        source_fd = stack.enter_context(snapshotter.view(wanted.snapshot))
    else:
        source_fd = os.open(wanted.source, os.O_PATH | os.O_CLOEXEC)
        stack.callback(os.close, source_fd)
    if wanted.subpath:
        source_fd = places.find(source_fd, wanted.subpath)
        stack.callback(os.close, source_fd)
    return source_fd


def attach(root_fd: int, part: UnattachedMount, wanted: ResolvedMount) -> None:
    """Attach one mount below the unattached root. Raises TooOld where the kernel does not do that."""
    try:
        with tree.opened(_target(root_fd, part)) as target_fd:
            # Parts are copies of mounts that the host may share: what is attached in them must not appear there.
            mount.mount_setattr(root_fd, 0, 0, recursive=True, propagation=mount.MS_SLAVE)
            mount.move_mount(part.tree_fd, target_fd)
    except OSError as exc:
        if exc.errno in _NO_MOUNTS_ON_DETACHED:
            raise TooOld from exc
        raise SystemFailure(f"can't mount {wanted.source} at {wanted.target}: {exc.strerror}") from exc


def _target(root_fd: int, part: UnattachedMount) -> int:
    """Return a handle of the mount point, made if it is not there yet: the container was never started."""
    return places.find_or_make(root_fd, part.path, directory=part.directory)
