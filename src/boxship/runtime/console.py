"""The terminal of a container: a pty of the container's own devpts, opened without trusting any of its paths."""

import errno
import os
import stat

from boxship.linux import fs, tty
from boxship.runtime import places
from boxship.runtime.failure import RuntimeFailure, reason

_PTMX_DEVICE = os.makedev(5, 2)


def open_pty(root_fd: int, size: "dict[str, int] | None") -> tuple[int, int]:
    """Open a pty in the devpts at /dev/pts below ``root_fd``; return (master, terminal).

    ``size`` is the runtime-spec's ``consoleSize``. Raises RuntimeFailure.
    """
    try:
        master = places.find(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, links=False)
    except OSError as exc:
        raise RuntimeFailure(f"open /dev/pts/ptmx: {reason(exc)}") from exc
    status = os.fstat(master)
    if (
        not stat.S_ISCHR(status.st_mode)
        or status.st_rdev != _PTMX_DEVICE
        or fs.fstatfs_type(master) != fs.DEVPTS_SUPER_MAGIC
    ):
        os.close(master)
        raise RuntimeFailure("open /dev/pts/ptmx: not a terminal multiplexer")
    try:
        tty.unlock(master)
        terminal = tty.open_peer(master)
        if size:
            tty.set_window_size(master, size.get("height", 0), size.get("width", 0))
    except OSError as exc:
        os.close(master)
        raise RuntimeFailure(f"unable to open the console: {reason(exc)}") from exc
    return master, terminal


def bind_console(root_fd: int, terminal: int) -> None:
    """Show ``terminal`` at /dev/console below ``root_fd``. Raises RuntimeFailure, also when a link lies there."""
    try:
        parent_fd, name = places.find_parent(root_fd, "/dev/console")
        try:
            try:
                os.mknod(name, stat.S_IFREG | 0o600, dir_fd=parent_fd)
            except FileExistsError:
                pass
            target_fd = os.open(name, fs.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
            try:
                if stat.S_ISLNK(os.fstat(target_fd).st_mode):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                os.close(places.bind(terminal, target_fd))
            finally:
                os.close(target_fd)
        finally:
            os.close(parent_fd)
    except OSError as exc:
        raise RuntimeFailure(f"unable to set up /dev/console: {reason(exc)}") from exc
