"""Directory trees by descriptor: copy one with all that belongs to its files, remove one, measure one.

Names are never followed through a symbolic link. Blocking.
"""

from __future__ import annotations

import errno
import os
import stat

TRASH = ".removed-"
_MAX_DEPTH = 256  # two descriptors a level stay well below the usual limit of 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 24


def open_directory(name: str, dir_fd: int | None = None) -> int:
    """Open a directory that is not a symbolic link; raises OSError."""
    return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def copy(source_fd: int, target_fd: int) -> None:
    """Copy the content of a directory into an empty one, and its own owner, mode, attributes and times.

    Keeps hard links, symbolic links, special files, extended attributes and times. Raises OSError; ELOOP below
    256 levels.
    """
    _copy_directory(source_fd, target_fd, target_fd, "", {}, 0)


def copy_attributes(source_fd: int, target_fd: int) -> None:
    """Give an open file or directory the owner, mode, extended attributes and times of another."""
    status = os.fstat(source_fd)
    os.fchown(target_fd, status.st_uid, status.st_gid)
    os.fchmod(target_fd, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source_fd):
        try:
            os.setxattr(target_fd, name, os.getxattr(source_fd, name))
        except OSError as exc:
            # One that this filesystem or policy has no room for is no reason to lose the file.
            if exc.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
                raise
    os.utime(target_fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def trash_name() -> str:
    """Return a new name for something that is to be removed."""
    return f"{TRASH}{os.urandom(16).hex()}"


def remove(name: str, dir_fd: int) -> None:
    """Remove a file or a whole tree, however deep; what is not there is no error. Raises OSError.

    Directories far down are first renamed into ``dir_fd`` itself, under a :func:`trash_name`.
    """
    waiting = [name]
    while waiting:
        _remove(waiting.pop(), dir_fd, dir_fd, waiting, 0)


def _remove(name: str, dir_fd: int, root_fd: int, waiting: list[str], depth: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    if depth > _MAX_DEPTH:
        waiting.append(trash_name())
        os.rename(name, waiting[-1], src_dir_fd=dir_fd, dst_dir_fd=root_fd)
        return
    fd = open_directory(name, dir_fd)
    try:
        for entry in os.listdir(fd):
            _remove(entry, fd, root_fd, waiting, depth + 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def size(fd: int) -> int:
    """Return the bytes of all files below a directory, 256 levels down, a file with several names once."""
    return _size(fd, set(), 0)


def _size(fd: int, seen: set[tuple[int, int]], depth: int) -> int:
    if depth > _MAX_DEPTH:
        return 0
    total = 0
    for name in os.listdir(fd):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                below = open_directory(name, fd)
                try:
                    total += _size(below, seen, depth + 1)
                finally:
                    os.close(below)
            elif (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
        except FileNotFoundError:
            continue  # a container is at work here
    return total


def _copy_directory(
    source_fd: int, target_fd: int, root_fd: int, path: str, linked: dict[tuple[int, int], str], depth: int
) -> None:
    """``path`` is where ``target_fd`` is below ``root_fd``; ``linked`` knows the copies of files with several names."""
    if depth > _MAX_DEPTH:
        raise OSError(errno.ELOOP, f"directories nested deeper than {_MAX_DEPTH}", path)
    for name in os.listdir(source_fd):
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        inode = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target_fd)
            below, target = open_directory(name, source_fd), open_directory(name, target_fd)
            try:
                _copy_directory(below, target, root_fd, f"{path}{name}/", linked, depth + 1)
            finally:
                os.close(below)
                os.close(target)
        elif inode in linked:
            os.link(linked[inode], name, src_dir_fd=root_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        else:
            _copy_file(source_fd, target_fd, name, status)
            if status.st_nlink > 1:
                linked[inode] = f"{path}{name}"
    copy_attributes(source_fd, target_fd)


def _copy_file(source_fd: int, target_fd: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_fd)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=target_fd)
            try:
                _copy_content(source, target)
                copy_attributes(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)  # after chown, which drops the setuid bits
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)


def _copy_content(source: int, target: int) -> None:
    try:
        while os.copy_file_range(source, target, _CHUNK):
            pass
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        while os.sendfile(target, source, None, _CHUNK):  # goes on at both files' offsets
            pass
