"""A blob that arrives in pieces, in any order, and survives the process.

Beside the file of bytes lies a map: for each chunk how many of its bytes, from its start, are there. Bytes are written
before the map tells of them, so after a kill the map is right; after a power cut it may tell of bytes that never reached
the disk, which the digest finds. Bytes that the map tells of are never written again: what was hashed is what lies there.

The blob is hashed in order as its front grows. :meth:`Partial.reader` follows that front from another thread.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Sequence

from boxship.base import atomicfile
from boxship.base.errors import BoxshipError
from boxship.content.digest import parse
from boxship.content.ingest import Descriptor, DigestMismatch, SizeMismatch

PREFIX = "partial-"
MAP = ".map"
CHUNK = 4 * 1024 * 1024
_HEADER = struct.Struct("<4sIQ")  # magic, bytes of a chunk, bytes of the blob
_MAGIC = b"BXP1"
_READ = 1024 * 1024


class ReadStopped(BoxshipError):
    """The reader was told that nobody needs its bytes any more."""


class Partial:
    """Made by ``ContentStore.partial``; :meth:`close` keeps it for another time, :meth:`discard` does not.

    ``resumed`` is how many bytes an earlier attempt left. Writes come from any thread.
    """

    def __init__(self, path: str, digest: str, size: int, keep: Callable[[str, Descriptor, bool], None]) -> None:
        self.digest = digest
        self.size = size
        self.path = path
        self._keep = keep  # moves the finished file to its place and records it
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._hash = hashlib.new(parse(digest)[0])
        self._hashed = 0  # bytes of the front that are hashed and may be read
        self._verified = False
        self._committing = threading.Lock()  # two operations may wait for the same blob
        self._committed = False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._map_fd = os.open(path + MAP, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._done = self._read_map()
        self._here = self.resumed = sum(self._done)

    def missing(self) -> Sequence[tuple[int, int]]:
        """Return the parts that are not here, each as start and end, in order; none is longer than a chunk."""
        with self._changed:
            parts = [(index * CHUNK + done, self._end(index)) for index, done in enumerate(self._done)]
        return [(start, end) for start, end in parts if start < end]

    def write(self, offset: int, data: bytes) -> int:
        """Take bytes at ``offset``; those that are here are skipped. Return how many of all are here now.

        Raises SizeMismatch beyond the end, ValueError for a gap in a chunk, OSError.
        """
        view = memoryview(data)
        if offset + len(view) > self.size:
            raise SizeMismatch(self.size, offset + len(view))
        with self._changed:
            while view:
                index = offset // CHUNK
                start = index * CHUNK + self._done[index]
                part = view[: self._end(index) - offset]
                if start < offset:
                    raise ValueError("bytes of a chunk come in order")
                fresh = part[start - offset :]
                if fresh:
                    _pwrite(self._fd, fresh, start)
                    self._done[index] += len(fresh)
                    self._here += len(fresh)
                    _pwrite(self._map_fd, memoryview(struct.pack("<I", self._done[index])), _HEADER.size + 4 * index)
                    if start == self._hashed:
                        self._hash.update(fresh)
                        self._hashed += len(fresh)
                view, offset = view[len(part) :], offset + len(part)
            self._advance()
            self._changed.notify_all()
            return self._here

    def verify(self) -> None:
        """Check the whole blob. Raises SizeMismatch, DigestMismatch; who reads it gets the same."""
        with self._changed:
            self._advance()
            if self._hashed != self.size:
                raise SizeMismatch(self.size, self._hashed)
            found = f"{self._hash.name}:{self._hash.hexdigest()}"
            if found != self.digest:
                raise DigestMismatch(self.digest, found)
            self._verified = True
            self._changed.notify_all()

    def restart(self) -> None:
        """Forget all bytes, when nobody reads yet: what an earlier attempt left was no good."""
        with self._changed:
            os.ftruncate(self._map_fd, 0)
            os.ftruncate(self._fd, 0)
            self._hash = hashlib.new(parse(self.digest)[0])
            self._hashed = self._here = self.resumed = 0
            self._done = self._read_map()

    def fail(self, error: BaseException) -> None:
        """Let readers raise ``error``: no more bytes will come."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def commit(self, media_type: str, *, durable: bool = True) -> Descriptor:
        """Give the verified blob its name. ``durable`` False leaves it to the caller to sync the file system.

        The file stays readable through :meth:`reader`; a second call changes nothing. Raises OSError when the disk fails.
        """
        if not self._verified:
            raise ValueError("only a verified blob gets its name")
        descriptor = Descriptor(self.digest, self.size, media_type)
        with self._committing:
            if not self._committed:
                self._commit(descriptor, durable=durable)
            self._committed = True
        return descriptor

    def _commit(self, descriptor: Descriptor, *, durable: bool) -> None:
        os.fchmod(self._fd, 0o400)
        if durable:
            os.fsync(self._fd)
        self._keep(self.path, descriptor, durable)
        atomicfile.remove(self.path + MAP)

    def close(self) -> None:
        """Close the files; call it when nobody reads any more."""
        for fd in (self._fd, self._map_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._map_fd = -1

    def discard(self) -> None:
        """Remove what was written."""
        atomicfile.remove(self.path)
        atomicfile.remove(self.path + MAP)

    def reader(self) -> PartialReader:
        """Return a reader from the start; what an earlier attempt left is only shown once all is verified."""
        return PartialReader(self)

    def read_at(self, offset: int, size: int, stopped: threading.Event) -> bytes:
        """Wait for bytes at ``offset`` and return some of them, none at the verified end.

        Raises what was told to :meth:`fail`, and ReadStopped once ``stopped`` is set.
        """
        with self._changed:
            while True:
                if stopped.is_set():
                    raise ReadStopped("unexpected EOF")
                if self._error is not None:
                    raise self._error
                if self._verified or (offset < self._hashed and not self.resumed and offset < self.size):
                    break
                self._changed.wait()
            front = self._hashed
        return os.pread(self._fd, min(size, front - offset), offset)

    def wake(self) -> None:
        """Let readers look again whether they were stopped."""
        with self._changed:
            self._changed.notify_all()

    def _advance(self) -> None:
        """Hash what lies beyond the front and became part of it; the lock is held."""
        while self._hashed < self.size:
            index = self._hashed // CHUNK
            there = index * CHUNK + self._done[index]
            if there <= self._hashed:
                return
            data = os.pread(self._fd, min(there - self._hashed, _READ), self._hashed)
            if not data:
                return  # a power cut took what the map tells of: too short is found by `verify`
            self._hash.update(data)
            self._hashed += len(data)

    def _end(self, index: int) -> int:
        return min((index + 1) * CHUNK, self.size)

    def _read_map(self) -> list[int]:
        """Return the map of an earlier attempt, or begin a new one."""
        count = -(-self.size // CHUNK)
        layout = struct.Struct(f"<{count}I")
        data = os.pread(self._map_fd, _HEADER.size + layout.size + 1, 0)
        if len(data) == _HEADER.size + layout.size and _HEADER.unpack_from(data) == (_MAGIC, CHUNK, self.size):
            done = layout.unpack_from(data, _HEADER.size)
            length = os.fstat(self._fd).st_size
            ends = [self._end(index) - index * CHUNK for index in range(count)]
            sound = all(have <= end for have, end in zip(done, ends, strict=True))
            if sound and all(index * CHUNK + have <= length for index, have in enumerate(done) if have):
                return list(done)
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._map_fd, 0)
        _pwrite(self._map_fd, memoryview(_HEADER.pack(_MAGIC, CHUNK, self.size) + layout.pack(*[0] * count)), 0)
        return [0] * count


class PartialReader:
    """Reads a partial blob from its start as it grows."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._offset = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let the thread that reads here raise ReadStopped."""
        self._stopped.set()
        self._partial.wake()

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end, which is reached only when the digest is right."""
        data = self._partial.read_at(self._offset, size, self._stopped)
        self._offset += len(data)
        return data


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
