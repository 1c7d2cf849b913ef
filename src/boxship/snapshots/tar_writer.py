"""Tar archives, entries in and bytes out: ustar headers, with a pax header before those that do not fit.

Equal entries give equal bytes: times are whole seconds, user and group names are not written, as Docker does it.
"""

import os
import stat
from typing import Protocol

from boxship.base.identity import IdentityMapping
from boxship.snapshots import owners, tar_reader, tree
from boxship.snapshots.tar_reader import BLOCK, Entry

_PIECE = 1024 * 1024
_END = bytes(2 * BLOCK)


class Writable(Protocol):
    """Any sink of bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


class TarWriter:
    """Writes an archive to ``out``; call :meth:`finish` at the end.

    With ``identity`` the owners of files are the host's ids of container users, and the archive has the containers' ids.
    With ``exact_times`` it has the nanoseconds too, which layers have not.
    """

    def __init__(self, out: Writable, identity: IdentityMapping | None = None, *, exact_times: bool = False) -> None:
        self._out = out
        self._identity = identity
        self._exact_times = exact_times
        self._links: dict[tuple[int, int], str] = {}  # (device, inode) of files with several names: the first one
        self.content = 0  # bytes of all files so far

    def add(self, entry: Entry) -> None:
        """Write the header of an entry; ``entry.size`` bytes of data, padded to whole blocks, are the caller's."""
        if self._identity is not None:
            owners.to_container(entry, self._identity)
        name, link = os.fsencode(entry.name), os.fsencode(entry.linkname)
        prefix, short = _split(name)
        pax: dict[bytes, bytes] = {}
        if short is None:
            pax[b"path"] = name
            prefix, short = b"", _ascii(name)[:100]
        if len(link) > 100 or not link.isascii():
            pax[b"linkpath"] = link
            link = _ascii(link)[:100]
        size, uid, gid, seconds = entry.size, entry.uid, entry.gid, entry.mtime_ns // 1_000_000_000
        if size >= 8**11:
            pax[b"size"], size = b"%d" % size, 0
        if uid >= 8**7:
            pax[b"uid"], uid = b"%d" % uid, 0
        if gid >= 8**7:
            pax[b"gid"], gid = b"%d" % gid, 0
        if not 0 <= seconds < 8**11:
            pax[b"mtime"], seconds = b"%d" % seconds, 0
        elif self._exact_times and entry.mtime_ns % 1_000_000_000:
            pax[b"mtime"] = b"%d.%09d" % divmod(entry.mtime_ns, 1_000_000_000)
        for key, value in entry.xattrs.items():
            pax[b"SCHILY.xattr." + os.fsencode(key)] = value
        if pax:
            records = b"".join(_record(key, pax[key]) for key in sorted(pax))
            directory, _, base = _ascii(name).rstrip(b"/").rpartition(b"/")
            pax_name = b"/".join(part for part in (directory, b"PaxHeaders.0", base) if part)[:100]
            self._out.write(_header(b"", pax_name, b"x", 0, 0, 0, len(records), 0, b"", 0, 0))
            self._out.write(records + bytes(-len(records) % BLOCK))
        header = _header(prefix, short, entry.type, entry.mode, uid, gid, size, seconds, link, entry.major, entry.minor)
        self._out.write(header)

    def add_file(self, parent_fd: int, name: str, path: str, status: os.stat_result) -> bool:
        """Write the file ``name`` of ``parent_fd`` as ``path``; return False for a socket, which no archive can hold.

        A further name of a file that is in the archive already becomes a hard link. A file that shrinks meanwhile is
        filled up with zeros, of one that grows what it had at the start is taken. Raises OSError; FileNotFoundError when it
        is gone, or is no regular file any more where ``status`` says so: nothing was written then.
        """
        if not stat.S_ISREG(status.st_mode):
            return self._add_file(parent_fd, name, path, status, -1)
        with tree.opened(tree.open_regular(parent_fd, name)) as fd:
            return self._add_file(parent_fd, name, path, os.fstat(fd), fd)

    def _add_file(self, parent_fd: int, name: str, path: str, status: os.stat_result, fd: int) -> bool:
        entry = describe(parent_fd, name, path, status)
        if entry is None:
            return False
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry.type, entry.linkname, entry.size, entry.xattrs = tar_reader.LINK, first, 0, {}
        self.add(entry)
        if entry.type == tar_reader.REGULAR:
            self.content += entry.size
            self._copy(fd, entry.size)
        return True

    def finish(self) -> None:
        """Write the two blocks that end an archive."""
        self._out.write(_END)

    def _copy(self, fd: int, size: int) -> None:
        left = size
        while left:
            piece = os.read(fd, min(left, _PIECE))
            if not piece:
                piece = bytes(min(left, _PIECE))
            left -= len(piece)
            self._out.write(piece)
        self._out.write(bytes(-size % BLOCK))


def describe(parent_fd: int, name: str, path: str, status: os.stat_result) -> Entry | None:
    """Return the archive entry of a file, None for a socket."""
    type = _TYPES.get(stat.S_IFMT(status.st_mode))
    if type is None:
        return None
    entry = Entry(f"{path}/" if type == tar_reader.DIRECTORY else path, type, stat.S_IMODE(status.st_mode))
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.mtime_ns = status.st_mtime_ns
    if type == tar_reader.REGULAR:
        entry.size = status.st_size
    elif type == tar_reader.SYMLINK:
        entry.linkname = os.readlink(name, dir_fd=parent_fd)
    elif type in (tar_reader.CHARACTER, tar_reader.BLOCK_DEVICE):
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if type in (tar_reader.REGULAR, tar_reader.DIRECTORY):
        found = tree.xattrs(parent_fd, name)
        entry.xattrs = {key: value for key, value in found.items() if is_portable(key)}
    return entry


def is_portable(attribute: str) -> bool:
    """Return whether an extended attribute is the image's and not the host's."""
    return attribute == "security.capability" or (
        attribute.startswith("user.") and not attribute.startswith("user.overlay.")
    )


_TYPES = {
    stat.S_IFREG: tar_reader.REGULAR,
    stat.S_IFDIR: tar_reader.DIRECTORY,
    stat.S_IFLNK: tar_reader.SYMLINK,
    stat.S_IFCHR: tar_reader.CHARACTER,
    stat.S_IFBLK: tar_reader.BLOCK_DEVICE,
    stat.S_IFIFO: tar_reader.FIFO,
}


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Return ``(prefix, name)`` as ustar takes them, the name None if it does not fit."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > 100:
        return b"", None
    return name[:slash], name[slash + 1 :]


def _ascii(name: bytes) -> bytes:
    """Return the name without its other characters, for readers that do not know pax."""
    return name.decode("ascii", "ignore").encode()


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record; its length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def _header(
    prefix: bytes,
    name: bytes,
    type: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    major: int,
    minor: int,
) -> bytes:
    block = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %s%sustar\x0000%s%07o\0%07o\0%s" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        seconds,
        type,
        link.ljust(100, b"\0"),
        bytes(64),
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
