"""Snapshots of a volume: what was in it at a moment, kept beside its data, in parts that snapshots share.

A volume's directory has ``snapshots/objects/<aa>/<sha256>``, the content of files, and ``snapshots/<name>.json``, a list of all
entries. The list is written last, so a snapshot is whole or absent; objects that no list names are removed with the next
removal. A file that did not change since the snapshot before (same inode, change time and size) is not read again.

A restore builds a new tree, checks every digest, and swaps it with the old one in one step. All functions are blocking and
take the volume's directory open; nobody else may change the data meanwhile.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from boxship.base import atomicfile, failpoints
from boxship.linux.fs import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, is_mount_root, openat2, syncfs
from boxship.linux.rename import RENAME_EXCHANGE, renameat2
from boxship.volumes import tree
from boxship.volumes.copyup import DATA
from boxship.volumes.local import bounds
from boxship.volumes.timeline import inplace

VERSION = 1
_STORE = "snapshots"
_OBJECTS = "objects"
_SUFFIX = ".json"
_STAGED = ".restore"
_TAKING = ".taking"  # in the store while contents come that no list names yet
_LONGEST_PATH = 4000  # bytes, below PATH_MAX: paths are opened as a whole
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h
_MOVED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EBUSY, errno.ENXIO, errno.ESTALE))
_NO_REFLINK = frozenset((errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EBADF))


class Changed(OSError):
    """A file changed while it was read."""


class Corrupt(OSError):
    """An object's content is not what its name says."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One name in a volume. ``path`` and ``target`` are bytes, written as the characters of Latin-1; "" is the root."""

    path: str
    mode: int  # type and permissions, as st_mode
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    digest: str = ""  # of a regular file
    target: str = ""  # of a symbolic link; of a further name of a file, its first one
    hard_link: bool = False
    device: int = 0
    attributes: dict[str, str] = {}  # extended ones, base64
    stamp: tuple[int, int] = (0, 0)  # inode, change time: whether a file has to be read again


class Captured(NamedTuple):
    """The entries at one moment, and for files that were not read yet, by path, the name of a clone among the objects."""

    entries: list[Entry]
    unread: dict[str, str]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the list of a snapshot holds."""

    version: int = VERSION
    created_ns: int
    entries: list[Entry]

    def size(self) -> int:
        return sum(entry.size for entry in self.entries)


def gather(volume_fd: int) -> Mapping[str, Entry]:
    """Keep the contents of files that may change meanwhile, for a :func:`take` that is quick; raises OSError.

    What goes, comes or changes just now is left to that.
    """
    with _opened(volume_fd, make=True) as store_fd, _swept_after_failure(store_fd):
        before = _latest(store_fd)
        objects_fd = tree.open_directory(_OBJECTS, store_fd)
        try:
            with _data(volume_fd) as data_fd:
                walked = _walk(data_fd, _Objects(objects_fd), before, moving=True)
                return {entry.path: entry for entry in walked}
        finally:
            os.close(objects_fd)


def take(volume_fd: int, name: str, created_ns: int) -> Snapshot:
    """Make a snapshot of data that does not change; raises FileExistsError, Changed, OSError. A failure leaves no snapshot."""
    return finish(volume_fd, name, created_ns, capture(volume_fd, name))


def capture(volume_fd: int, name: str, known: Mapping[str, Entry] = {}) -> Captured:
    """Do the part of a snapshot for which the data must not change, for :func:`finish`. Raises as :func:`take`.

    ``known`` is what :func:`gather` returned just before. Where blocks can be shared, a file that changed since then costs
    a clone here, and is read by :func:`finish`; elsewhere it is read here.
    """
    with _opened(volume_fd, make=True) as store_fd:
        if f"{name}{_SUFFIX}" in os.listdir(store_fd):
            raise FileExistsError(errno.EEXIST, "the snapshot exists", name)
        before = known or _latest(store_fd)
        with _swept_after_failure(store_fd):
            objects_fd = tree.open_directory(_OBJECTS, store_fd)
            try:
                objects = _Objects(objects_fd, puts_off=True)
                with _data(volume_fd) as data_fd:
                    return Captured(list(_walk(data_fd, objects, before)), objects.unread)
            finally:
                os.close(objects_fd)


def finish(volume_fd: int, name: str, created_ns: int, captured: Captured) -> Snapshot:
    """Make the snapshot of what was captured; raises OSError. A failure leaves no snapshot."""
    with _opened(volume_fd) as store_fd, _swept_after_failure(store_fd):
        objects_fd = tree.open_directory(_OBJECTS, store_fd)
        try:
            objects = _Objects(objects_fd)
            digests = {path: objects.read(clone) for path, clone in captured.unread.items()}
            syncfs(objects_fd)
        finally:
            os.close(objects_fd)
        entries = [
            msgspec.structs.replace(each, digest=digests[each.path]) if each.path in digests else each
            for each in captured.entries
        ]
        failpoints.hit("volume.snapshot.gathered")
        snapshot = Snapshot(created_ns=created_ns, entries=entries)
        atomicfile.write_at(store_fd, f"{name}{_SUFFIX}", msgspec.json.encode(snapshot))
        os.unlink(_TAKING, dir_fd=store_fd)
    return snapshot


def names(volume_fd: int) -> list[str]:
    """Return the names of a volume's snapshots, sorted."""
    try:
        with _opened(volume_fd) as store_fd:
            return sorted(each.removesuffix(_SUFFIX) for each in os.listdir(store_fd) if _is_list(each))
    except FileNotFoundError:
        return []


def read(volume_fd: int, name: str) -> Snapshot:
    """Return a snapshot; raises FileNotFoundError, OSError for a list that cannot be read."""
    with _opened(volume_fd) as store_fd:
        return _read(store_fd, name)


def open_object(volume_fd: int, digest: str) -> int:
    """Open the content of a file for reading; raises FileNotFoundError."""
    with _opened(volume_fd) as store_fd:
        return os.open(f"{_OBJECTS}/{digest[:2]}/{digest}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store_fd)


def remove(volume_fd: int, name: str) -> None:
    """Remove a snapshot and the objects that no other one has; raises FileNotFoundError, OSError."""
    with _opened(volume_fd) as store_fd:
        os.unlink(f"{name}{_SUFFIX}", dir_fd=store_fd)
        _sweep_all(store_fd)


def restore(volume_fd: int, name: str) -> None:
    """Give the volume the content of a snapshot; raises FileNotFoundError, Corrupt, OSError with the data as it was."""
    with _opened(volume_fd) as store_fd:
        snapshot = _read(store_fd, name)
        objects_fd = tree.open_directory(_OBJECTS, store_fd)
        try:
            with staged(volume_fd) as target_fd:
                _build(snapshot, objects_fd, target_fd)
        finally:
            os.close(objects_fd)


@contextlib.contextmanager
def staged(volume_fd: int) -> Iterator[int]:
    """Give an empty directory that is in the place of the volume's data afterwards; a failure changes nothing."""
    with _data(volume_fd) as data_fd:
        if is_mount_root(data_fd):
            with inplace.staged(data_fd) as target_fd:
                yield target_fd
            return
    recover(volume_fd)
    os.mkdir(_STAGED, 0o700, dir_fd=volume_fd)
    try:
        target_fd = tree.open_directory(_STAGED, volume_fd)
        try:
            with _data(volume_fd) as data_fd, bounds.beside(data_fd, target_fd) as check_size:
                yield target_fd
                syncfs(target_fd)
                check_size()
                failpoints.hit("volume.restore.built")
                renameat2(volume_fd, _STAGED, volume_fd, DATA, RENAME_EXCHANGE)
                os.fsync(volume_fd)
                failpoints.hit("volume.restore.swapped")
                recover(volume_fd)
        finally:
            os.close(target_fd)
    finally:
        recover(volume_fd)


def recover(volume_fd: int) -> None:
    """Remove what a restore that was cut off left, the new tree or the old one, and the contents of half a snapshot."""
    tree.remove(_STAGED, volume_fd)
    with contextlib.suppress(FileNotFoundError, Corrupt), _opened(volume_fd) as store_fd:
        os.stat(_TAKING, dir_fd=store_fd, follow_symlinks=False)
        _sweep_all(store_fd)


def differences(volume_fd: int, name: str) -> list[tuple[str, bytes]]:
    """Return what changed since a snapshot: ("A", "C" or "D", path), sorted by path. Raises as `read`."""
    with _opened(volume_fd) as store_fd:
        before = {entry.path: entry for entry in _read(store_fd, name).entries}
    with _data(volume_fd) as data_fd:
        now = {entry.path: entry for entry in _walk(data_fd, None, before)}
    found = [("D", path) for path in before.keys() - now.keys()]
    found += [("A", path) for path in now.keys() - before.keys()]
    found += [("C", path) for path in now.keys() & before.keys() if _differs(before[path], now[path])]
    return sorted(((kind, path.encode("latin-1")) for kind, path in found), key=lambda change: change[1])


def _differs(before: Entry, now: Entry) -> bool:
    """Tell whether somebody would see a difference; a directory's time changes with its entries, which are listed."""
    ignored = {"stamp": (0, 0)} | ({"mtime_ns": 0} if stat.S_ISDIR(before.mode) else {})
    return msgspec.structs.replace(before, **ignored) != msgspec.structs.replace(now, **ignored)


def _walk(
    data_fd: int, objects: _Objects | None, before: Mapping[str, Entry], *, moving: bool = False
) -> Iterator[Entry]:
    """Yield the entries of a tree, directories before what they hold; contents go to the objects if there is a place.

    With ``moving`` others change it meanwhile: what is not there any more, or something else, is left out.
    """
    linked: dict[tuple[int, int], str] = {}
    waiting = [b""]
    while waiting:
        with _left_out(moving):
            yield from _directory(data_fd, waiting.pop(), waiting, linked, objects, before, moving=moving)


def _directory(
    data_fd: int,
    path: bytes,
    waiting: list[bytes],
    linked: dict[tuple[int, int], str],
    objects: _Objects | None,
    before: Mapping[str, Entry],
    *,
    moving: bool,
) -> Iterator[Entry]:
    fd = openat2(
        data_fd, os.fsdecode(path) or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    )
    try:
        yield _entry(path, os.fstat(fd), attributes=_attributes(fd))
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            child = path + b"/" + name if path else name
            if len(child) > _LONGEST_PATH:
                raise OSError(errno.ENAMETOOLONG, "a path is too long for a snapshot", os.fsdecode(child))
            with _left_out(moving):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                inode = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(child)
                elif inode in linked:
                    yield _entry(child, status, target=linked[inode], hard_link=True)
                else:
                    if status.st_nlink > 1:
                        linked[inode] = child.decode("latin-1")
                    yield _leaf(fd, name, child, status, objects, before)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _left_out(moving: bool) -> Iterator[None]:
    """Pass over what changes meanwhile, if it may."""
    try:
        yield
    except OSError as exc:
        if not moving or exc.errno not in _MOVED:
            raise


def _leaf(
    dir_fd: int, name: bytes, path: bytes, status: os.stat_result, objects: _Objects | None, before: Mapping[str, Entry]
) -> Entry:
    if stat.S_ISLNK(status.st_mode):
        return _entry(path, status, target=os.readlink(name, dir_fd=dir_fd).decode("latin-1"))
    if not stat.S_ISREG(status.st_mode):
        return _entry(path, status, device=status.st_rdev)
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        known = before.get(path.decode("latin-1"))
        if known is not None and known.digest and known.stamp == _stamp(status) and known.size == status.st_size:
            digest = known.digest
        else:
            digest = _digest(fd) if objects is None else objects.keep(fd, path.decode("latin-1"))
            if _stamp(os.fstat(fd)) != _stamp(status):
                raise Changed(errno.EBUSY, "a file changed while it was read", os.fsdecode(path))
        return _entry(
            path, status, size=status.st_size, digest=digest, attributes=_attributes(fd), stamp=_stamp(status)
        )
    finally:
        os.close(fd)


def _entry(path: bytes, status: os.stat_result, **more: object) -> Entry:
    fields = {
        "path": path.decode("latin-1"),
        "mode": status.st_mode,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime_ns": status.st_mtime_ns,
    }
    return msgspec.convert(fields | more, Entry)


class _Objects:
    """The contents of files, in the open directory ``fd``."""

    def __init__(self, fd: int, *, puts_off: bool = False) -> None:
        """``puts_off``: files are cloned where the file system can, and read later."""
        self._fd = fd
        self._puts_off = puts_off
        self.unread: dict[str, str] = {}

    def keep(self, fd: int, path: str) -> str:
        """Copy a file's content, sharing its blocks where the file system can; return its digest, "" if it is put off."""
        temporary = f".{os.urandom(8).hex()}"
        target = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
        try:
            if self._puts_off and _clone(fd, target):
                self.unread[path] = temporary
                return ""
            return self._name(temporary, _copy(fd, target))
        except OSError:
            os.unlink(temporary, dir_fd=self._fd)
            raise
        finally:
            os.close(target)

    def read(self, temporary: str) -> str:
        """Give a clone the name of its content, and return the digest."""
        fd = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return self._name(temporary, _digest(fd))
        finally:
            os.close(fd)

    def _name(self, temporary: str, digest: str) -> str:
        with contextlib.suppress(FileExistsError):
            os.mkdir(digest[:2], 0o700, dir_fd=self._fd)
        os.rename(temporary, f"{digest[:2]}/{digest}", src_dir_fd=self._fd, dst_dir_fd=self._fd)
        return digest


def _clone(source: int, target: int) -> bool:
    """Let an empty file share the blocks of another one; returns False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as exc:
        if exc.errno not in _NO_REFLINK:
            raise
        return False
    return True


def _copy(source: int, target: int) -> str:
    """Copy a whole file into an empty one and return the digest of what is there then."""
    if _clone(source, target):
        return _digest(target)
    digest = hashlib.sha256()
    offset = 0
    while piece := os.pread(source, _CHUNK, offset):
        digest.update(piece)
        left = memoryview(piece)
        while left:
            written = os.pwrite(target, left, offset)
            offset += written
            left = left[written:]
    return digest.hexdigest()


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    offset = 0
    while piece := os.pread(fd, _CHUNK, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def _build(snapshot: Snapshot, objects_fd: int, target_fd: int) -> None:
    for entry in snapshot.entries:
        _make(entry, objects_fd, target_fd)
    for entry in reversed(snapshot.entries):
        if stat.S_ISDIR(entry.mode):  # last: what is made in a directory changes it
            fd = os.open(_bytes(entry.path) or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target_fd)
            try:
                _apply(entry, fd)
            finally:
                os.close(fd)


def _make(entry: Entry, objects_fd: int, target_fd: int) -> None:
    path = _bytes(entry.path)
    if stat.S_ISDIR(entry.mode):
        if path:
            os.mkdir(path, 0o700, dir_fd=target_fd)
    elif entry.hard_link:
        os.link(_bytes(entry.target), path, src_dir_fd=target_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    elif stat.S_ISREG(entry.mode):
        source = os.open(f"{entry.digest[:2]}/{entry.digest}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=objects_fd)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
            try:
                if _copy(source, fd) != entry.digest:
                    raise Corrupt(errno.EIO, "the snapshot is damaged", os.fsdecode(path))
                _apply(entry, fd)
            finally:
                os.close(fd)
        finally:
            os.close(source)
    else:
        if stat.S_ISLNK(entry.mode):
            os.symlink(_bytes(entry.target), path, dir_fd=target_fd)
        else:
            os.mknod(path, entry.mode, entry.device, dir_fd=target_fd)
        os.chown(path, entry.uid, entry.gid, dir_fd=target_fd, follow_symlinks=False)
        if not stat.S_ISLNK(entry.mode):
            os.chmod(path, stat.S_IMODE(entry.mode), dir_fd=target_fd)
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=target_fd, follow_symlinks=False)


def _apply(entry: Entry, fd: int) -> None:
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, stat.S_IMODE(entry.mode))
    for name, value in entry.attributes.items():
        os.setxattr(fd, name, base64.b64decode(value))
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def _attributes(fd: int) -> dict[str, str]:
    return {name: base64.b64encode(os.getxattr(fd, name)).decode() for name in os.listxattr(fd)}


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_ctime_ns


def _latest(store_fd: int) -> dict[str, Entry]:
    found = [_read(store_fd, each.removesuffix(_SUFFIX)) for each in os.listdir(store_fd) if _is_list(each)]
    if not found:
        return {}
    return {entry.path: entry for entry in max(found, key=lambda snapshot: snapshot.created_ns).entries}


def _read(store_fd: int, name: str) -> Snapshot:
    fd = os.open(f"{name}{_SUFFIX}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store_fd)
    with os.fdopen(fd, "rb") as file:
        try:
            return msgspec.json.decode(file.read(), type=Snapshot)
        except msgspec.DecodeError as exc:
            raise Corrupt(errno.EIO, "the snapshot is damaged", name) from exc


@contextlib.contextmanager
def _swept_after_failure(store_fd: int) -> Iterator[None]:
    """Note that contents come, and remove those that no list names when this fails."""
    os.close(os.open(_TAKING, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=store_fd))
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            _sweep_all(store_fd)
        raise


def _sweep_all(store_fd: int) -> None:
    """Remove all contents that no list names. Raises OSError, also for a list that cannot be read: then nothing goes."""
    used = {
        entry.digest
        for each in os.listdir(store_fd)
        if _is_list(each)
        for entry in _read(store_fd, each.removesuffix(_SUFFIX)).entries
    }
    objects_fd = tree.open_directory(_OBJECTS, store_fd)
    try:
        for prefix in os.listdir(objects_fd):
            _sweep(prefix, objects_fd, used)
    finally:
        os.close(objects_fd)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_TAKING, dir_fd=store_fd)


def _sweep(prefix: str, objects_fd: int, used: set[str]) -> None:
    if prefix.startswith("."):
        os.unlink(prefix, dir_fd=objects_fd)  # of a snapshot that was cut off
        return
    fd = tree.open_directory(prefix, objects_fd)
    try:
        for name in os.listdir(fd):
            if name not in used:
                os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def _is_list(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


@contextlib.contextmanager
def _opened(volume_fd: int, *, make: bool = False) -> Iterator[int]:
    if make:
        for path in (_STORE, f"{_STORE}/{_OBJECTS}"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700, dir_fd=volume_fd)
    fd = tree.open_directory(_STORE, volume_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _data(volume_fd: int) -> Iterator[int]:
    fd = tree.open_directory(DATA, volume_fd)
    try:
        yield fd
    finally:
        os.close(fd)
