"""Copy a file tree by descriptor, with everything a layer can hold."""

import errno
import fcntl
import os
import stat

from boxship.linux import fs
from boxship.snapshots import tree

_FICLONE = 0x40049409  # linux/fs.h
_PIECE = 64 * 1024 * 1024
_BELOW = fs.RESOLVE_BENEATH | fs.RESOLVE_NO_SYMLINKS


def copy_tree(source_fd: int, target_fd: int) -> None:
    """Copy all below the directory into the empty directory; hard links, holes, times, attributes are kept.

    Files share their blocks with the original where the filesystem can. Raises OSError.
    """
    first_names: dict[tuple[int, int], str] = {}
    directories: list[tuple[str, os.stat_result]] = []
    open_path, open_fd = "", os.open(".", tree.DIRECTORY, dir_fd=target_fd)
    try:
        for path, parent_fd, status in tree.walk(source_fd):
            directory, _, name = path.rpartition("/")
            if directory != open_path:
                os.close(open_fd)
                open_fd = -1
                open_fd, open_path = _open(target_fd, directory), directory
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=open_fd)
                directories.append((path, status))
            elif (first := first_names.get((status.st_dev, status.st_ino))) is not None:
                above, _, first_name = first.rpartition("/")
                with tree.opened(_open(target_fd, above)) as above_fd:
                    os.link(first_name, name, src_dir_fd=above_fd, dst_dir_fd=open_fd, follow_symlinks=False)
                continue
            else:
                if status.st_nlink > 1:
                    first_names[status.st_dev, status.st_ino] = path
                _copy_file(parent_fd, open_fd, name, status)
            _copy_attributes(parent_fd, open_fd, name, status)
        for path, status in reversed(directories):
            directory, _, name = path.rpartition("/")
            with tree.opened(_open(target_fd, directory)) as fd:
                os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)
    finally:
        if open_fd >= 0:
            os.close(open_fd)


def _open(root_fd: int, path: str) -> int:
    return fs.openat2(root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BELOW)


def _copy_file(source_fd: int, target_fd: int, name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    elif not stat.S_ISREG(status.st_mode):
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target_fd)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            tree.opened(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)) as source,
            tree.opened(os.open(name, flags, 0o600, dir_fd=target_fd)) as target,
        ):
            _copy_content(source, target, status.st_size)


def _copy_content(source: int, target: int, size: int) -> None:
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV):
            raise
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = min(os.lseek(source, position, os.SEEK_HOLE), size)
        while position < end:
            copied = os.copy_file_range(source, target, min(end - position, _PIECE), position, position)
            if not copied:
                return
            position += copied


def _copy_attributes(source_fd: int, target_fd: int, name: str, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        tree.chmod(target_fd, name, stat.S_IMODE(status.st_mode))
    for attribute, value in tree.xattrs(source_fd, name).items():
        try:
            tree.set_xattr(target_fd, name, attribute, value)
        except OSError as exc:
            if exc.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)
