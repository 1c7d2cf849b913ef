"""A directory as a tar stream on its way to the engine, without what ``.dockerignore`` names.

The files belong to root in the archive, as with Docker: whose they are on this host says nothing to an image. Names come in
the order of a sorted walk, so equal directories give equal streams.
"""

from __future__ import annotations

import os
import stat

from boxship.cli.command import ExitError
from boxship.snapshots import tree
from boxship.snapshots.tar_reader import BLOCK, DIRECTORY, LINK, REGULAR, Entry
from boxship.snapshots.tar_writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boxship.spec.docker.ignorefile import Patterns

_PIECE = 1 << 18
_CAPABILITY = "security.capability"


class Part:
    """A directory without what is ``ignored``; ``prefix`` is put before its names, "" or ending in a slash."""

    __slots__ = ("ignored", "path", "prefix")

    def __init__(self, path: str, ignored: Patterns | None, prefix: str = "") -> None:
        self.path = path
        self.ignored = ignored
        self.prefix = prefix


def pack(parts: Sequence[Part], added: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the archive of directories in pieces; files ``added`` by name come first, in place of those of the first part.

    Raises ExitError for a file that can't be read.
    """
    out = _Pieces()
    writer = _RootsTar(out)
    _add(writer, out, added)
    taken = set(added)
    for part in parts:
        writer = _RootsTar(out, part.prefix)  # links lead to names of the same part
        if part.prefix:
            writer.add(Entry("", DIRECTORY, 0o755))
        try:
            with tree.opened(os.open(part.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
                for _ in _walk(writer, top, "", part.ignored, taken):
                    if out.size >= _PIECE:
                        yield out.take()
        except OSError as exc:
            raise ExitError(
                f"error checking context: can't stat '{exc.filename or part.path}': {exc.strerror}"
            ) from exc
        taken = set()
    writer.finish()
    yield out.take()


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of files that are in memory."""
    out = _Pieces()
    writer = _RootsTar(out)
    _add(writer, out, files)
    writer.finish()
    return out.take()


def _add(writer: TarWriter, out: _Pieces, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        entry = Entry(name, REGULAR, 0o600)
        entry.size = len(data)
        writer.add(entry)
        out.write(data + bytes(-len(data) % BLOCK))


class _Pieces:
    """Collects what the tar writer writes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        taken, self._pieces, self.size = b"".join(self._pieces), [], 0
        return taken


class _RootsTar(TarWriter):
    """All files belong to root, and their names begin with ``prefix``."""

    def __init__(self, out: _Pieces, prefix: str = "") -> None:
        super().__init__(out)
        self.sink = out
        self._prefix = prefix

    def add(self, entry: Entry) -> None:
        entry.uid = entry.gid = 0
        entry.name = self._prefix + entry.name
        if entry.type == LINK:
            entry.linkname = self._prefix + entry.linkname
        super().add(entry)


def _add_small(writer: _RootsTar, parent_fd: int, name: str, path: str) -> None:
    """Write a small file with one name: contexts have a hundred thousand of them. Raises OSError.

    What Docker's archive of a context leaves out is not asked for: all extended attributes but capabilities.
    """
    # Not to wait for a FIFO that took its place since it was looked at.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(name)
        entry = Entry(path, REGULAR, stat.S_IMODE(status.st_mode))
        entry.mtime_ns = status.st_mtime_ns
        data = os.read(fd, status.st_size) if status.st_size else b""
        try:
            entry.xattrs = {_CAPABILITY: os.getxattr(fd, _CAPABILITY)}
        except OSError:
            pass  # it has none, or the filesystem knows of none
    finally:
        os.close(fd)
    entry.size = len(data)
    writer.add(entry)
    writer.sink.write(data + bytes(-len(data) % BLOCK) if len(data) % BLOCK else data)


def _walk(writer: _RootsTar, fd: int, below: str, ignored: Patterns | None, taken: set[str]) -> Iterator[None]:
    """Write what is in the directory ``fd``, whose name in the archive is ``below`` (empty or ending in a slash)."""
    for name in sorted(os.listdir(fd), key=os.fsencode):
        path = below + name
        if path in taken:
            continue
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone since the directory was read
        directory = stat.S_ISDIR(status.st_mode)
        if ignored is not None and ignored.matches(path):
            if not directory or not ignored.may_contain(path):
                continue
        else:
            try:
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= _PIECE:
                    _add_small(writer, fd, name, path)
                else:
                    writer.add_file(fd, name, path, status)
            except FileNotFoundError:
                continue
            yield
        if directory:
            with tree.opened(os.open(name, tree.DIRECTORY, dir_fd=fd)) as inner:
                yield from _walk(writer, inner, path + "/", ignored, taken)
