"""Filling a fresh tmpfs with what it covers (mount option ``tmpcopyup``), by descriptor."""

import os
import stat

_CHUNK = 1 << 20


def copy(source_fd: int, target_fd: int) -> None:
    """Copy the content of the directory ``source_fd`` into ``target_fd``; both may be O_PATH.

    Files, directories and links with mode and owner; devices, sockets and pipes are left out. Raises OSError.
    """
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        with os.scandir(source) as entries:
            for entry in entries:
                _copy_entry(source, target_fd, entry.name)
    finally:
        os.close(source)


def _copy_entry(source: int, target: int, name: str) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        return
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        copied = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            copy(below, copied)
            _copy_owner(copied, status)
        finally:
            os.close(below)
            os.close(copied)
    elif stat.S_ISREG(status.st_mode):
        below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        copied = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while os.sendfile(copied, below, None, _CHUNK):
                pass
            _copy_owner(copied, status)
        finally:
            os.close(below)
            os.close(copied)


def _copy_owner(fd: int, status: os.stat_result) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))  # after the owner: chown clears set-id bits
