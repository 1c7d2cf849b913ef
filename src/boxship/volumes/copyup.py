"""Copy-up: an empty volume gets what the image has at its place.

Content is copied beside the volume's data, and only when it is whole moved into it, name by name and never over a name
that exists. So a copy cut off half-way is thrown away, and a move cut off half-way is finished by :func:`recover`.
"""

from __future__ import annotations

import errno
import os

from boxship.linux.fs import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from boxship.linux.rename import RENAME_NOREPLACE, renameat2
from boxship.volumes import tree
from boxship.volumes.local import bounds

DATA = "_data"
_PARTIAL = ".copy-up.partial"
_WHOLE = ".copy-up"


def copy_up(volume_fd: int, root_fd: int, path: str) -> bool:
    """Fill the volume open at ``volume_fd`` from the directory ``path`` of the image whose root is ``root_fd``.

    Symbolic links in ``path`` are followed inside the image. Returns False, with nothing done, when the volume has
    content or the image has no such directory. Raises OSError; the volume is empty still then.
    """
    data_fd = tree.open_directory(DATA, volume_fd)
    try:
        source_fd = -1 if os.listdir(data_fd) else _source(root_fd, path)
        if source_fd < 0:
            return False
        try:
            _stage(volume_fd, data_fd, source_fd)
        finally:
            os.close(source_fd)
        _move(volume_fd, data_fd)
    finally:
        os.close(data_fd)
    return True


def copy_into(data_fd: int, root_fd: int, path: str) -> bool:
    """Do the same to the root of another file system, beside which nothing can be staged: what is cut off stays half done."""
    source_fd = -1 if os.listdir(data_fd) else _source(root_fd, path)
    if source_fd < 0:
        return False
    try:
        tree.copy(source_fd, data_fd)
    finally:
        os.close(source_fd)
    return True


def has_directory(root_fd: int, path: str) -> bool:
    """Tell whether the image has a directory at ``path``; raises OSError."""
    fd = _source(root_fd, path)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def recover(volume_fd: int) -> None:
    """Finish or undo a copy-up that was cut off; raises OSError."""
    tree.remove(_PARTIAL, volume_fd)
    if _WHOLE not in os.listdir(volume_fd):
        return
    data_fd = tree.open_directory(DATA, volume_fd)
    try:
        _move(volume_fd, data_fd)
    finally:
        os.close(data_fd)


def _source(root_fd: int, path: str) -> int:
    """Open the image's directory ``path``; -1 if there is none."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    try:
        return openat2(root_fd, path.lstrip("/") or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=resolve)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return -1
        raise


def _stage(volume_fd: int, data_fd: int, source_fd: int) -> None:
    tree.remove(_PARTIAL, volume_fd)
    os.mkdir(_PARTIAL, 0o700, dir_fd=volume_fd)
    try:
        staged_fd = tree.open_directory(_PARTIAL, volume_fd)
        try:
            bounds.inherit(data_fd, staged_fd)
            tree.copy(source_fd, staged_fd)
            bounds.check_inherited(data_fd)
        finally:
            os.close(staged_fd)
    except OSError:
        tree.remove(_PARTIAL, volume_fd)
        raise
    os.rename(_PARTIAL, _WHOLE, src_dir_fd=volume_fd, dst_dir_fd=volume_fd)


def _move(volume_fd: int, data_fd: int) -> None:
    """Move what is staged into the data directory, which takes over the staged directory's attributes."""
    staged_fd = tree.open_directory(_WHOLE, volume_fd)
    try:
        status = os.fstat(staged_fd)
        tree.copy_attributes(staged_fd, data_fd)
        for name in os.listdir(staged_fd):
            try:
                renameat2(staged_fd, name, data_fd, name, RENAME_NOREPLACE)
            except FileExistsError:
                tree.remove(name, staged_fd)
        os.utime(data_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(staged_fd)
    os.rmdir(_WHOLE, dir_fd=volume_fd)
