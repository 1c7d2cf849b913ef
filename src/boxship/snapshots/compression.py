"""Layer compression: recognised by its first bytes, streamed in constant memory, bounded against bombs.

Everything runs in this process: no program of the host or, worse, of a container is ever asked to decompress.
"""

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard
from isal import igzip_lib, isal_zlib

from boxship.base.errors import InvalidInput
from boxship.snapshots.tar_reader import Readable
from boxship.snapshots.tar_writer import Writable

_PIECE = 1024 * 1024
_READ = 256 * 1024
_MEMORY = 128 * 1024 * 1024  # bytes of dictionary or window that a stream may ask for
_FREE = 64 * 1024 * 1024  # bytes that come out before the ratio counts
_GZIP_PIECE = 256 * 1024  # bytes
_GZIP_WBITS = 31


class InvalidCompression(InvalidInput):
    """The compressed stream is damaged or ends early."""


class CompressionBomb(InvalidInput):
    """The stream grows beyond what is allowed."""


class _Engine(Protocol):
    """One member, frame or stream being decompressed; the interface of bz2, lzma and igzip_lib."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


class _Zstd:
    """A zstd frame behind that interface.

    The library cannot bound what one call gives out, so the input is fed in pieces: 1 KiB of it makes at most 32 MiB
    (blocks of four bytes that repeat one byte 128 Ki times).
    """

    needs_input = True

    def __init__(self) -> None:
        self._object = zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: memoryview, max_length: int, /) -> bytes:  # noqa: ARG002
        return self._object.decompress(data)


class _Kind:
    """One compression: how it starts, how much input one call may get, what undoes it."""

    def __init__(self, name: str, magic: bytes, feed: int, new: Callable[[], _Engine]) -> None:
        self.name = name
        self.magic = magic
        self.feed = feed
        self.new = new


KINDS: tuple[_Kind, ...] = (
    _Kind("gzip", b"\x1f\x8b\x08", _READ, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)),
    _Kind("zstd", b"\x28\xb5\x2f\xfd", 1024, lambda: _Zstd()),
    _Kind("xz", b"\xfd7zXZ\x00", _READ, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)),
    _Kind("bzip2", b"BZh", _READ, lambda: bz2.BZ2Decompressor()),
)
_LONGEST = max(len(kind.magic) for kind in KINDS)
# OSError is what bz2 raises for bad data; nothing else can raise it inside a decompressor.
_ERRORS: tuple[type[Exception], ...] = (
    igzip_lib.IsalError,  # type: ignore[assignment]  # its stub declares the class as an instance
    lzma.LZMAError,
    zstandard.ZstdError,
    ValueError,
    OSError,
)


def detect(start: bytes) -> str:
    """Return "gzip", "zstd", "xz", "bzip2", or "" for anything else, by the first bytes of a stream."""
    kind = _kind(start)
    return kind.name if kind is not None else ""


class Decompressed:
    """A reader of what ``stream`` holds, compressed in one of the known ways (``name``) or not at all (``""``).

    Concatenated members are one stream, zeros between and after them are padding. At most ``limit`` bytes come out, and
    no more than ``ratio`` times what went in, which is looked at after the first 64 MiB (deflate's own bound is 1032).
    """

    def __init__(self, stream: Readable, *, limit: int = 1 << 42, ratio: int = 1100) -> None:
        self._stream = stream
        self._limit = limit
        self._ratio = ratio
        self._consumed = 0
        self._produced = 0
        start = self._start(b"")
        kind = _kind(start)
        self.name = kind.name if kind is not None else ""
        self._pieces = self._plain(start) if kind is None else self._members(kind, start)
        self._piece = b""
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end.

        Raises InvalidCompression, CompressionBomb and what the stream raises.
        """
        if self._position == len(self._piece):
            self._piece, self._position = next(self._pieces, b""), 0
            self._produced += len(self._piece)
            if self._produced > self._limit:
                raise CompressionBomb(f"archive is larger than {self._limit} bytes")
            if self._produced > _FREE and self._produced > self._consumed * self._ratio:
                raise CompressionBomb(f"{self.name}: grows more than {self._ratio} times")
        start = self._position
        self._position = min(start + size, len(self._piece))
        return self._piece if self._position - start == len(self._piece) else self._piece[start : self._position]

    def _source(self) -> bytes:
        data = self._stream.read(_READ)
        self._consumed += len(data)
        return data

    def _start(self, data: bytes) -> bytes:
        """Return ``data`` and as much after it as is needed to recognise a compression."""
        while len(data) < _LONGEST and (more := self._source()):
            data += more
        return data

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._source()

    def _members(self, kind: _Kind, data: bytes) -> Iterator[bytes]:
        while data:
            if not data.startswith(kind.magic):
                raise InvalidCompression(f"{kind.name}: invalid header")
            engine = kind.new()
            view, position = memoryview(data), 0
            while not engine.eof:
                fed = view[:0]
                if engine.needs_input:
                    if position == len(view):
                        view, position = memoryview(self._source()), 0
                        if not view:
                            raise InvalidCompression("unexpected EOF")
                    fed = view[position : position + kind.feed]
                    position += len(fed)
                try:
                    piece = engine.decompress(fed, _PIECE)
                except _ERRORS as exc:
                    raise InvalidCompression(f"{kind.name}: invalid data: {exc}") from exc
                if piece:
                    yield piece
            data = (engine.unused_data + view[position:]).lstrip(b"\0")
            while not data and (more := self._source()):
                data = more.lstrip(b"\0")
            data = self._start(data)


class GzipWriter:
    """Compresses what is written to it into ``out``; equal bytes give equal bytes. Call :meth:`finish` at the end.

    What isal makes of the same bytes depends on the pieces that it gets them in, so it always gets the same ones.
    """

    def __init__(self, out: Writable, level: int = 1) -> None:
        self._out = out
        self._object = isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP_WBITS)
        self._waiting = bytearray()  # less than a piece

    def write(self, data: bytes) -> None:
        """Take all of ``data``."""
        rest = memoryview(data)
        if self._waiting:
            missing = _GZIP_PIECE - len(self._waiting)
            self._waiting += rest[:missing]
            rest = rest[missing:]
            if len(self._waiting) < _GZIP_PIECE:
                return
            self._compress(self._waiting)
            self._waiting = bytearray()
        while len(rest) >= _GZIP_PIECE:
            self._compress(rest[:_GZIP_PIECE])
            rest = rest[_GZIP_PIECE:]
        self._waiting += rest

    def finish(self) -> None:
        """Write what is left."""
        self._compress(self._waiting)
        self._out.write(self._object.flush())

    def _compress(self, piece: bytearray | memoryview) -> None:
        compressed = self._object.compress(piece)
        if compressed:
            self._out.write(compressed)


def _kind(start: bytes) -> _Kind | None:
    return next((kind for kind in KINDS if start.startswith(kind.magic)), None)
