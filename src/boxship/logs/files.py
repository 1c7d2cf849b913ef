"""The files of one json-file log, newest and rotated, opened so that a rotation meanwhile loses and doubles nothing.

Blocking; callers on an event loop use a thread. See ``shim.logfile`` for the writing side and the names.
"""

from __future__ import annotations

import collections
import os
import zlib
from typing import IO

_BLOCK = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_TRIES = 100


class File:
    """One file, open: the newest or an older one, perhaps compressed. ``number`` is 0 for the newest."""

    def __init__(self, raw: IO[bytes], number: int, *, compressed: bool) -> None:
        self._raw = raw
        self.number = number
        self.compressed = compressed
        self.inode = os.fstat(raw.fileno()).st_ino
        self.position = 0  # of the uncompressed bytes
        self._unpacker = zlib.decompressobj(_GZIP) if compressed else None
        self._skip = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, about ``size``; none at the end for now. A damaged archive ends where the damage is."""
        data = self._read(size)
        while data and self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:] or self._read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """Go on from ``size`` bytes after the beginning; nothing may have been read yet."""
        self.position = size
        if self.compressed:
            self._skip = size
        else:
            self._raw.seek(size)

    def size(self) -> int:
        """Return the number of uncompressed bytes, modulo 2**32 for an archive (RFC 1952, ISIZE)."""
        length = os.fstat(self._raw.fileno()).st_size
        if not self.compressed:
            return length
        trailer = os.pread(self._raw.fileno(), 4, max(0, length - 4))
        return int.from_bytes(trailer, "little")

    def find_tail(self, lines: int) -> tuple[int, int]:
        """Return (offset, count) of the last ``lines`` whole lines, or of all when there are fewer; 0 gives their end."""
        return self._find_tail_packed(lines) if self.compressed else self._find_tail_plain(lines)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _read(self, size: int) -> bytes:
        if self._unpacker is None:
            return self._raw.read(size)
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._raw.read(_BLOCK)
            if not packed:
                break
            try:
                data = self._unpacker.decompress(packed, size)
            except zlib.error:
                break
            if data:
                return data
        return b""

    def _find_tail_plain(self, lines: int) -> tuple[int, int]:
        fd = self._raw.fileno()
        end = os.fstat(fd).st_size
        count = 0
        torn = True  # what follows the last newline is no line
        while end > 0:
            start = max(0, end - _BLOCK)
            block = os.pread(fd, end - start, start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if torn:
                    torn = False
                else:
                    count += 1
                if count == lines:
                    return start + at + 1, count
            end = start
        return 0, count if torn else count + 1

    def _find_tail_packed(self, lines: int) -> tuple[int, int]:
        """An archive can only be read forwards: remember where the last lines began."""
        unpacked = File(open(self._raw.fileno(), "rb", buffering=0, closefd=False), self.number, compressed=True)
        starts: collections.deque[int] = collections.deque([0], maxlen=lines + 1)
        offset = count = 0
        while data := unpacked.read(_BLOCK):
            at = -1
            while (at := data.find(b"\n", at + 1)) >= 0:
                starts.append(offset + at + 1)
                count += 1
            offset += len(data)
        self._raw.seek(0)
        return starts[0], min(count, lines)


def open_all(path: str, max_file: int) -> list[File]:
    """Open the files of the log at ``path``, oldest first; none when there is no log. Raises OSError."""
    for _ in range(_TRIES):
        files = _open_once(path, max_file)
        if _is_consistent(path, files):
            return files
        close_all(files)
    raise OSError(f"the log rotates faster than it can be read: {path}")


def open_after(path: str, max_file: int, finished: File) -> list[File]:
    """Open the files that came after ``finished``, which was read to its end and then rotated away; oldest first.

    Where it cannot be found any more, because it was dropped, the files that are left are all newer.
    """
    files = open_all(path, max_file)
    final = os.fstat(finished._raw.fileno()).st_size
    for at, file in enumerate(files):
        if file.inode == finished.inode or (file.compressed and file.size() == final % 2**32):
            close_all(files[: at + 1])
            return files[at + 1 :]
    return files


def close_all(files: list[File]) -> None:
    """Close them all."""
    for file in files:
        file.close()


def is_current(path: str, file: File) -> bool:
    """Return whether ``file`` is still the one that is written."""
    try:
        return os.stat(path).st_ino == file.inode
    except FileNotFoundError:
        return True  # the log was removed; there is nothing to go over to


def _open_once(path: str, max_file: int) -> list[File]:
    files: list[File] = []
    try:
        for number in range(max(max_file, 1)):  # newest first: what rotates meanwhile is met twice rather than never
            name = f"{path}.{number}" if number else path
            for candidate, compressed in ((name, False), (f"{name}.gz", True)):
                try:
                    files.append(File(open(candidate, "rb", buffering=0), number, compressed=compressed))
                    break
                except FileNotFoundError:
                    continue
    except BaseException:
        close_all(files)
        raise
    files.reverse()
    return files


def _is_consistent(path: str, files: list[File]) -> bool:
    if len({file.inode for file in files}) != len(files):
        return False
    if not files:
        return not os.path.exists(path)
    return files[-1].number != 0 or is_current(path, files[-1])
