"""An image archive as a client sends it: members of any order, needed in another.

The archive is read once; what its members hold goes to one unnamed file, so that nothing is ever created under a name that
the archive chose, and a crash leaves nothing. Names are only keys of a dictionary. A member can also be worked on while it
arrives, by who knows what it is without having seen the rest; its bytes are not kept here then.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from boxship.base.errors import InvalidInput
from boxship.snapshots import tar_reader
from boxship.snapshots.compression import Decompressed
from boxship.snapshots.tar_reader import Limits, Readable, TarReader
from boxship.spec.oci import DOCUMENT_LIMIT, InvalidDocument

_LIMITS = Limits(entries=100_000)
_LINKS = 8  # in a row, at most


T = TypeVar("T")  # what becomes of a member that is worked on while it arrives

Arrive = Callable[[str, int, Readable], T | None]
"""Read a member to its end and return what became of it, or return None at once; called with its name and size."""


class _Member(NamedTuple):
    offset: int
    size: int


class _Arrived(NamedTuple, Generic[T]):
    size: int
    outcome: T


class Spool(Generic[T]):
    """The members of an archive. Use it in a ``with``; ``directory`` is where the unnamed file takes its space."""

    def __init__(self, directory: str) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)
        self._members: dict[str, _Member | _Arrived[T] | str] = {}

    def __enter__(self) -> Spool[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fill(self, source: Readable, arrive: Arrive[T] | None = None) -> None:
        """Read the archive, compressed or not, to its end; ``arrive`` is offered each file.

        Raises InvalidTar, DamagedStream, OSError (disk full), and what ``arrive`` raises.
        """
        reader = TarReader(Decompressed(source), limits=_LIMITS)
        offset = 0
        for entry in reader:
            name = _clean(entry.name)
            if entry.type == tar_reader.REGULAR and entry.sparse is None:
                outcome = None
                if arrive is not None:
                    content = _Content(reader)
                    outcome = arrive(name, entry.size, content)
                    if content.failure is not None:  # the archive's own, whatever `arrive` made of it
                        raise content.failure
                if outcome is not None:
                    self._members[name] = _Arrived(entry.size, outcome)
                    continue
                self._members[name] = _Member(offset, entry.size)
                for piece in reader.data():
                    while piece:
                        written = self._file.write(piece)
                        piece = piece[written:]
                        offset += written or 0
            elif entry.type == tar_reader.SYMLINK:
                self._members[name] = _clean(posixpath.join(posixpath.dirname(name), entry.linkname))
            elif entry.type == tar_reader.LINK:
                self._members[name] = _clean(entry.linkname)
        reader.finish()

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def size(self, name: str) -> int:
        """Return a member's length in bytes. Raises InvalidInput when it is not there."""
        return self._member(name).size

    def arrived(self, name: str) -> T | None:
        """Return what became of a member that was worked on, None for one that lies here. Raises as :meth:`size`."""
        member = self._member(name)
        return member.outcome if isinstance(member, _Arrived) else None

    def document(self, name: str) -> bytes:
        """Return a small member whole. Raises InvalidInput when it is not there, InvalidDocument when it is too large."""
        member = self._member(name)
        if member.size > DOCUMENT_LIMIT:
            raise InvalidDocument(f"invalid {name}: {member.size} bytes, more than the limit of {DOCUMENT_LIMIT}")
        return self._read(self._lying(name).offset, member.size)

    def open(self, name: str) -> Readable:
        """Return a reader of a member that lies here. Raises InvalidInput when it is not there."""
        return _Window(self, self._lying(name))

    def _find(self, name: str) -> _Member | _Arrived[T] | None:
        member = self._members.get(_clean(name))
        for _ in range(_LINKS):
            if not isinstance(member, str):
                return member
            member = self._members.get(member)
        return None

    def _member(self, name: str) -> _Member | _Arrived[T]:
        member = self._find(name)
        if member is None:
            raise InvalidInput(f"open {name}: no such file or directory")
        return member

    def _lying(self, name: str) -> _Member:
        member = self._member(name)
        if isinstance(member, _Arrived):
            raise InvalidInput(f"open {name}: it is not kept")
        return member

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)


class _Content:
    """What is left of the member that the archive's reader is at."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self.failure: BaseException | None = None  # what reading the archive met

    def read(self, size: int) -> bytes:
        try:
            piece = self._reader.take(size)
        except BaseException as exc:
            self.failure = exc
            raise
        whole = piece.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(piece) else bytes(piece)  # mostly without a copy


class _Window:
    """Part of the spool as a stream."""

    def __init__(self, spool: Spool[T], member: _Member) -> None:
        self._spool = spool
        self._offset, self._left = member

    def read(self, size: int) -> bytes:
        data = self._spool._read(self._offset, min(size, self._left))  # one module, one thing
        self._offset += len(data)
        self._left -= len(data)
        return data


def _clean(name: str) -> str:
    """Return a member's name relative to the archive's top; ``..`` can't leave it."""
    return posixpath.normpath(f"/{name}").lstrip("/")
