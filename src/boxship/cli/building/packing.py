"""A directory as a tar stream on its way to the engine, without what ``.dockerignore`` names.

The files belong to root in the archive, as with Docker: whose they are on this host says nothing to an image. Names come in
the order of a sorted walk, so equal directories give equal streams.
"""

from __future__ import annotations

import os
import stat

from boxship.cli.command import ExitError
from boxship.snapshots import tree
from boxship.snapshots.tar_reader import BLOCK, REGULAR, Entry
from boxship.snapshots.tar_writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boxship.spec.docker.ignorefile import Patterns

_PIECE = 1 << 18


def pack(path: str, ignored: Patterns | None, added: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the archive of the directory ``path`` in pieces; files ``added`` by name come first.

    Raises ExitError for a file that can't be read.
    """
    out = _Pieces()
    writer = _RootsTar(out)
    _add(writer, out, added)
    try:
        with tree.opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as top:
            for _ in _walk(writer, top, "", ignored, set(added)):
                if out.size >= _PIECE:
                    yield out.take()
    except OSError as exc:
        raise ExitError(f"error checking context: can't stat '{exc.filename or path}': {exc.strerror}") from exc
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
    """All files belong to root."""

    def add(self, entry: Entry) -> None:
        entry.uid = entry.gid = 0
        super().add(entry)


def _walk(writer: TarWriter, fd: int, below: str, ignored: Patterns | None, taken: set[str]) -> Iterator[None]:
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
                writer.add_file(fd, name, path, status)
            except FileNotFoundError:
                continue
            yield
        if directory:
            with tree.opened(os.open(name, tree.DIRECTORY, dir_fd=fd)) as inner:
                yield from _walk(writer, inner, path + "/", ignored, taken)
