"""A directory of ours as a tree: the root filesystem of a stage, read by descriptor.

Its files were made by programs of the build and are hostile; they do not change meanwhile, being a committed snapshot.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from boxship.base.identity import IdentityMapping
from boxship.build.files.node import KINDS, Kind, Node, follow
from boxship.linux import fs
from boxship.snapshots import owners, tree
from boxship.snapshots.tar_writer import describe

_INSIDE = fs.RESOLVE_IN_ROOT | fs.RESOLVE_NO_MAGICLINKS | fs.RESOLVE_NO_SYMLINKS
_PIECE = 1024 * 1024


class Directory:
    """The files below ``root_fd``, which stays the caller's; see ``node.Tree``. ``identity``: see ``snapshots.owners``."""

    def __init__(self, root_fd: int, identity: IdentityMapping | None = None) -> None:
        self._root_fd = root_fd
        self._identity = identity

    def resolve(self, path: str) -> str:
        """Return where ``path`` leads inside."""
        return follow(self, path)

    def node(self, path: str) -> Node:
        """Return the file at a path."""
        parent, _, name = path.rpartition("/")
        with tree.opened(self._open(parent)) as parent_fd:
            name = name or "."
            return self._node(parent_fd, name, os.stat(name, dir_fd=parent_fd, follow_symlinks=False))

    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted."""
        with tree.opened(self._open(path)) as fd:
            return tree.names(fd)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield all below the directory; sockets are left out, as no archive can hold them."""
        with tree.opened(self._open(path)) as fd:
            for below, parent_fd, status in tree.walk(fd):
                if not stat.S_ISSOCK(status.st_mode):
                    yield below, self._node(parent_fd, below.rpartition("/")[2], status)

    def data(self, path: str, node: Node) -> Iterator[bytes]:
        """Yield the content of a regular file."""
        left = node.size
        parent, _, name = path.rpartition("/")
        with tree.opened(self._open(parent)) as parent_fd, tree.opened(tree.open_regular(parent_fd, name)) as fd:
            while left:
                piece = os.read(fd, min(left, _PIECE))
                if not piece:
                    raise OSError(errno.EIO, "the file ends early", path)
                left -= len(piece)
                yield piece

    def digest(self, path: str, node: Node) -> bytes:
        """Return the SHA-256 of a regular file's content."""
        hash = hashlib.sha256()
        for piece in self.data(path, node):
            hash.update(piece)
        return hash.digest()

    def _open(self, path: str) -> int:
        return fs.openat2(self._root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_INSIDE)

    def _node(self, parent_fd: int, name: str, status: os.stat_result) -> Node:
        entry = describe(parent_fd, name, name, status)
        if entry is None:
            raise OSError(errno.EINVAL, "sockets cannot be copied", name)
        if self._identity is not None:
            owners.to_container(entry, self._identity)
        node = Node(KINDS[entry.type], entry.mode)
        node.uid, node.gid, node.mtime_ns = entry.uid, entry.gid, entry.mtime_ns
        node.link, node.major, node.minor, node.xattrs = entry.linkname, entry.major, entry.minor, entry.xattrs
        node.size = entry.size
        if node.kind is not Kind.DIRECTORY and status.st_nlink > 1:
            node.identity = status.st_ino
        return node
