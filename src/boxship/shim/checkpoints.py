"""Checkpoints as a shim makes and restores them: whole or not there, whoever is killed at whatever moment.

Saving is the work of a helper process::

    .NAME.partial, locked --> CRIU writes --> processes stand still, all is written --> synced, renamed to NAME
                                                                                    --> killed, or let go on

A checkpoint that has its name is complete, and until it has one the container runs on: CRIU kills only after the renaming.
So a container that ended with its checkpoint can be restored, even if no daemon was there to see it. What has the other
name and no lock is nobody's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal

from boxship.linux import pidfd, prctl
from boxship.linux.rename import RENAME_NOREPLACE, renameat2
from boxship.runtime.checkpoints import images as checkpoint
from boxship.shim import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from boxship.linux.cgroup import Cgroup
    from boxship.shim.started import Started

WORK = "criu"  # in the state directory: CRIU's log while it works
_END_WAIT = 2.0  # seconds in which killed processes are seen to have ended


def partial_name(name: str) -> str:
    """Return how the directory of checkpoint ``name`` is called until it is complete."""
    return f".{name}.partial"


def save(
    program: str,
    directory: int,
    name: str,
    *,
    state_dir: str,
    init: Started,
    pipes: Mapping[int, int],
    bound: Collection[str],
    leave_running: bool,
) -> None:
    """Save the container as ``name`` in ``directory``; blocks. See :func:`boxship.runtime.checkpoints.images.dump`.

    For a helper process, which ends with the shim. ``name`` must be free: whatever is called so afterwards is this checkpoint. Raises RuntimeFailure or OSError: then there
    is none, and the container runs on.
    """
    prctl.set_parent_death_signal(signal.SIGKILL)
    partial = partial_name(name)
    _remove(directory, partial)
    os.mkdir(partial, 0o700, dir_fd=directory)
    images = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    fcntl.flock(images, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def commit() -> None:
        _sync(images)
        renameat2(directory, partial, directory, name, RENAME_NOREPLACE)
        os.fsync(directory)

    try:
        with _Work(state_dir) as work:
            checkpoint.dump(
                program,
                pid=init.pid,
                images_fd=images,
                work_fd=work.fd,
                pipes=pipes,
                bound=bound,
                leave_running=leave_running,
                commit=commit,
            )
    except BaseException:
        fcntl.flock(images, fcntl.LOCK_UN)
        if settle(directory, name, init, leave_running=leave_running):
            return
        raise
    finally:
        os.close(images)


def settle(directory: int, name: str, init: Started, *, leave_running: bool) -> bool:
    """Decide about a checkpoint whose making failed at an unknown place; return whether it counts. Never raises.

    Without its processes the container is in the checkpoint and nowhere else, whatever went wrong after the renaming.
    """
    try:
        if not leave_running and exists(directory, name) and pidfd.wait(init.pidfd, _END_WAIT):
            return True
        _remove(directory, partial_name(name))
        _remove(directory, name)
    except OSError:
        pass  # somebody else removes it too; the next daemon does for certain
    return False


def exists(directory: int, name: str) -> bool:
    """Return whether there is a checkpoint, or anything else, called ``name``."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def restore(
    request: Mapping[str, Any],
    images: int,
    spec: Mapping[str, Any],
    facts: Mapping[str, Any],
    stdio: tuple[int, int, int],
    cgroup: Cgroup,
    control: int,
) -> tuple[int, int, int]:
    """Restore the container as the ``checkpoint`` of a start document says, from ``images``.

    Returns pid and pidfd of its init and its terminal's master, or -1.

    The end of the connection ``control`` calls it off: a daemon that starts anew finds no container half there.
    """
    with _Work(facts["state_dir"]) as work:
        return checkpoint.restore(
            request["criu"],
            spec,
            container_id=facts["id"],
            rootfs=facts["rootfs"],
            images_fd=images,
            work_fd=work.fd,
            stdio=stdio,
            cgroup=cgroup,
            asker_fd=control,
        )


class _Work:
    """A directory for CRIU's log, gone at the end."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._parent = self.fd = -1

    def __enter__(self) -> _Work:
        self._parent = os.open(self._state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _remove(self._parent, WORK)
        os.mkdir(WORK, 0o700, dir_fd=self._parent)
        self.fd = os.open(WORK, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._parent)
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            os.close(self.fd)
            _remove(self._parent, WORK)
        except OSError:
            records.note_error(self._state_dir)
        finally:
            os.close(self._parent)


def _sync(directory: int) -> None:
    for name in os.listdir(directory):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    os.fsync(directory)


def _remove(parent: int, name: str) -> None:
    """Remove a directory of files, if it is there and nobody works on it. Raises OSError."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another checkpoint of this name is being made", name) from None
        for entry in os.listdir(fd):
            os.unlink(entry, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
