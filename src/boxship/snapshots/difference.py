"""Differences between two trees in Docker's terms, and the parts of a layer tar that no file stands for."""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence

from boxship.snapshots.snapshotter import Change, ChangeKind
from boxship.snapshots.tar_reader import REGULAR, Entry
from boxship.snapshots.tar_writer import Writable


def is_different(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether a file counts as changed: kind, mode, owner, device; of all but directories time and size too."""
    if (before.st_mode, before.st_uid, before.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
        return True
    if stat.S_ISDIR(after.st_mode):
        return False
    return (before.st_mtime_ns, before.st_size, before.st_rdev) != (after.st_mtime_ns, after.st_size, after.st_rdev)


def with_parents(found: Mapping[str, ChangeKind]) -> Sequence[Change]:
    """Return the changes sorted, with the directories that something changed in as modified. Paths lose no slash."""
    all: dict[str, ChangeKind] = {}
    for path, kind in found.items():
        all[path] = kind
        while path := path.rpartition("/")[0]:
            if path in found or path in all:
                all.setdefault(path, ChangeKind.MODIFIED)
                break
            all[path] = ChangeKind.MODIFIED
    return [Change(f"/{path}", kind) for path, kind in sorted((all | dict(found)).items())]


def marker(name: str, status: os.stat_result | None = None) -> Entry:
    """Return the empty file of a layer tar that stands for a deletion, with owner and time of ``status``."""
    entry = Entry(name, REGULAR, 0o600)
    if status is not None:
        entry.uid, entry.gid, entry.mtime_ns = status.st_uid, status.st_gid, status.st_mtime_ns
    return entry


class Hashing:
    """Passes bytes on and hashes them."""

    def __init__(self, out: Writable) -> None:
        self._out = out
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Take all of ``data``."""
        self._hash.update(data)
        self._out.write(data)

    @property
    def digest(self) -> str:
        """Digest of all bytes so far."""
        return f"sha256:{self._hash.hexdigest()}"
