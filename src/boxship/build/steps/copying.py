"""COPY and ADD: which files of a tree go where, as the tar of a new layer.

Nothing here touches a file of the result: the layer is written as an archive, which the snapshotter unpacks. Paths of the
source are looked up in its tree, paths of the target in the root filesystem below, both without ever leaving them.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.build.files import Kind, Node, Tree
from boxship.build.files.node import clean
from boxship.build.files.patterns import expand, has_wildcards
from boxship.build.graph import Copy
from boxship.build.steps import modes
from boxship.build.steps.target import Target
from boxship.images.streams import Pieces
from boxship.snapshots import tar_reader
from boxship.snapshots.apply import clean as clean_entry
from boxship.snapshots.compression import Decompressed, InvalidCompression, detect
from boxship.snapshots.tar_reader import BLOCK, Entry, InvalidTar, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable
from boxship.spec.docker.ignorefile import Patterns

_DETAILS = 2000  # files that a cache record tells one by one


class CopyFailed(InvalidInput):
    """The files cannot be copied; the text is Docker's."""


class Selected(NamedTuple):
    """One source: a file, or a directory whose content is copied."""

    path: str  # resolved, in the tree
    shown: str  # as the instruction named it
    node: Node


class Item(NamedTuple):
    """One file of the copy."""

    path: str  # relative to the source's directory; "" for a file that is a source itself
    source: str  # in the tree
    node: Node


class Selection:
    """What a copy takes from a tree. Building one blocks. Raises CopyFailed."""

    def __init__(self, tree: Tree, copy: Copy, *, verb: str, local: bool) -> None:
        self.tree = tree
        self.copy = copy
        self.local = local  # of a build context, not of another stage
        self._excluded = Patterns.parse("\n".join(copy.exclude).encode()) if copy.exclude else None
        self.sources = self._select(verb)
        if len(self.sources) > 1 and not copy.target.endswith("/"):
            raise CopyFailed(
                f"When using {verb} with more than one source file, the destination must be a directory and end with a /"
            )

    def _select(self, verb: str) -> list[Selected]:
        found: list[Selected] = []
        for source in self.copy.sources:
            paths = [clean(source)]
            if has_wildcards(source):
                paths = expand(self.tree, clean(source))
            for path in paths:
                try:
                    resolved = self.tree.resolve(path)
                    found.append(
                        Selected(
                            resolved, _pivoted(source) if not has_wildcards(source) else path, self.tree.node(resolved)
                        )
                    )
                except OSError as exc:
                    where = "file not found in build context or excluded by .dockerignore: " if self.local else ""
                    raise CopyFailed(f"{verb} failed: {where}stat {path}: file does not exist") from exc
        if not found and not self.copy.may_be_empty:
            raise CopyFailed(f"{verb} failed: no source files were specified")
        return found

    @property
    def kind(self) -> str:
        """What the classic builder calls it in an image's history."""
        if len(self.sources) != 1:
            return "multi"
        return "dir" if self.sources[0].node.kind is Kind.DIRECTORY else "file"

    def items(self, source: Selected) -> Iterator[Item]:
        """Yield what is copied for one source, directories before their content."""
        if source.node.kind is not Kind.DIRECTORY:
            if self._excluded is None or not self._excluded.matches(posixpath.basename(source.path)):
                yield Item("", source.path, source.node)
            return
        below = f"{source.path}/" if source.path else ""
        for path, node in self.tree.walk(source.path):
            if self._excluded is None or not self._excluded.matches(path):
                yield Item(path, below + path, node)

    def digest(self) -> tuple[str, dict[str, str]]:
        """Return a digest of all that counts (names, types, modes, owners, attributes, contents), and of each file.

        Times do not count. The second is empty for more than 2,000 files. Reads what the tree has not hashed yet.
        """
        total, each = hashlib.sha256(), {}
        links: dict[int, str] = {}
        count = 0
        for number, source in enumerate(self.sources):
            named = source.shown if self.copy.parents else posixpath.basename(source.shown)
            total.update(b"%d\0%s\0" % (number, named.encode("utf-8", "surrogateescape")))
            for item in self.items(source):
                hash = self._digest_of(item, links)
                name = (item.source or ".").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                total.update(item.path.encode("utf-8", "surrogateescape") + b"\0" + hash)
                count += 1
                if count <= _DETAILS:
                    each[name] = hash[:8].hex()
        return total.hexdigest(), each if count <= _DETAILS else {}

    def _digest_of(self, item: Item, links: dict[int, str]) -> bytes:
        node = item.node
        owner = (0, 0) if self.local else (node.uid, node.gid)
        parts = [node.kind, oct(node.mode), *map(str, owner), node.link, str(node.major), str(node.minor)]
        hash = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape"))
        for key in sorted(node.xattrs):
            hash.update(b"%s\0%d\0" % (os.fsencode(key), len(node.xattrs[key])) + node.xattrs[key])
        if node.identity:
            hash.update(b"\0link " + os.fsencode(links.setdefault(node.identity, item.path)) + b"\0")
        if node.kind is Kind.FILE:
            hash.update(self.tree.digest(item.source, node))
        return hash.digest()


class Owner(NamedTuple):
    """Who the copied files belong to."""

    uid: int
    gid: int


class LayerWriter:
    """Writes the layer of one copy, or of one file or directory that is made, as a tar."""

    def __init__(
        self,
        out: Writable,
        target: Target,
        *,
        owner: Owner | None = None,
        chmod: str = "",
        latest_ns: int | None = None,
    ) -> None:
        self._writer = TarWriter(out)
        self._target = target
        self._owner = owner
        self._chmod = modes.parse(chmod) if chmod else None
        self._latest_ns = latest_ns
        self._made: set[str] = set()
        self._out = out

    def copy(self, selection: Selection, now_ns: int) -> None:
        """Write all that the selection holds. Raises CopyFailed, InvalidTar (an archive to unpack is damaged), OSError."""
        copy = selection.copy
        default = self._owner or (Owner(0, 0) if selection.local else None)
        place = self._target.locate(copy.target)
        into = copy.target.endswith("/") or copy.parents or place.is_directory
        for source in selection.sources:
            if source.node.kind is Kind.DIRECTORY:
                if place.exists and not place.is_directory:
                    raise CopyFailed(f"cannot copy to non-directory: {copy.target}")
                base = self._joined(place.path, source.shown) if copy.parents else place.path
                self.directory(base, now_ns, chmod=True)
                self._items(selection, source, base, default)
                continue
            unpacked = copy.unpack and selection.local and self._unpack(selection, source, place.path, now_ns)
            if unpacked:
                continue
            name = source.shown if copy.parents else posixpath.basename(source.shown)
            path = self._joined(place.path, name) if into else place.path
            self.directory(posixpath.dirname(path), now_ns)
            for item in selection.items(source):
                self._item(selection.tree, item, path, default, {})

    def file(self, path: str, data: bytes, now_ns: int) -> None:
        """Write one file."""
        place = self._target.locate(path)
        self.directory(posixpath.dirname(place.path), now_ns)
        node = Node(Kind.FILE, 0o644)
        node.mtime_ns, node.size = now_ns, len(data)
        self._add(node, place.path, self._owner or Owner(0, 0))
        self._out.write(data + bytes(-len(data) % BLOCK))

    def directory(self, path: str, now_ns: int, *, chmod: bool = False) -> None:
        """Write the directories of a resolved path that are missing, 0755 and the owner's; ``chmod`` holds for the last."""
        for missing in self._target.missing(path):
            if missing not in self._made:
                self._made.add(missing)
                node = Node(Kind.DIRECTORY, 0o755)
                node.mtime_ns = now_ns
                self._add(node, missing, self._owner or Owner(0, 0), chmod=chmod and missing == path)

    def finish(self) -> None:
        """End the archive."""
        self._writer.finish()

    def _items(self, selection: Selection, source: Selected, base: str, owner: Owner | None) -> None:
        links: dict[int, str] = {}
        for item in selection.items(source):
            self._item(selection.tree, item, self._joined(base, item.path), owner, links)

    def _item(self, tree: Tree, item: Item, path: str, owner: Owner | None, links: dict[int, str]) -> None:
        node = item.node
        if node.identity:
            first = links.setdefault(node.identity, path)
            if first != path:
                entry = Entry(path, tar_reader.LINK, node.mode)
                entry.linkname = first
                self._writer.add(entry)
                return
        if node.kind is Kind.DIRECTORY:
            self._made.add(path)
        self._add(node, path, owner)
        if node.kind is Kind.FILE:
            for piece in tree.data(item.source, node):
                self._out.write(piece)
            self._out.write(bytes(-node.size % BLOCK))

    def _add(self, node: Node, path: str, owner: Owner | None, *, chmod: bool = True) -> None:
        entry = node.entry(path)
        if owner is not None:
            entry.uid, entry.gid = owner
        if self._chmod is not None and chmod and node.kind is not Kind.SYMLINK:
            entry.mode = self._chmod(entry.mode, node.kind is Kind.DIRECTORY)
        self._clamp(entry)
        self._writer.add(entry)

    def _clamp(self, entry: Entry) -> None:
        if self._latest_ns is not None and entry.mtime_ns > self._latest_ns:
            entry.mtime_ns = self._latest_ns

    @staticmethod
    def _joined(base: str, path: str) -> str:
        return posixpath.join(base, path.strip("/")) if path.strip("/") else base

    # archives (ADD)

    def _unpack(self, selection: Selection, source: Selected, base: str, now_ns: int) -> bool:
        """Write what a local archive holds; return False when the file is none."""
        if source.node.kind is not Kind.FILE:
            return False
        try:
            reader = TarReader(Decompressed(Pieces(selection.tree.data(source.path, source.node))))
            first = next(iter(reader), None)
        except (InvalidTar, InvalidCompression):
            return False
        if first is None and not detect(next(selection.tree.data(source.path, source.node), b"")):
            return False
        self.directory(base, now_ns)
        entries = iter(reader)
        while first is not None:
            self._archived(reader, first, base)
            first = next(entries, None)
        reader.finish()
        return True

    def _archived(self, reader: TarReader, entry: Entry, base: str) -> None:
        name = clean_entry(entry.name)
        if not name:
            return
        path = self._joined(base, name)
        directory, slash, last = path.rpartition("/")
        path = f"{self._target.locate(f'/{directory}').path}{slash}{last}".lstrip("/")
        entry.name = f"{path}/" if entry.type == tar_reader.DIRECTORY else path
        if entry.type == tar_reader.LINK:
            entry.linkname = self._joined(base, clean_entry(entry.linkname))
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if entry.sparse is not None:
            raise CopyFailed(f"{name}: sparse files in archives are not supported")
        self._clamp(entry)
        self._writer.add(entry)
        if entry.type == tar_reader.REGULAR:
            for piece in reader.data():
                self._out.write(bytes(piece))
            self._out.write(bytes(-entry.size % BLOCK))


def _pivoted(source: str) -> str:
    """Return what of a source ``--parents`` keeps: all behind the last ``/./``."""
    return clean(source.rpartition("/./")[2] if "/./" in source else source)
