"""Directory trees by descriptor: look up, remove, measure. Nothing here follows a link out of the tree it was given."""

import errno
import fcntl
import os
import stat
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from boxship.linux import fs

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_ROOT = fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_MAGICLINKS
_DEEP = 64  # levels kept open at once: a hostile tree is deeper than there are descriptors

_RETRIES = 100
_PATH_MAX = 4096

# linux/fs.h, 64-bit
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_PROTECTING = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL


def open_root(path: str) -> int:
    """Open a directory of ours by its path, of which the last component is no link. Raises OSError."""
    return os.open(path, DIRECTORY)


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close ``fd`` at the end of the ``with``."""
    try:
        yield fd
    finally:
        os.close(fd)


def open_directory(root_fd: int, path: str) -> int:
    """Open a directory of the tree as a process with that root would: links are followed inside the tree.

    Raises OSError: ENOENT, ENOTDIR, ELOOP.
    """
    return fs.openat2(root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_IN_ROOT)


def open_file(root_fd: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Open a regular file of the tree, links followed inside the tree. Raises OSError; EINVAL if it is something else.

    A FIFO or device of the tree is never opened, only looked at.
    """
    with opened(fs.openat2(root_fd, path, os.O_PATH, resolve=_IN_ROOT)) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.open(f"/proc/self/fd/{handle}", flags | os.O_CLOEXEC)


def open_regular(parent_fd: int, name: str) -> int:
    """Open the regular file ``name`` of ``parent_fd`` for reading. Raises OSError; FileNotFoundError if it is none.

    It is looked at before it is opened, since whoever owns the directory may have put a device or FIFO in its place.
    """
    with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)


def remove(parent_fd: int, name: str) -> None:
    """Remove the file or tree ``name`` in ``parent_fd``; one that is not there is no error.

    Copes with any depth, with immutable files and with names that appear meanwhile. Raises OSError (EBUSY: something is
    mounted in it; it then removed what it could).
    """
    try:
        _unlink(parent_fd, name)
    except IsADirectoryError:
        _remove_directory(parent_fd, name)


def mounted(parent_fd: int, name: str) -> str | None:
    """Return what at ``name`` in ``parent_fd`` or below it is a mount point ("" for itself), None when nothing is.

    The kernel refuses to remove mount points of the caller's own mount namespace only (EBUSY). In the tree of another
    namespace, a container's, removing one takes the mount away without a word.
    """
    home = _mount_of(parent_fd)
    with opened(_open_here(parent_fd, name)) as handle:
        if _mount_of(handle) != home:
            return ""
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            return None
        for path, directory_fd, _ in walk(handle, strict=False):
            with (
                suppress(FileNotFoundError),
                opened(_open_here(directory_fd, path.rpartition("/")[2])) as below,
            ):
                if _mount_of(below) != home:
                    return path
    return None


def _open_here(directory_fd: int, name: str) -> int:
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)


def _mount_of(fd: int) -> int:
    """Return the identity of the mount that the open file lies in; see proc(5), fdinfo."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"mnt_id:"))


def clear(directory_fd: int) -> None:
    """Remove all that is in the directory."""
    for name in names(directory_fd):
        remove(directory_fd, name)


def names(directory_fd: int) -> list[str]:
    """Return what is in the directory, sorted."""
    # Btrfs shows what there was when the directory was opened, until it is read from its start again (Linux 6.5).
    os.lseek(directory_fd, 0, os.SEEK_SET)
    with os.scandir(directory_fd) as entries:
        return sorted(entry.name for entry in entries)


def usage(directory_fd: int) -> int:
    """Return the bytes of all files below the directory, a file with several names counted once, as ``docker ps -s``.

    Files that vanish meanwhile or lie deeper than PATH_MAX do not count.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    for _, _, status in walk(directory_fd, strict=False):
        key = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(status.st_mode) and (status.st_nlink == 1 or key not in seen):
            seen.add(key)
            total += status.st_size
    return total


def walk(
    directory_fd: int, *, strict: bool = True, leave: Callable[[int], bool] | None = None
) -> Iterator[tuple[str, int, os.stat_result]]:
    """Yield ``(path, parent_fd, status)`` of all below the directory, sorted by name, a directory before its content.

    ``path`` is relative to the start; its last component lies in ``parent_fd``, valid until the next one is asked for.
    What vanishes meanwhile is left out, as is the content of directories for which ``leave(fd)`` is true. Raises OSError:
    ENAMETOOLONG below paths longer than PATH_MAX (left out without
    ``strict``), ESTALE when a directory is moved away during the walk (it ends there without ``strict``).
    """
    levels = [_Level(os.open(".", DIRECTORY, dir_fd=directory_fd), "")]
    try:
        while levels:
            level = levels[-1]
            if not level.pending:
                try:
                    _ascend(levels)
                except OSError as exc:
                    if strict or exc.errno != errno.ESTALE:
                        raise
                    return
                continue
            name = level.pending.pop()
            try:
                status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = f"{level.path}{name}"
            yield path, level.fd, status
            if stat.S_ISDIR(status.st_mode):
                if len(path) > _PATH_MAX:
                    if not strict:
                        continue
                    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
                try:
                    fd = os.open(name, DIRECTORY, dir_fd=level.fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if leave is not None and leave(fd):
                    os.close(fd)
                    continue
                levels.append(_Level(fd, f"{path}/"))
                if len(levels) > _DEEP:
                    levels[-_DEEP].release()
    finally:
        for level in levels:
            level.release()


class _Level:
    """An open directory on the way down and what of it is still to be visited."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.pending = names(fd)[::-1]
        self._identity = os.fstat(fd).st_ino

    def release(self) -> None:
        """Close the descriptor, to save it until the walk is back here."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reopen(self, child_fd: int) -> None:
        """Open the directory again as the parent of one of its own."""
        self.fd = os.open("..", DIRECTORY, dir_fd=child_fd)
        if os.fstat(self.fd).st_ino != self._identity:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), self.path)


def _ascend(levels: list[_Level]) -> None:
    done = levels.pop()
    try:
        if levels and levels[-1].fd < 0:
            levels[-1].reopen(done.fd)
    finally:
        done.release()


def get_xattr(parent_fd: int, name: str, attribute: str) -> bytes | None:
    """Return an extended attribute of ``name`` in ``parent_fd``, not following a link; None if it has none."""
    try:
        return os.getxattr(_handle(parent_fd, name), attribute, follow_symlinks=False)
    except OSError as exc:
        if exc.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def xattrs(parent_fd: int, name: str) -> dict[str, bytes]:
    """Return all extended attributes of ``name`` in ``parent_fd``, not following a link."""
    handle = _handle(parent_fd, name)
    try:
        found = sorted(os.listxattr(handle, follow_symlinks=False))
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return {}
        raise
    return {attribute: os.getxattr(handle, attribute, follow_symlinks=False) for attribute in found}


def set_xattr(parent_fd: int, name: str, attribute: str, value: bytes) -> None:
    """Set an extended attribute of ``name`` in ``parent_fd``, not following a link. Raises OSError."""
    os.setxattr(_handle(parent_fd, name), attribute, value, follow_symlinks=False)


def chmod(parent_fd: int, name: str, mode: int) -> None:
    """Set the mode of ``name`` in ``parent_fd``, which may be a device or FIFO (those are not opened) but no link."""
    with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)) as handle:
        if stat.S_ISLNK(os.fstat(handle).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        os.chmod(f"/proc/self/fd/{handle}", mode)


def _handle(parent_fd: int, name: str) -> str:
    """Name a file by descriptor for calls that only know paths: the kernel takes the directory, not its path."""
    return f"/proc/self/fd/{parent_fd}/{name}"


def _remove_directory(parent_fd: int, name: str) -> None:
    """Remove a tree without recursion; what lies deeper than ``_DEEP`` is first moved up to the top of the tree."""
    top_fd = _open_to_empty(parent_fd, name)
    path = [(top_fd, name, names(top_fd))]  # each an open directory, its name in the one before, what it still holds
    moved = 0
    tries = _RETRIES
    try:
        while path:
            directory_fd, own_name, pending = path[-1]
            if pending:
                entry = pending.pop()
                try:
                    _unlink(directory_fd, entry)
                except IsADirectoryError:
                    if len(path) < _DEEP:
                        child_fd = _open_to_empty(directory_fd, entry)
                        path.append((child_fd, entry, names(child_fd)))
                    else:
                        moved += 1
                        lifted = f".boxship-lifted-{moved}"
                        os.rename(entry, lifted, src_dir_fd=directory_fd, dst_dir_fd=top_fd)
                        path[0][2].append(lifted)
                continue
            try:
                os.rmdir(own_name, dir_fd=path[-2][0] if len(path) > 1 else parent_fd)
            except FileNotFoundError:
                pass
            except OSError as exc:
                if exc.errno != errno.ENOTEMPTY or tries == 0:
                    raise
                tries -= 1  # somebody added a name meanwhile
                pending.extend(names(directory_fd))
                continue
            os.close(path.pop()[0])
    finally:
        for directory_fd, _, _ in path:
            os.close(directory_fd)


def _unlink(parent_fd: int, name: str) -> None:
    """Unlink a file, immutable or not. Raises IsADirectoryError."""
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        pass
    except PermissionError:
        _unprotect(parent_fd)
        with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)) as handle:
            mode = os.fstat(handle).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                with opened(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)) as fd:
                    _unprotect(fd)
        os.unlink(name, dir_fd=parent_fd)


def _open_to_empty(parent_fd: int, name: str) -> int:
    """Open a directory whose content is to go, and let go of what protects it."""
    fd = os.open(name, DIRECTORY, dir_fd=parent_fd)
    _unprotect(fd)
    return fd


def _unprotect(fd: int) -> None:
    """Take away the immutable and append-only flags, where the filesystem has such."""
    flags = array("i", [0])
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
        if flags[0] & _PROTECTING:
            flags[0] &= ~_PROTECTING
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, flags)
    except OSError as exc:
        if exc.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
            raise
