"""The modules that a Go program was built of, as its linker noted them in the section ``.go.buildinfo``.

The section begins with a header of 32 bytes: the magic, the size of a pointer, flags. Since Go 1.18 (flag 2) two strings
follow, each behind its length as a varint: the version of Go, and lines of words between tabs. Older programs point into
their memory image instead, and are left out. Sources: the documentation of debug/buildinfo and runtime/debug; elf(5).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from boxship.build.attestations.packages import Package, plain

SMALLEST = 64 * 1024  # bytes; no Go program is smaller
_MAGIC = b"\xff Go buildinf:"
_INLINE = 2
_UNVERSIONED = b"(devel)"  # the program's own module, built in its directory
_HEADER = 32
_LARGEST = 4 * 1024 * 1024  # bytes of the section that are read
_GUARD = 16  # bytes of a marker on either side of the lines
_SECTIONS = 4096


def modules(fd: int, source: str) -> Iterator[Package]:
    """Yield the modules of the program in an open file, none when it is no such program. Blocks."""
    data = _section(fd)
    if len(data) < _HEADER or not data.startswith(_MAGIC) or not data[15] & _INLINE:
        return
    version, at = _string(data, _HEADER)
    lines, _ = _string(data, at)
    if version.startswith(b"go"):
        release = _text(version[2:].split(b" ")[0])
        yield Package(type="golang", name="stdlib", version=release, source=source)
    found: list[tuple[bytes, bytes]] = []
    for line in lines[_GUARD:-_GUARD].split(b"\n"):
        words = line.split(b"\t")
        if words[0] in (b"mod", b"dep") and len(words) > 2:
            found.append((words[1], words[2]))
        elif words[0] == b"=>" and len(words) > 2 and found:
            found[-1] = (words[1], words[2])  # what was built in place of the one before
    for path, number in found:
        namespace, _, name = _text(path).rpartition("/")
        shown = "" if number == _UNVERSIONED else _text(number)
        if name:
            yield Package(type="golang", namespace=namespace, name=name, version=shown, source=source)


def _section(fd: int) -> bytes:
    """Return the section's first bytes, none when there is none. Never trusts an offset: short reads give less."""
    head = os.pread(fd, 64, 0)
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] != 2 or head[5] not in (1, 2):
        return b""
    order = "<" if head[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", head, 40)
    entry_size, count, names_index = struct.unpack_from(f"{order}HHH", head, 58)
    if entry_size != 64 or not 0 < count <= _SECTIONS or names_index >= count or table >= 1 << 62:
        return b""
    rows = os.pread(fd, count * 64, table)
    if len(rows) < count * 64:
        return b""

    def place(index: int) -> tuple[int, int, int]:
        """Return where a section's name stands, its offset and its size."""
        (name,) = struct.unpack_from(f"{order}I", rows, index * 64)
        offset, size = struct.unpack_from(f"{order}QQ", rows, index * 64 + 24)
        return name, min(offset, 1 << 62), size

    _, names_at, names_size = place(names_index)
    names = os.pread(fd, min(names_size, 1 << 20), names_at)
    for index in range(count):
        name, offset, size = place(index)
        if names.startswith(b".go.buildinfo\0", name):
            return os.pread(fd, min(size, _LARGEST), offset)
    return b""


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the string whose length stands at ``at``, and where it ends."""
    length = shift = 0
    while at < len(data) and shift < 63:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return data[at : at + length], at + length


def _text(value: bytes) -> str:
    return plain(value.decode("utf-8", "replace"))
