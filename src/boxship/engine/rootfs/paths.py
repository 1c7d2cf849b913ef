"""Paths that a client names inside a container, and what is there; in Docker's terms, by descriptor only.

A path is taken as absolute. Its last component is not followed when it is a link, unless ``/`` or ``/.`` stands behind it;
``/.`` further says "the content" to whoever copies. Everything else is the kernel's walk inside the container's root.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import NamedTuple

from boxship.linux import fs

_IN_ROOT = fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_MAGICLINKS
_LINKS = 40  # as the kernel's own limit

_NOT_UTF8 = re.compile("[\ud800-\udfff]")

_MQUEUE_MAGIC = 0x19800202  # linux/magic.h
_KERNEL = frozenset(
    (
        fs.PROC_SUPER_MAGIC,
        fs.SYSFS_MAGIC,
        fs.DEVPTS_SUPER_MAGIC,
        fs.CGROUP_SUPER_MAGIC,
        fs.CGROUP2_SUPER_MAGIC,
        _MQUEUE_MAGIC,
    )
)

# Go's os.FileMode, which the API shows.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class Found(NamedTuple):
    """What is at a path: its status, the last name of the path, and where a link leads."""

    name: str
    status: os.stat_result
    link_target: str


def absolute(path: str) -> str:
    """Return the path absolute and clean, with the ``/`` or ``/.`` at its end that says how it is meant."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path == "." or path.endswith("/."):
        return f"{clean.rstrip('/')}/."
    if path.endswith("/") and clean != "/":
        return f"{clean}/"
    return clean


def last_name(path: str) -> str:
    """Return the last name of an absolute path: ``.`` of ``/a/.``, ``a`` of ``/a/``, ``/`` of the root."""
    return posixpath.basename(path.rstrip("/")) or "/"


def shown(path: str) -> str:
    """Return a path as JSON can hold it: each byte that is no UTF-8 (``os.fsdecode``) becomes U+FFFD, as in Docker."""
    return _NOT_UTF8.sub("\N{REPLACEMENT CHARACTER}", path)


def go_mode(mode: int) -> int:
    """Return ``st_mode`` as Go's FileMode."""
    found = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    for bit, go_bit in _GO_BITS.items():
        found |= go_bit if mode & bit else 0
    return found


def open_entry(root_fd: int, path: str) -> int:
    """Return a handle (O_PATH) of what is at the absolute ``path``, a link itself if it is one. Raises OSError."""
    return fs.openat2(root_fd, path.lstrip("/") or ".", os.O_PATH | os.O_NOFOLLOW, resolve=_IN_ROOT)


def open_target(root_fd: int, path: str) -> int:
    """Return a handle of what is at the absolute ``path``, links followed inside the root. Raises OSError."""
    return fs.openat2(root_fd, path.lstrip("/") or ".", os.O_PATH, resolve=_IN_ROOT)


def describe(root_fd: int, path: str) -> Found:
    """Look at the absolute ``path``. Raises OSError."""
    handle = open_entry(root_fd, path)
    try:
        status = os.fstat(handle)
        if is_kernels(handle):
            raise FileNotFoundError(path)
    finally:
        os.close(handle)
    target = resolve(root_fd, path) if stat.S_ISLNK(status.st_mode) else ""
    return Found(last_name(path), status, target)


def is_kernels(fd: int) -> bool:
    """Return whether the file is the kernel's own (procfs, sysfs, cgroups ...), which is nobody's content to copy."""
    return fs.fstatfs_type(fd) in _KERNEL


def place_of(root_fd: int, fd: int) -> str:
    """Return where ``fd`` lies below ``root_fd``, as an absolute path in that root without links."""
    root, path = (os.readlink(f"/proc/self/fd/{number}") for number in (root_fd, fd))
    return "/" + path.removeprefix(root).lstrip("/")


def resolve(root_fd: int, path: str, *, links: int = _LINKS) -> str:
    """Return the absolute ``path`` without links; what does not exist is kept as it is named. Raises OSError."""
    try:
        handle = open_target(root_fd, path)
    except FileNotFoundError:
        return _resolve_missing(root_fd, path.rstrip("/"), links)
    try:
        return place_of(root_fd, handle)
    finally:
        os.close(handle)


def _resolve_missing(root_fd: int, path: str, links: int) -> str:
    parent, name = posixpath.split(path)
    directory = resolve(root_fd, parent, links=links)
    there = posixpath.join(directory, name)
    try:
        handle = open_entry(root_fd, there)
    except (FileNotFoundError, NotADirectoryError):
        return there
    try:
        target = os.readlink("", dir_fd=handle)
    except OSError:
        return there  # it appeared meanwhile
    finally:
        os.close(handle)
    if not links:
        return there
    return resolve(root_fd, posixpath.normpath(posixpath.join(directory, target)), links=links - 1)
