"""A disk that remembers every write and every flush, to be put together again as a power cut would have left it.

The disk is a loop device on the file of a FUSE filesystem that this process serves: what the kernel writes to the device
arrives here as writes, what it flushes (cache flushes and FUA writes, of the journal for instance) as fsync. A power cut may
lose any write that no later flush covers, and keep the others in any order.
"""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from boxship.linux import mount
from harness.fuse import FSYNC, READ, WRITE, Filesystem

_REQUEST = struct.Struct(
    "=QQIIQII"
)  # fuse_read_in, fuse_write_in: handle, offset, size, flags, lock owner, flags, padding


class Write(NamedTuple):
    """Bytes that went to the disk."""

    offset: int
    data: bytes


class Flush(NamedTuple):
    """All writes before it are on the disk for good. ``phase`` is what was going on: the last mark."""

    phase: str


class RecordedFile(Filesystem):
    """The file of a FUSE filesystem, with the log of what was done to it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.log: list[Write | Flush] = []
        self.phase = ""
        self._content = bytearray(content)
        super().__init__(path, len(content))

    def answer(self, operation: int, node: int, rest: bytes) -> bytes | int | None:
        if operation in (READ, WRITE):
            _, offset, size, *_ = _REQUEST.unpack_from(rest)
            if operation == READ:
                return bytes(self._content[offset : offset + size])
            data = rest[_REQUEST.size : _REQUEST.size + size]
            self._content[offset : offset + size] = data
            self.log.append(Write(offset, data))
            return struct.pack("=II", size, 0)
        if operation == FSYNC:
            self.log.append(Flush(self.phase))
            return b""
        return super().answer(operation, node, rest)


class RecordedDisk:
    """A recorded ext4 filesystem of ``size`` bytes, mounted at ``directory / "disk"`` until :meth:`finish`.

    Say with :meth:`mark` what is going on; the flushes carry it. Afterwards :meth:`cuts` are the power cuts.
    """

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._base = make_ext4(directory / "base", size)
        self.disk = directory / "disk"
        self.disk.mkdir()
        with contextlib.ExitStack() as undo:
            self._file = RecordedFile(directory / "served", self._base)
            undo.callback(self._file.close)
            undo.enter_context(mounted(self._file.path / "file", self.disk))
            self._undo = undo.pop_all()

    def mark(self, phase: str) -> None:
        """Name what is done from now on."""
        self._file.phase = phase

    def finish(self) -> None:
        """Unmount the disk and end the recording."""
        self._undo.close()

    @property
    def phases(self) -> list[str]:
        """What was going on at each flush, in order."""
        return [each.phase for each in self._file.log if isinstance(each, Flush)]

    def cut(self, number: int, *, seed: int | None = None) -> bytes:
        """Return the disk after flush ``number`` (from 0) and before the next.

        With a ``seed``, a random choice of the writes that follow has arrived too, in random order.
        """
        image, flushes, later = bytearray(self._base), 0, []
        for each in self._file.log:
            if isinstance(each, Flush):
                flushes += 1
                if flushes > number + 1:
                    break
            elif flushes <= number:
                image[each.offset : each.offset + len(each.data)] = each.data
            else:
                later.append(each)
        if seed is not None:
            chance = random.Random(seed)
            for each in chance.sample(later, chance.randint(0, len(later))):
                image[each.offset : each.offset + len(each.data)] = each.data
        return bytes(image)


def make_ext4(path: Path, size: int) -> bytes:
    """Return the bytes of a new ext4 filesystem, made in the file ``path``. Skips the test without mkfs.ext4."""
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
    try:
        options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", options, str(path)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mkfs.ext4 is not installed")
    return path.read_bytes()


@contextlib.contextmanager
def mounted(file: Path, place: Path) -> Iterator[None]:
    """Mount the filesystem in ``file`` at ``place``. Skips the test where there is no loop device."""
    made = subprocess.run(["mount", "-o", "loop", str(file), str(place)], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no ext4 on a loop device here: {made.stderr.strip()}")
    try:
        yield
    finally:
        try:
            subprocess.run(["umount", str(place)], check=True, capture_output=True)
        except subprocess.CalledProcessError:
            mount.umount2(str(place), mount.MNT_DETACH)
            raise
