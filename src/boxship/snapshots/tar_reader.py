"""Tar archives, bytes in and entries out: ustar, pax, GNU and v7, read in one pass over a stream.

Theory of operation: the stream is read in large pieces which a hash may observe; headers are sliced out of the current
piece. ``next()`` gives one entry at a time; its data is read with ``data()`` before the next one, what was not read is
skipped. Extension headers (pax ``x``, GNU ``L`` and ``K``) change the entry they precede and are not entries themselves.

What is accepted follows Go's archive/tar, which Docker reads with: a single zero block at the end of the stream is an
end, a missing one too; links, devices and directories have no data whatever their size says; global pax headers are
skipped. Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and "Storing Sparse
Files".
"""

import os
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from boxship.base.errors import InvalidInput

BLOCK = 512
_PIECE = 1024 * 1024

REGULAR = b"0"
LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
_CONTIGUOUS = b"7"
_OLD_REGULAR = b"\0"
_PAX = b"x"
_PAX_GLOBAL = b"g"
_GNU_LONG_NAME = b"L"
_GNU_LONG_LINK = b"K"
_GNU_SPARSE = b"S"
_WITHOUT_DATA = frozenset((LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))

_XATTR = "SCHILY.xattr."
_ZERO = bytes(BLOCK)
_LARGEST = 2**63 - 1


class InvalidTar(InvalidInput):
    """The bytes are not a tar archive that can be unpacked."""

    def __init__(self, message: str) -> None:
        # Names of any bytes stand in it, and it goes into answers, which are text.
        super().__init__(message.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


class UnexpectedEnd(InvalidTar):
    """The stream ends inside an entry."""

    def __init__(self) -> None:
        super().__init__("unexpected EOF")


class TarTooLarge(InvalidTar):
    """The archive is beyond a limit that keeps hostile ones from filling the host."""


class Readable(Protocol):
    """Any source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, at least one, or none at the end."""


class Limits(NamedTuple):
    """How much an archive may hold."""

    size: int = 1 << 50  # bytes of the whole stream
    entries: int = 10_000_000
    name: int = 4095  # bytes of a name or link target: PATH_MAX without its NUL
    extension: int = 1024 * 1024  # bytes of one pax or long name header, Go's limit
    file: int = 1 << 40  # bytes of a sparse file, holes included
    sparse: int = 250_000  # pieces of one sparse file


class Entry:
    """One file of an archive, with the names as they stand there."""

    __slots__ = (
        "gid",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "sparse",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self, name: str, type: bytes, mode: int) -> None:
        self.name = name  # undecodable bytes as surrogates, see os.fsdecode
        self.type = type  # REGULAR and so on; an unknown one as it stands
        self.mode = mode  # permission bits with setuid, setgid, sticky
        self.uid = 0
        self.gid = 0
        self.size = 0  # bytes of the file; a sparse one's with holes
        self.mtime_ns = 0
        self.linkname = ""
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse: list[tuple[int, int]] | None = None  # (offset, length) of what is not a hole, ascending


class TarReader:
    """Reads the archive in ``stream``; ``observe`` sees each byte once, in order, also those after the archive's end."""

    def __init__(
        self, stream: Readable, *, limits: Limits | None = None, observe: Callable[[bytes], object] | None = None
    ) -> None:
        self._stream = stream
        self._limits = limits or Limits()
        self._observe = observe
        self._piece = b""
        self._position = 0  # in the piece
        self._remaining = 0  # bytes of the current entry's data that follow in the stream
        self._padding = 0
        self._entries = 0
        self.total = 0  # bytes read from the stream
        self.stream_failed = False  # the exception in flight is the stream's own

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """Return the next entry, or None at the end of the archive. Raises InvalidTar and what the stream raises."""
        pax: dict[str, bytes] = {}
        long_name = long_link = None
        while True:
            self._skip_data()
            header = self._header()
            if header is None:
                if pax or long_name is not None or long_link is not None:
                    raise UnexpectedEnd
                return None
            self._entries += 1
            if self._entries > self._limits.entries:
                raise TarTooLarge(f"archive has more than {self._limits.entries} entries")
            type = header[156:157]
            if type == _PAX:
                pax = _pax_records(self._extension(header))
            elif type == _PAX_GLOBAL:
                self._extension(header)
            elif type == _GNU_LONG_NAME:
                long_name = self._extension(header).split(b"\0", 1)[0]
            elif type == _GNU_LONG_LINK:
                long_link = self._extension(header).split(b"\0", 1)[0]
            else:
                return self._entry(header, pax, long_name, long_link)

    def data(self) -> Iterator[memoryview]:
        """Yield what is left of the current entry's data in pieces (of a sparse file without its holes).

        A piece is valid until the next one is asked for. Raises UnexpectedEnd.
        """
        while self._remaining:
            yield self.take(_PIECE)

    def take(self, most: int) -> memoryview:
        """Return between one and ``most`` bytes of the current entry's data, none at its end. Raises UnexpectedEnd."""
        if self._remaining == 0:
            return memoryview(b"")
        piece = self._take(min(self._remaining, most))
        self._remaining -= len(piece)
        return piece

    def finish(self) -> None:
        """Read what follows the archive to the end of the stream, so that ``observe`` has seen all."""
        self._position = len(self._piece)
        while self._fill():
            self._position = len(self._piece)

    # the stream

    def _fill(self) -> bool:
        """Read the next piece after the current one was used up; return False at the end of the stream."""
        self.stream_failed = True
        self._piece = self._stream.read(_PIECE)
        self.stream_failed = False
        self._position = 0
        self.total += len(self._piece)
        if self.total > self._limits.size:
            raise TarTooLarge(f"archive is larger than {self._limits.size} bytes")
        if self._observe is not None:
            self._observe(self._piece)
        return bool(self._piece)

    def _take(self, most: int) -> memoryview:
        """Return between one and ``most`` bytes without a copy."""
        if self._position == len(self._piece) and not self._fill():
            raise UnexpectedEnd
        piece = memoryview(self._piece)[self._position : self._position + most]
        self._position += len(piece)
        return piece

    def _exactly(self, size: int) -> bytes:
        start = self._position
        if start + size <= len(self._piece):
            self._position = start + size
            return self._piece[start : start + size]
        pieces = []
        while size:
            piece = self._take(size)
            pieces.append(bytes(piece))
            size -= len(piece)
        return b"".join(pieces)

    def _skip_data(self) -> None:
        left = self._remaining + self._padding
        self._remaining = self._padding = 0
        if self._position + left <= len(self._piece):
            self._position += left
            return
        while left:
            left -= len(self._take(left))

    # headers

    def _header(self) -> bytes | None:
        """Return the next header with a right checksum, None at the archive's end."""
        if self._position == len(self._piece) and not self._fill():
            return None
        block = self._exactly(BLOCK)
        if block == _ZERO:
            if self._position < len(self._piece) or self._fill():
                block = self._exactly(BLOCK)
                if block != _ZERO:
                    raise InvalidTar("archive/tar: invalid tar header")
            return None
        # The low half of Adler-32 is the sum of all bytes plus one, modulo 65521: the sum at the speed of C.
        total = zlib.adler32(block[:148] + b"        " + block[156:]) & 0xFFFF
        stored = _octal(block[148:156])
        if (stored + 1) % 65521 != total and stored != _signed_sum(block):
            raise InvalidTar("archive/tar: invalid tar header")
        return block

    def _extension(self, header: bytes) -> bytes:
        """Return the data of an extension header."""
        size = _number(header[124:136])
        if not 0 <= size <= self._limits.extension:
            raise InvalidTar("archive/tar: header field too long")
        self._padding = -size % BLOCK
        return self._exactly(size)

    def _entry(self, header: bytes, pax: dict[str, bytes], long_name: bytes | None, long_link: bytes | None) -> Entry:
        name = long_name if long_name is not None else _name(header)
        link = long_link if long_link is not None else header[157:257].split(b"\0", 1)[0]
        size = _number(header[124:136])
        entry = Entry("", header[156:157], _number(header[100:108]) & 0o7777)
        entry.uid = _number(header[108:116])
        entry.gid = _number(header[116:124])
        entry.mtime_ns = _number(header[136:148]) * 1_000_000_000
        if pax:
            name = pax.get("path") or name
            link = pax.get("linkpath") or link
            size = _decimal(pax["size"]) if "size" in pax else size
            entry.uid = _decimal(pax["uid"]) if "uid" in pax else entry.uid
            entry.gid = _decimal(pax["gid"]) if "gid" in pax else entry.gid
            entry.mtime_ns = _time_ns(pax["mtime"]) if "mtime" in pax else entry.mtime_ns
            entry.xattrs = {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
        if entry.type in (_OLD_REGULAR, _CONTIGUOUS):
            entry.type = DIRECTORY if entry.type == _OLD_REGULAR and name.endswith(b"/") else REGULAR
        if entry.type in (CHARACTER, BLOCK_DEVICE):
            entry.major = _number(header[329:337])
            entry.minor = _number(header[337:345])
        if entry.type in _WITHOUT_DATA:
            size = 0
        if not 0 <= size <= _LARGEST or entry.uid < 0 or entry.gid < 0 or entry.major < 0 or entry.minor < 0:
            raise InvalidTar("archive/tar: invalid tar header")
        self._remaining = size
        self._padding = -size % BLOCK
        entry.size = size
        if entry.type == _GNU_SPARSE:
            self._old_sparse(header, entry)
        elif pax and any(key.startswith("GNU.sparse.") for key in pax):
            name = self._pax_sparse(pax, entry) or name
        if len(name) > self._limits.name or len(link) > self._limits.name:
            raise InvalidTar("archive/tar: header field too long")
        if b"\0" in name or b"\0" in link:
            raise InvalidTar("archive/tar: invalid tar header")
        entry.name = os.fsdecode(name)
        entry.linkname = os.fsdecode(link)
        return entry

    # sparse files

    def _old_sparse(self, header: bytes, entry: Entry) -> None:
        """Read the map of a GNU ``S`` entry, which goes on in extra blocks before the data."""
        fields, more, places = header[386:482], header[482], []
        entry.size = _number(header[483:495])
        while True:
            for start in range(0, len(fields), 24):
                if fields[start] == 0:
                    break
                places.append((_number(fields[start : start + 12]), _number(fields[start + 12 : start + 24])))
            if not more:
                break
            if len(places) > self._limits.sparse:
                raise TarTooLarge(f"sparse file has more than {self._limits.sparse} pieces")
            block = self._exactly(BLOCK)
            fields, more = block[:504], block[504]
        entry.type = REGULAR
        self._set_sparse(entry, places)

    def _pax_sparse(self, pax: dict[str, bytes], entry: Entry) -> bytes | None:
        """Read the map of a GNU sparse file in pax format 0.1 (in the header) or 1.0 (before the data).

        Returns the file's real name if the header has it.
        """
        if entry.type != REGULAR:
            raise InvalidTar("archive/tar: invalid tar header")
        size = pax.get("GNU.sparse.realsize") or pax.get("GNU.sparse.size")
        if "GNU.sparse.map" in pax:
            numbers = [_decimal(number) for number in pax["GNU.sparse.map"].split(b",") if number]
        elif pax.get("GNU.sparse.major") == b"1" and pax.get("GNU.sparse.minor") == b"0":
            numbers = self._leading_map()
        else:
            raise InvalidTar("archive/tar: invalid tar header")
        if size is None or len(numbers) % 2:
            raise InvalidTar("archive/tar: invalid tar header")
        entry.size = _decimal(size)
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))
        return pax.get("GNU.sparse.name")

    def _leading_map(self) -> list[int]:
        """Read the map before the data: decimal lines, first their count of pairs, padded to whole blocks."""
        text, lines, wanted = bytearray(), 0, 0
        while lines <= wanted:
            if self._remaining < BLOCK:
                raise InvalidTar("archive/tar: invalid tar header")
            block = self._exactly(BLOCK)
            self._remaining -= BLOCK
            if not lines:  # the count stands in the first block
                pairs = _decimal(block.split(b"\n", 1)[0])
                if pairs > self._limits.sparse:
                    raise TarTooLarge(f"sparse file has more than {self._limits.sparse} pieces")
                wanted = 2 * pairs
            text += block
            lines += block.count(b"\n")
        return [_decimal(line) for line in bytes(text).split(b"\n", wanted + 1)[1 : wanted + 1]]

    def _set_sparse(self, entry: Entry, places: list[tuple[int, int]]) -> None:
        if entry.size < 0:
            raise InvalidTar("archive/tar: invalid tar header")
        if entry.size > self._limits.file:
            raise TarTooLarge(f"sparse file of {entry.size} bytes is larger than {self._limits.file}")
        end = 0
        for offset, length in places:
            if offset < end or length < 0 or offset + length > entry.size:
                raise InvalidTar("archive/tar: invalid tar header")
            end = offset + length
        if sum(length for _, length in places) != self._remaining:
            raise InvalidTar("archive/tar: invalid tar header")
        entry.sparse = places


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] != b"ustar\0":
        return name
    # star(1) marks its archives and keeps two times behind a shorter prefix
    prefix = header[345:476] if header[508:512] == b"tar\0" else header[345:500]
    prefix = prefix.split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix else name


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text:
        return 0
    if not text.isdigit():  # int() would take signs and underscores
        raise InvalidTar("archive/tar: invalid tar header")
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidTar("archive/tar: invalid tar header") from None


def _number(field: bytes) -> int:
    """Return an octal field, or a big-endian two's complement one if its first bit is set (GNU "base-256")."""
    if field[0] < 0x80:
        return _octal(field)
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    if not -_LARGEST <= value <= _LARGEST:
        raise InvalidTar("archive/tar: invalid tar header")
    return value


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise InvalidTar("archive/tar: invalid tar header")
    return int(text)


def _time_ns(text: bytes) -> int:
    """Return ``-12.5``-like seconds as nanoseconds; digits after the ninth are cut."""
    sign, digits = (-1, text[1:]) if text.startswith(b"-") else (1, text)
    seconds, _, fraction = digits.partition(b".")
    if fraction and not fraction.isdigit():
        raise InvalidTar("archive/tar: invalid tar header")
    return sign * (_decimal(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0"))


def _signed_sum(block: bytes) -> int:
    """Return the checksum as old programs computed it, with bytes taken as signed."""
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b"        " + block[156:])


def _pax_records(data: bytes) -> dict[str, bytes]:
    """Return the records "LENGTH KEY=VALUE newline"; an empty value takes the record back, as POSIX says."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 10)
        if space < 0:
            raise InvalidTar("archive/tar: invalid tar header")
        end = position + _decimal(data[position:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals or not key or b"\0" in key:
            raise InvalidTar("archive/tar: invalid tar header")
        name = os.fsdecode(key)
        if value or name.startswith(_XATTR):
            records[name] = value
        else:
            records.pop(name, None)
        position = end
    return records
