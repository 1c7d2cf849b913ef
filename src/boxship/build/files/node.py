"""What one file of a tree is, and what every tree can do."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

from boxship.snapshots import tar_reader
from boxship.snapshots.tar_reader import Entry

LINKS = 255  # symbolic links on one way, as the kernel's ELOOP


class Kind(StrEnum):
    """The types of files."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    CHARACTER = "character"
    BLOCK = "block"
    FIFO = "fifo"


TAR_TYPES = {
    Kind.FILE: tar_reader.REGULAR,
    Kind.DIRECTORY: tar_reader.DIRECTORY,
    Kind.SYMLINK: tar_reader.SYMLINK,
    Kind.CHARACTER: tar_reader.CHARACTER,
    Kind.BLOCK: tar_reader.BLOCK_DEVICE,
    Kind.FIFO: tar_reader.FIFO,
}
KINDS = {type: kind for kind, type in TAR_TYPES.items()}


class Node:
    """One file. ``place`` and ``digest`` are the tree's own; two names of one file share ``identity``."""

    __slots__ = (
        "children",
        "digest",
        "gid",
        "identity",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "place",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, kind: Kind, mode: int) -> None:
        self.kind = kind
        self.mode = mode  # permission bits with setuid, setgid, sticky
        self.uid = 0
        self.gid = 0
        self.size = 0  # bytes
        self.mtime_ns = 0
        self.link = ""  # of a symbolic link
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.identity = 0  # 0: has one name only
        self.place = 0  # where the tree finds the content
        self.digest = b""  # SHA-256 of the content, if the tree knows it already
        self.children: dict[str, Node] | None = None  # of a directory of an archive

    def entry(self, path: str) -> Entry:
        """Return the header of an archive for it."""
        entry = Entry(f"{path}/" if self.kind is Kind.DIRECTORY else path, TAR_TYPES[self.kind], self.mode)
        entry.uid, entry.gid, entry.mtime_ns = self.uid, self.gid, self.mtime_ns
        entry.linkname, entry.major, entry.minor = self.link, self.major, self.minor
        entry.xattrs = self.xattrs
        if self.kind is Kind.FILE:
            entry.size = self.size
        return entry


class Tree(Protocol):
    """Files that can be looked up and read. All of it blocks. Raises OSError where the kernel would."""

    def resolve(self, path: str) -> str:
        """Return where ``path`` leads when all links are followed inside the tree. Raises OSError (ENOENT, ELOOP ...)."""

    def node(self, path: str) -> Node:
        """Return the file at a path, whose last component is not followed. Raises OSError."""

    def names(self, path: str) -> list[str]:
        """Return what is in a directory (links on the way are not followed), sorted. Raises OSError."""

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield all below the directory, with paths relative to it, sorted, directories before their content."""

    def data(self, path: str, node: Node) -> Iterator[bytes]:
        """Yield the content of a regular file: ``node.size`` bytes."""

    def digest(self, path: str, node: Node) -> bytes:
        """Return the SHA-256 of a regular file's content."""


def follow(tree: Tree, path: str) -> str:
    """Resolve ``path`` with nothing but ``tree.node``; see ``Tree.resolve``. ``..`` does not leave the tree."""
    pending = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join([*done, part])
        node = tree.node(here)
        if node.kind is Kind.SYMLINK:
            links += 1
            if links > LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if node.link.startswith("/"):
                done = []
            pending.extend(node.link.split("/")[::-1])
            continue
        if node.kind is not Kind.DIRECTORY and any(rest not in ("", ".") for rest in pending):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        done.append(part)
    return "/".join(done)


def clean(path: str) -> str:
    """Return a path in its plain form: relative to the root, without ``.`` and ``..``, by text alone."""
    return posixpath.normpath(f"/{path}").lstrip("/")


def missing(path: str) -> FileNotFoundError:
    """Return the error for what is not there."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
