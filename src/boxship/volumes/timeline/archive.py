"""A snapshot as a tar (POSIX.1-2001, extended attributes as GNU tar has them): a backup that leaves the host."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
import tarfile
from typing import Protocol

from boxship.volumes.timeline import snapshots
from boxship.volumes.timeline.snapshots import Corrupt, Entry, Snapshot

_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


def write(volume_fd: int, snapshot: Snapshot, out: Writable) -> None:
    """Write the tar of a snapshot; blocking. Sockets are left out, as tar does.

    Raises Corrupt at the end of the file that is damaged, OSError.
    """
    with tarfile.open(mode="w|", fileobj=out, format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # it only writes
        for entry in snapshot.entries:
            info = _header(entry)
            if info is None:
                continue
            if info.type == tarfile.REGTYPE:
                source = _Checked(snapshots.open_object(volume_fd, entry.digest), entry)
                try:
                    tar.addfile(info, source)
                finally:
                    source.close()
            else:
                tar.addfile(info)


class _Checked:
    """Reads an object and compares its digest at the end."""

    def __init__(self, fd: int, entry: Entry) -> None:
        self._fd = fd
        self._entry = entry
        self._left = entry.size
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; raises Corrupt."""
        data = os.read(self._fd, min(size, self._left))
        self._digest.update(data)
        self._left -= len(data)
        if (not data and self._left) or (not self._left and self._digest.hexdigest() != self._entry.digest):
            raise Corrupt(errno.EIO, "the snapshot is damaged", self._entry.path)
        return data

    def close(self) -> None:
        os.close(self._fd)


def _header(entry: Entry) -> tarfile.TarInfo | None:
    kind = tarfile.LNKTYPE if entry.hard_link else _TYPES.get(stat.S_IFMT(entry.mode))
    if kind is None:
        return None
    info = tarfile.TarInfo(os.fsdecode(entry.path.encode("latin-1")) or ".")
    info.type = kind
    info.mode = stat.S_IMODE(entry.mode)
    info.uid, info.gid = entry.uid, entry.gid
    info.mtime = entry.mtime_ns / 1e9
    info.linkname = os.fsdecode(entry.target.encode("latin-1"))
    info.size = entry.size if kind == tarfile.REGTYPE else 0
    info.devmajor, info.devminor = os.major(entry.device), os.minor(entry.device)
    info.pax_headers = {
        f"SCHILY.xattr.{name}": base64.b64decode(value).decode("utf-8", "surrogateescape")
        for name, value in entry.attributes.items()
    }
    return info
