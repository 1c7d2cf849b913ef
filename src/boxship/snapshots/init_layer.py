"""The layer between image and container: empty files and directories that the engine's mounts cover.

Without it they would be in the container's own difference, and ``docker diff`` and ``commit`` would show them.
"""

import os
import stat

from boxship.snapshots import tree

DIRECTORY = object()
FILE = object()

# What Docker puts there, path and kind; a text is the target of a symbolic link.
CONTENT: dict[str, object] = {
    "dev/pts": DIRECTORY,
    "dev/shm": DIRECTORY,
    "proc": DIRECTORY,
    "sys": DIRECTORY,
    ".dockerenv": FILE,
    "etc/resolv.conf": FILE,
    "etc/hosts": FILE,
    "etc/hostname": FILE,
    "dev/console": FILE,
    "etc/mtab": "/proc/mounts",
}


def write(root_fd: int, owner: tuple[int, int] = (0, 0)) -> None:
    """Create what ``CONTENT`` names in the tree, with the uid and gid ``owner``. Raises OSError.

    As Docker does, everything on the way that is not a directory is replaced: so no link of the image is ever followed,
    and a dangling ``/etc/resolv.conf`` doesn't hinder a mount.
    """
    for path, kind in CONTENT.items():
        *parents, name = path.split("/")
        fd = os.dup(root_fd)
        for parent in parents:
            with tree.opened(fd) as above_fd:
                _make_directory(above_fd, parent, owner)
                fd = os.open(parent, tree.DIRECTORY, dir_fd=above_fd)
        with tree.opened(fd):
            if kind is DIRECTORY:
                _make_directory(fd, name, owner)
            elif _is_directory(fd, name):
                continue
            else:
                tree.remove(fd, name)
                if kind is FILE:
                    file_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
                    with tree.opened(file_fd):
                        os.fchmod(file_fd, 0o755)
                else:
                    os.symlink(str(kind), name, dir_fd=fd)
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)


def _make_directory(parent_fd: int, name: str, owner: tuple[int, int]) -> None:
    if not _is_directory(parent_fd, name):
        tree.remove(parent_fd, name)
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        tree.chmod(parent_fd, name, 0o755)


def _is_directory(parent_fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
