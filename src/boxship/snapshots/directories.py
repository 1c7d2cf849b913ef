"""What snapshotters with one directory per snapshot share: rows, directories, and the order in which they come and go.

A snapshot is a row of kind ``snapshot`` and a directory of 64 hex digits with an owner row. The owner row is there before
the directory and goes after it, so a directory with an owner row but without a snapshot row is a leftover, of a creation
or of a removal, and ``cleanup`` needs to guess nothing. Committing only changes rows; the directory stays where it is.

That holds on the disk too, whatever order a power cut finds things in: owner rows are written for 64 directories ahead, with
an fsync, and those of removed directories go when as many removals are on the disk for certain. An active snapshot's own
directory is not synced, since that would cost every ``docker create`` more than all else it does. When a power cut takes it,
nothing in it was on the disk either: ``cleanup`` makes it anew.
"""

import errno
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

import msgspec

from boxship.base import atomicfile, clock
from boxship.base.errors import BoxshipError, SystemFailure
from boxship.base.identity import IdentityMapping
from boxship.base.ids import new_id
from boxship.linux import fs, mount, mountinfo
from boxship.snapshots import init_layer, owners, quota, tree
from boxship.snapshots.snapshotter import (
    EXTRACTION,
    INIT,
    Cleaned,
    HasChildren,
    NoSuchSnapshot,
    SnapshotExists,
    SnapshotInfo,
    WrongState,
)
from boxship.snapshots.tar_reader import Entry
from boxship.store import ReadTransaction, Store, Transaction

KIND = "snapshot"
_PASSABLE = 0o710
_TOGETHER = 64  # directories whose owner rows come, and go, at once: one fsync for all


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The store's document of a snapshot."""

    directory: str  # 64 hex digits
    parent: str | None
    committed: bool = False
    diff_id: str = ""
    size: int = 0  # bytes
    bound: int = 0  # bytes that its directory may take; 0: what there is
    created_ns: int
    version: int = 1


_decode = msgspec.json.Decoder(Record).decode


class DirectorySnapshotter(ABC):
    """Snapshots whose directories lie in ``root``; made and measured by the subclass.

    With ``identity`` the files belong to the host's ids that stand for the containers' (``owners``).
    """

    adopts = False

    def __init__(self, root: str, store: Store, identity: IdentityMapping | None = None) -> None:
        self.root = root
        self._store = store
        self.identity = identity
        self._lock = threading.Lock()
        self._reserved: list[str] = []  # paths to be: their owner rows are on the disk
        self._gone: list[str] = []  # paths that were: their owner rows are there still
        os.makedirs(root, 0o700, exist_ok=True)
        self._let_root_pass(root)
        store.write_now(lambda t: t.own(root, "snapshots", ""))

    @abstractmethod
    def _fill(self, path: str, parent: str | None) -> None:
        """Make what an active snapshot has in its directory, which may have some of it."""

    @abstractmethod
    def view(self, key: str, *, writable: bool = False) -> AbstractContextManager[int]: ...

    @abstractmethod
    def content_path(self, record: Record) -> str:
        """Return the directory that holds the snapshot's files."""

    def prepare(self, key: str, parent: str | None, *, size: int = 0) -> None:
        path = self._reserve()
        record = Record(directory=os.path.basename(path), parent=parent, bound=size, created_ns=clock.now_ns())

        def check(transaction: ReadTransaction) -> None:
            if transaction.get(KIND, key) is not None:
                raise SnapshotExists(key)
            if parent is not None and not _require(transaction, parent).committed:
                raise WrongState(f"parent {parent} is not a committed snapshot")

        def enter(transaction: Transaction) -> None:
            check(transaction)
            transaction.own(path, KIND, key)
            transaction.put(KIND, key, msgspec.json.encode(record))

        try:
            with self._store.read() as transaction:
                check(transaction)
            os.mkdir(path, 0o700)
            self._make(path, record)
            self._store.write_now(enter, durable=False)
        except OSError as exc:
            self._discard(path)
            raise SystemFailure(f"can't create a layer: {exc.strerror}") from exc
        except BaseException:
            self._discard(path)
            raise

    def commit(self, name: str, key: str, *, diff_id: str = "", size: int = 0, durable: bool = True) -> None:
        path = os.path.join(self.root, self._active(key).directory)
        if durable:
            self.sync()

        def change(transaction: Transaction) -> None:
            record = _require(transaction, key)
            if record.committed:
                raise WrongState(f"snapshot {key} is not active")
            if transaction.get(KIND, name) is not None:
                raise SnapshotExists(name)
            committed = msgspec.structs.replace(record, committed=True, diff_id=diff_id, size=size)
            transaction.delete(KIND, key)
            transaction.put(KIND, name, msgspec.json.encode(committed))
            transaction.own(path, KIND, name)

        self._store.write_now(change, durable=durable)

    def adopt(self, key: str, parent: str, assumed: Sequence[str] = ()) -> bool:  # noqa: ARG002
        def change(transaction: Transaction) -> None:
            record = _require(transaction, key)
            if not self.adopts or record.committed or record.parent is not None:
                raise WrongState(f"snapshot {key} can't be put on another")
            if not _require(transaction, parent).committed:
                raise WrongState(f"parent {parent} is not a committed snapshot")
            transaction.put(KIND, key, msgspec.json.encode(msgspec.structs.replace(record, parent=parent)))

        self._store.write_now(change, durable=False)
        return True

    def replace(self, name: str, key: str) -> None:
        new = self._active(key)
        old = self._record(name)
        former, path = os.path.join(self.root, old.directory), os.path.join(self.root, new.directory)
        if self._is_below_a_mount(old.directory):
            raise WrongState(f"snapshot {name} is in use by a running container")
        self.sync()

        def change(transaction: Transaction) -> None:
            _require(transaction, key)
            changed = msgspec.structs.replace(_require(transaction, name), directory=new.directory)
            transaction.put(KIND, name, msgspec.json.encode(changed))
            transaction.delete(KIND, key)
            transaction.own(path, KIND, name)

        self._store.write_now(change)
        if not self._is_below_a_mount(old.directory):
            self._discard(former)

    def sync(self) -> None:
        try:
            with tree.opened(tree.open_root(self.root)) as fd:
                fs.syncfs(fd)
        except OSError as exc:
            raise SystemFailure(f"can't save a layer: {exc.strerror}") from exc

    def remove(self, key: str) -> None:
        def change(transaction: Transaction) -> Sequence[Record]:
            gone = [_require(transaction, key)]
            children = _children(transaction, key)
            if children == [INIT + key] and not _children(transaction, INIT + key):
                gone.append(_require(transaction, INIT + key))
                transaction.delete(KIND, INIT + key)
            elif children:
                raise HasChildren(f"cannot remove snapshot {key} with child: failed precondition")
            transaction.delete(KIND, key)
            return gone

        for record in self._store.write_now(change):
            self._discard(os.path.join(self.root, record.directory))

    def prepare_init(self, parent: str | None) -> str:
        name = INIT + (parent or "")
        if self.exists(name):
            return name
        key = f"{EXTRACTION}{new_id()}"
        self.prepare(key, parent)
        try:
            try:
                with self.view(key, writable=True) as root_fd:
                    init_layer.write(root_fd, self.identity.root if self.identity else (0, 0))
            except OSError as exc:
                raise SystemFailure(f"can't create the init layer of {parent}: {exc.strerror}") from exc
            self.commit(name, key)
        except SnapshotExists:  # another thread was faster
            self.remove(key)
        except BaseException:
            self.remove(key)
            raise
        return name

    def exists(self, key: str) -> bool:
        with self._store.read() as transaction:
            return transaction.get(KIND, key) is not None

    def parent(self, key: str) -> str | None:
        return self._record(key).parent

    def list(self) -> Sequence[SnapshotInfo]:
        with self._store.read() as transaction:
            rows = [(key, _decode(document)) for key, document in transaction.list(KIND)]
        return [
            SnapshotInfo(
                key,
                record.parent,
                record.committed,
                record.diff_id,
                record.size,
                os.path.join(self.root, record.directory),
            )
            for key, record in rows
        ]

    def cleanup(self, mounted: Collection[str] = ()) -> Cleaned:
        with self._store.read() as transaction:
            rows = {key: _decode(document) for key, document in transaction.list(KIND)}
            owned = [owner.path for owner in transaction.owners() if owner.kind == KIND]
        with self._lock:
            ahead = set(self._reserved)
        in_use = {rows[key].directory for key in mounted if key in rows}
        with os.scandir(self.root) as entries:
            there = {entry.path for entry in entries}
        unmounted = self._unmount(*(path for path in there if os.path.basename(path) not in in_use))
        removed = []
        for key in [key for key, record in rows.items() if key.startswith(EXTRACTION) and not record.committed]:
            removed.append(os.path.join(self.root, rows.pop(key).directory))
            self.remove(key)
        known = {os.path.join(self.root, record.directory) for record in rows.values()}
        for path in owned:
            if os.path.dirname(path) == self.root and path not in known and path not in removed and path not in ahead:
                self._discard(path)
                if path in there:
                    removed.append(path)
        self._disown(0)
        lost = [key for key, record in rows.items() if not self._is_whole(record)]
        remade = [key for key in lost if key not in mounted and self._remake(rows[key])]
        lost = [key for key in lost if key not in remade]
        return Cleaned(unmounted, removed, sorted(there - known - set(removed)), lost, remade)

    # for subclasses

    def _is_whole(self, record: Record) -> bool:
        """Return whether the snapshot has the directories that it was made with."""
        return os.path.isdir(self.content_path(record))

    def _make(self, path: str, record: Record) -> None:
        """Fill the snapshot's directory, which is new, or where a power cut has left some of what belongs there."""
        if record.bound:
            quota.limit(path, record.bound)
        self._let_root_pass(path)
        self._fill(path, record.parent)

    def _remake(self, record: Record) -> bool:
        """Make the directory of an active snapshot again; return whether that was possible."""
        if record.committed:
            return False
        path = os.path.join(self.root, record.directory)
        try:
            os.makedirs(path, 0o700, exist_ok=True)
            self._make(path, record)
        except (OSError, BoxshipError):
            return False
        return True

    def _let_root_pass(self, path: str) -> None:
        """Let container root through a directory, as runtimes that set up a root filesystem with its rights need it."""
        if self.identity is not None:
            os.chown(path, 0, self.identity.root[1])
            os.chmod(path, _PASSABLE)

    def _give_to_root(self, parent_fd: int, name: str) -> None:
        """Give what was just made to container root."""
        if self.identity is not None:
            os.chown(name, *self.identity.root, dir_fd=parent_fd, follow_symlinks=False)

    def _own(self, entry: Entry) -> None:
        """Give an entry of an archive the owner that it gets on disk."""
        if self.identity is not None:
            owners.to_host(entry, self.identity)

    def _record(self, key: str) -> Record:
        with self._store.read() as transaction:
            return _require(transaction, key)

    def _active(self, key: str) -> Record:
        record = self._record(key)
        if record.committed:
            raise WrongState(f"snapshot {key} is not active")
        return record

    def _chain(self, key: str | None) -> Sequence[Record]:
        """Return the snapshot and its ancestors, the nearest first."""
        chain = []
        with self._store.read() as transaction:
            while key is not None:
                chain.append(_require(transaction, key))
                key = chain[-1].parent
        return chain

    def _reserve(self) -> str:
        """Return the path of a directory to be made."""
        with self._lock:
            if not self._reserved:
                paths = [os.path.join(self.root, new_id()) for _ in range(_TOGETHER)]

                def own(transaction: Transaction) -> None:
                    for path in paths:
                        transaction.own(path, KIND, "")

                self._store.write_now(own)
                self._reserved = paths
            return self._reserved.pop()

    def _disown(self, kept: int) -> None:
        """Remove the owner rows of directories that are gone, when there are more than ``kept``."""
        with self._lock:
            if len(self._gone) <= kept:
                return
            gone, self._gone = self._gone, []

        def disown(transaction: Transaction) -> None:
            for path in gone:
                transaction.disown(path)

        try:
            atomicfile.fsync_directory(self.root)  # or a power cut could bring directories back, but not their rows
        except OSError:  # a disk that fails: the directories are gone for now, the rows can wait
            with self._lock:
                self._gone = gone + self._gone
            return
        self._store.write_now(disown, durable=False)

    def _discard(self, path: str) -> None:
        """Remove the directory; its owner row stays until that is on the disk."""
        if is_mounted(os.path.join(path, "merged")):
            self._unmount(path)
        try:
            quota.lift(path)
            with tree.opened(tree.open_root(self.root)) as root_fd:
                try:
                    tree.remove(root_fd, os.path.basename(path))
                except OSError as exc:
                    if exc.errno != errno.EBUSY:
                        raise
                    self._unmount(path)  # a mount of the directory on itself, which is_mounted can't see
                    tree.remove(root_fd, os.path.basename(path))
            with self._lock:
                self._gone.append(path)
            self._disown(_TOGETHER)
        except OSError as exc:
            raise SystemFailure(f"can't remove layer directory {path}: {exc.strerror}") from exc

    def _is_below_a_mount(self, directory: str) -> bool:
        """Return whether an overlay that is mounted has the snapshot's directory as one of its layers."""
        return any(entry.fstype == "overlay" and directory in entry.super_options for entry in mountinfo.read())

    def _unmount(self, *paths: str) -> Sequence[str]:
        """Unmount all that is mounted at or below the directories."""
        unmounted = []
        for entry in reversed(mountinfo.read()):
            point = entry.mount_point
            if any(f"{point}/".startswith(f"{path}/") for path in paths):
                mount.umount2(point, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
                unmounted.append(point)
        return unmounted


def is_mounted(path: str) -> bool:
    """Return whether another filesystem is mounted at the directory; False if there is none."""
    try:
        return os.lstat(path).st_dev != os.lstat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def _require(transaction: ReadTransaction, key: str) -> Record:
    document = transaction.get(KIND, key)
    if document is None:
        raise NoSuchSnapshot(key)
    return _decode(document)


def _children(transaction: ReadTransaction, key: str) -> Sequence[str]:
    text = msgspec.json.encode(key)  # looking for it first saves decoding every row
    return [child for child, document in transaction.list(KIND) if text in document and _decode(document).parent == key]
