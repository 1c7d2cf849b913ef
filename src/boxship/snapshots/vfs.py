"""Snapshots as whole copies (driver ``vfs``): works on any filesystem, costs time and space.

``<root>/dir/<id>`` is the complete tree of a snapshot. Where the filesystem shares blocks between files (Btrfs, XFS) a
copy costs little.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from boxship.base.errors import SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.snapshots import apply, detached, tree
from boxship.snapshots.copy import copy_tree
from boxship.snapshots.difference import Hashing, is_different, marker, with_parents
from boxship.snapshots.directories import DirectorySnapshotter, Record
from boxship.snapshots.snapshotter import EXTRACTION, Applied, Change, ChangeKind
from boxship.snapshots.tar_reader import Limits, Readable, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable
from boxship.store import Store


class VfsSnapshotter(DirectorySnapshotter):
    """Snapshots copied whole; see ``snapshotter.Snapshotter`` for what the methods promise."""

    name = "vfs"
    directory = "dir"  # below the root
    copies = True  # a new snapshot's files are copies, which reach the disk one by one

    def __init__(self, root: str, store: Store, identity: IdentityMapping | None = None) -> None:
        os.makedirs(root, 0o700, exist_ok=True)
        super().__init__(os.path.join(root, self.directory), store, identity)
        self._let_root_pass(root)

    def content_path(self, record: Record) -> str:
        return os.path.join(self.root, record.directory)

    def prepare(self, key: str, parent: str | None, *, size: int = 0) -> None:
        super().prepare(key, parent, size=size)
        if self.copies and parent is not None and not key.startswith(EXTRACTION):
            self.sync()  # what a power cut left half there, nobody would complete; extractions are synced when committed

    def _fill(self, path: str, parent: str | None) -> None:
        with tree.opened(tree.open_root(path)) as target_fd:
            os.fchmod(target_fd, 0o755)  # it is the container's "/"
            self._give_to_root(target_fd, ".")
            if parent is not None:
                with tree.opened(tree.open_root(self.content_path(self._record(parent)))) as source_fd:
                    copy_tree(source_fd, target_fd)

    def rootfs(self, key: str) -> dict[str, object]:
        path = self.content_path(self._active(key))
        return {"type": "bind", "upper": path, "target": path}

    def graph_data(self, key: str) -> dict[str, str]:
        self._record(key)
        return {}

    @contextmanager
    def view(self, key: str, *, writable: bool = False) -> Iterator[int]:
        record = self._active(key) if writable else self._record(key)
        with ExitStack() as stack:
            try:
                tree_fd = detached.bind(self.content_path(record), writable=writable)
                stack.callback(os.close, tree_fd)
                root_fd = os.open(".", tree.DIRECTORY, dir_fd=tree_fd)
                stack.callback(os.close, root_fd)
            except OSError as exc:
                raise SystemFailure(f"can't open snapshot {key}: {exc.strerror}") from exc
            yield root_fd

    def apply(self, key: str, tar: Readable, *, limits: Limits | None = None) -> Applied:
        record = self._active(key)
        hash = hashlib.sha256()
        reader = TarReader(tar, limits=limits, observe=hash.update)
        with tree.opened(tree.open_root(self.content_path(record))) as root_fd:
            try:
                apply.unpack(reader, root_fd, whiteouts=Deletions(), make_parent=self._make_parent, prepare=self._own)
                reader.finish()
            except BaseException:
                tree.clear(root_fd)
                if record.parent is not None:
                    with tree.opened(tree.open_root(self.content_path(self._record(record.parent)))) as source_fd:
                        copy_tree(source_fd, root_fd)
                raise
        return Applied(f"sha256:{hash.hexdigest()}", self.usage(key))

    def usage(self, key: str) -> int:
        sizes: dict[tuple[int, int], int] = {}
        with self._trees(key) as (before_fd, after_fd):
            _, changed = _compare(before_fd, after_fd, strict=False)
        for status in changed.values():
            if not stat.S_ISDIR(status.st_mode):
                sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())

    def write_diff(self, key: str, out: Writable) -> Applied:
        hashing = Hashing(out)
        writer = TarWriter(hashing, self.identity)
        with self._trees(key) as (before_fd, after_fd):
            found, _ = _compare(before_fd, after_fd)
            wanted = {change.path[1:]: change.kind for change in with_parents(found)}
            for path, parent_fd, status in tree.walk(after_fd):
                if path in wanted:
                    try:
                        writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
                    except FileNotFoundError:
                        continue  # a running container deleted it
            for path, kind in wanted.items():
                if kind is ChangeKind.DELETED:
                    directory, slash, name = path.rpartition("/")
                    writer.add(marker(f"{directory}{slash}{apply.WHITEOUT}{name}"))
        writer.finish()
        return Applied(hashing.digest, writer.content)

    def changes(self, key: str) -> Sequence[Change]:
        with self._trees(key) as (before_fd, after_fd):
            return with_parents(_compare(before_fd, after_fd)[0])

    def _make_parent(self, parent_fd: int, name: str, path: str) -> None:  # noqa: ARG002
        os.mkdir(name, 0o755, dir_fd=parent_fd)
        tree.chmod(parent_fd, name, 0o755)
        self._give_to_root(parent_fd, name)

    @contextmanager
    def _trees(self, key: str) -> Iterator[tuple[int | None, int]]:
        """Give the parent's tree, if there is one, and the snapshot's."""
        chain = self._chain(key)
        with ExitStack() as stack:
            fds = [tree.open_root(self.content_path(record)) for record in chain[:2]]
            for fd in fds:
                stack.callback(os.close, fd)
            yield (fds[1] if len(fds) > 1 else None), fds[0]


class Deletions:
    """Deletes what whiteouts name, but not what the layer itself brought; one per layer."""

    def __init__(self) -> None:
        self._written: set[str] = set()

    def hide(self, parent_fd: int, name: str, path: str) -> None:
        if path not in self._written:
            tree.remove(parent_fd, name)
        elif stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            with tree.opened(os.open(name, tree.DIRECTORY, dir_fd=parent_fd)) as fd:
                self.hide_content(fd, path)

    def hide_content(self, directory_fd: int, path: str) -> None:
        pending = [(os.dup(directory_fd), path)]
        while pending:
            fd, above = pending.pop()
            with tree.opened(fd):
                for name in tree.names(fd):
                    below = f"{above}/{name}" if above else name
                    if below not in self._written:
                        tree.remove(fd, name)
                    elif stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        pending.append((os.open(name, tree.DIRECTORY, dir_fd=fd), below))

    def wrote(self, parent_fd: int, name: str, path: str) -> None:  # noqa: ARG002
        self._written.add(path)


def _compare(
    before_fd: int | None, after_fd: int, *, strict: bool = True
) -> tuple[dict[str, ChangeKind], dict[str, os.stat_result]]:
    """Return the changed paths with their kinds, and the status of those that are there."""
    before = {} if before_fd is None else {path: status for path, _, status in tree.walk(before_fd)}
    found: dict[str, ChangeKind] = {}
    changed: dict[str, os.stat_result] = {}
    directories = {""}
    for path, _, status in tree.walk(after_fd, strict=strict):
        if stat.S_ISDIR(status.st_mode):
            directories.add(path)
        known = before.pop(path, None)
        if known is None or is_different(known, status):
            found[path] = ChangeKind.ADDED if known is None else ChangeKind.MODIFIED
            changed[path] = status
    for path in before:
        if path.rpartition("/")[0] in directories:  # of a deleted directory only the top is told
            found[path] = ChangeKind.DELETED
    return found, changed
