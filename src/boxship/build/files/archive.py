"""A tree that arrives as a tar archive and stays one: nothing of it is ever created under a name.

The content of files goes to one unnamed file, which is gone with the process; names, links and attributes stay in memory.
So an archive can neither leave its tree nor reach any file of this host, and a context of many files costs no inodes.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator

from boxship.build.files.node import KINDS, Kind, Node, clean, follow, missing
from boxship.snapshots import tar_reader
from boxship.snapshots.compression import Decompressed
from boxship.snapshots.tar_reader import Entry, InvalidTar, Limits, Readable, TarReader
from boxship.snapshots.tar_writer import is_portable

ENTRIES = 2_000_000  # about half a gigabyte of memory
_LIMITS = Limits(entries=ENTRIES)
_PIECE = 1024 * 1024


class Archive:
    """The files of an archive; see ``node.Tree``. ``directory`` is where the unnamed file takes its space."""

    def __init__(self, directory: str) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=_PIECE)
        self._root = _directory()
        self._size = 0
        self._links = 0

    def close(self) -> None:
        """Let go of the content."""
        self._file.close()

    def fill(self, source: Readable, *, limits: Limits = _LIMITS) -> None:
        """Read the archive, compressed or not, to its end; blocks. Raises InvalidTar, InvalidCompression, OSError."""
        reader = TarReader(Decompressed(source), limits=limits)
        for entry in reader:
            self._add(reader, entry)
        reader.finish()
        self._file.flush()

    def put(self, path: str, pieces: Iterable[bytes], *, mode: int = 0o644, mtime_ns: int = 0) -> Node:
        """Add one file; blocks on ``pieces``."""
        node = Node(Kind.FILE, mode)
        node.mtime_ns = mtime_ns
        self._store(node, pieces)
        self._file.flush()
        directory, _, name = clean(path).rpartition("/")
        self._parent(directory)[name] = node
        return node

    def remove(self, path: str) -> None:
        """Forget a file, if it is there."""
        directory, _, name = path.rpartition("/")
        with contextlib.suppress(FileNotFoundError):
            children = self.node(directory).children
            if children is not None:
                children.pop(name, None)

    def detach(self, path: str) -> Archive:
        """Take a directory out and return it as a tree of its own, which lives as long as this one.

        Raises FileNotFoundError, NotADirectoryError.
        """
        node = self.node(path)
        if node.children is None:
            raise NotADirectoryError(20, "Not a directory", path)
        self.remove(path)
        part = copy.copy(self)
        part._root = node
        return part

    # node.Tree

    def resolve(self, path: str) -> str:
        """Return where ``path`` leads inside."""
        return follow(self, path)

    def node(self, path: str) -> Node:
        """Return the file at a path."""
        node = self._root
        for part in path.split("/") if path else ():
            if node.children is None or part not in node.children:
                raise missing(path)
            node = node.children[part]
        return node

    def names(self, path: str) -> list[str]:
        """Return what is in a directory, sorted."""
        children = self.node(path).children
        if children is None:
            raise NotADirectoryError(20, "Not a directory", path)
        return sorted(children)

    def walk(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield all below the directory."""
        stack = [("", self.node(path))]
        while stack:
            here, node = stack.pop()
            if here:
                yield here, node
            if node.children:
                below = f"{here}/" if here else ""
                stack.extend((below + name, node.children[name]) for name in sorted(node.children, reverse=True))

    def data(self, path: str, node: Node) -> Iterator[bytes]:
        """Yield the content of a regular file."""
        offset, left = node.place, node.size
        while left:
            piece = os.pread(self._file.fileno(), min(left, _PIECE), offset)
            if not piece:
                raise OSError(5, "the context ends early", path)
            offset += len(piece)
            left -= len(piece)
            yield piece

    def digest(self, path: str, node: Node) -> bytes:  # noqa: ARG002
        """Return the SHA-256 of a regular file's content."""
        return node.digest

    # reading

    def _add(self, reader: TarReader, entry: Entry) -> None:
        path = clean(entry.name)
        directory, _, name = path.rpartition("/")
        if entry.type == tar_reader.LINK:
            self._link(entry, directory, name)
            return
        kind = KINDS.get(entry.type)
        if kind is None:
            raise InvalidTar(f"unhandled tar header type {entry.type[0]}")
        node = Node(kind, entry.mode)
        node.uid, node.gid, node.mtime_ns = entry.uid, entry.gid, entry.mtime_ns
        node.link, node.major, node.minor = entry.linkname if kind is Kind.SYMLINK else "", entry.major, entry.minor
        if entry.xattrs:
            node.xattrs = {key: value for key, value in entry.xattrs.items() if is_portable(key)}
        if kind is Kind.FILE:
            self._take(reader, entry, node)
        if not path:
            if kind is Kind.DIRECTORY:
                node.children, self._root = self._root.children, node
            return
        siblings = self._parent(directory)
        if kind is Kind.DIRECTORY:
            before = siblings.get(name)
            node.children = before.children if before is not None and before.children is not None else {}
        siblings[name] = node

    def _take(self, reader: TarReader, entry: Entry, node: Node) -> None:
        if entry.sparse is not None:
            raise InvalidTar(f"{entry.name}: sparse files are not supported in a build context")
        self._store(node, map(bytes, reader.data()))

    def _store(self, node: Node, pieces: Iterable[bytes]) -> None:
        hash = hashlib.sha256()
        node.place = self._size
        for piece in pieces:
            hash.update(piece)
            self._file.write(piece)
            node.size += len(piece)
        self._size += node.size
        node.digest = hash.digest()

    def _link(self, entry: Entry, directory: str, name: str) -> None:
        try:
            node = self.node(clean(entry.linkname))
        except FileNotFoundError as exc:
            raise InvalidTar(f"{entry.name}: hard link to {entry.linkname}, which is not in the archive") from exc
        if node.kind is Kind.DIRECTORY or not name:
            raise InvalidTar(f"{entry.name}: hard link to a directory")
        if not node.identity:
            self._links += 1
            node.identity = self._links
        self._parent(directory)[name] = node

    def _parent(self, path: str) -> dict[str, Node]:
        """Return what is in a directory, made if the archive does not hold it; links on the way are followed inside."""
        node = self._root
        parts = path.split("/") if path else []
        for position, part in enumerate(parts):
            assert node.children is not None
            child = node.children.get(part)
            if child is not None and child.kind is Kind.SYMLINK:
                try:
                    child = self.node(follow(self, "/".join(parts[: position + 1])))
                except OSError as exc:
                    raise InvalidTar(f"{path}: {str(exc.strerror).lower()}") from exc
            if child is None:
                child = node.children[part] = _directory()
            if child.kind is not Kind.DIRECTORY:
                raise InvalidTar(f"{path}: not a directory")
            node = child
        assert node.children is not None
        return node.children


def _directory() -> Node:
    node = Node(Kind.DIRECTORY, 0o755)
    node.children = {}
    return node
