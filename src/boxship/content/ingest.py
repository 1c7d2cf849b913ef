"""One blob on its way in: bytes are hashed as they arrive and get their name only when they are whole and on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.content.digest import parse
from boxship.linux import fs

_WRITE_OUT = 16 * 1024 * 1024  # bytes


class Descriptor(NamedTuple):
    """What a blob is called by documents that refer to it (image-spec, descriptor.md)."""

    digest: str
    size: int  # bytes
    media_type: str = ""


class DigestMismatch(InvalidInput):
    """The bytes are not those that the digest names."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"unexpected commit digest {found}, expected {expected}: failed precondition")


class SizeMismatch(InvalidInput):
    """There are more or fewer bytes than promised."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"unexpected commit size {found}, expected {expected}: failed precondition")


class Ingest:
    """Writes one blob; made by ``ContentStore.ingest`` and used in a ``with``.

    Leaving the ``with`` without :meth:`commit` removes what was written. Use it in one thread at a time.
    """

    def __init__(
        self,
        path: str,
        keep: Callable[[str, Descriptor, bool], None],
        *,
        expected_digest: str | None,
        expected_size: int | None,
        hashed: bool,
    ) -> None:
        self.size = 0
        self._written_out = 0  # bytes that the disk was asked to write
        self._path = path
        self._keep = keep  # moves the finished file to its place and records it
        self._expected_digest = expected_digest
        self._expected_size = expected_size
        self._algorithm = "sha256" if expected_digest is None else parse(expected_digest)[0]
        self._hash = hashlib.new(self._algorithm) if hashed else None
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> int:
        """Append and hash ``data``; return its length. Raises SizeMismatch as soon as it is too much, OSError."""
        view = memoryview(data).cast("B")
        if self._expected_size is not None and self.size + len(view) > self._expected_size:
            raise SizeMismatch(self._expected_size, self.size + len(view))
        if self._hash is not None:
            self._hash.update(view)
        self.size += len(view)
        length = len(view)
        while view:
            view = view[os.write(self._fd, view) :]
        if self.size - self._written_out >= _WRITE_OUT:  # the disk may as well begin: there is a sync at the end
            fs.sync_file_range(self._fd, self._written_out, self.size - self._written_out)
            self._written_out = self.size
        return length

    def commit(self, media_type: str = "", *, durable: bool = True, digest: str = "") -> Descriptor:
        """Check the bytes, make them durable and give them their name.

        ``durable`` False leaves it to the caller to sync the file system before anything durable refers to the blob.
        ``digest`` is what the caller found when it hashed the same bytes itself.
        Raises DigestMismatch or SizeMismatch (nothing is kept), OSError when the disk fails.
        """
        if self._fd < 0:
            raise ValueError("this ingest has ended")
        if self._hash is not None:
            digest = f"{self._algorithm}:{self._hash.hexdigest()}"
        elif not digest:
            raise ValueError("nobody has hashed these bytes")
        if self._expected_size is not None and self.size != self._expected_size:
            raise SizeMismatch(self._expected_size, self.size)
        if self._expected_digest is not None and digest != self._expected_digest:
            raise DigestMismatch(self._expected_digest, digest)
        os.fchmod(self._fd, 0o400)
        if durable:
            os.fsync(self._fd)
        descriptor = Descriptor(digest, self.size, media_type)
        self._keep(self._path, descriptor, durable)
        os.close(self._fd)
        self._fd = -1
        return descriptor

    def abort(self) -> None:
        """Remove what was written, unless it was committed."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
