"""The json-file log of a container as the shim writes it: append, rotate, compress, and never hold the container up.

Files are named as Docker names them: ``<path>`` is written, ``<path>.1`` is the newest before it, up to ``max_file`` in
all; compressed ones end in ``.gz``. A record that cannot be written (disk full, file system gone) is dropped and counted.
"""

from __future__ import annotations

import os
import time
import zlib

from boxship.wire import frames, jsonlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_COMPRESS_BATCH = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS  # zlib.h, deflateInit2: add 16 for a gzip header and trailer
_MODE = 0o640


class LogFile:
    """Owns the log's descriptor. ``run_aside`` runs the compression in a process of its own and says when it is over."""

    def __init__(
        self,
        path: str,
        fd: int,
        *,
        max_size: int = 0,
        max_file: int = 1,
        compress: bool = False,
        attrs: dict[str, str] | None = None,
        run_aside: Callable[[Callable[[], None], Callable[[], None]], None],
    ) -> None:
        """``fd`` is what :func:`open_log` returned for ``path``. ``max_size`` in bytes, 0 for no bound."""
        self._path = path
        self._max_size = max_size
        self._max_file = max(max_file, 1)
        self._compress = compress and max_file > 1
        self._run_aside = run_aside
        self._compressing = False
        self._attrs = attrs
        self._encoders: dict[int, jsonlog.Encoder] = {}  # made with a stream's first output
        self.dropped = 0  # records
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def write(self, stream: int, data: bytes) -> None:
        """Record output that was just read from ``stream``."""
        encoder = self._encoders.get(stream)
        if encoder is None:
            name = "stdout" if stream == frames.STDOUT else "stderr"
            encoder = self._encoders[stream] = jsonlog.Encoder(name, self._attrs)
        records = encoder.encode(data, time.time_ns())
        if records:
            self._append(records)

    def finish(self) -> None:
        """Record last lines without a newline and close the log."""
        for encoder in self._encoders.values():
            records = encoder.finish(time.time_ns())
            if records:
                self._append(records)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, records: bytes) -> None:
        if not self._max_size:
            self._write(records)
            return
        start = 0
        while start < len(records):
            room = self._max_size - self._size
            if room <= 0 and self._rotate():
                continue
            # The record that reaches the limit still goes into this file, as in Docker.
            end = len(records) if room <= 0 else records.find(b"\n", start + room - 1) + 1 or len(records)
            self._write(records[start:end])
            start = end

    def _write(self, records: bytes) -> None:
        """Write whole records or none: what a failure left of them is cut off again."""
        try:
            written = os.write(self._fd, records)
            while written < len(records):
                written += os.write(self._fd, memoryview(records)[written:])
            self._size += written
        except OSError:
            self.dropped += records.count(b"\n")
            self._cut()

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            pass

    def _rotate(self) -> bool:
        """Begin a new file; False when that is not possible now, then the old one grows on."""
        if self._compressing:
            return False
        fresh = f"{self._path}.new"
        try:
            fd = open_log(fresh, os.O_TRUNC)
        except OSError:
            return False
        try:
            if self._max_file > 1:
                self._shift()
            os.rename(fresh, self._path)
        except OSError:
            os.close(fd)
            return False
        os.close(self._fd)
        self._fd = fd
        self._size = 0
        if self._compress:
            self._compressing = True
            self._run_aside(self._compress_newest, self._compressed)
        return True

    def _shift(self) -> None:
        """Give each old file the next number; the last one is dropped."""
        suffix = ".gz" if self._compress else ""
        _remove(f"{self._path}.{self._max_file - 1}{suffix}")
        for number in range(self._max_file - 1, 1, -1):
            _rename(f"{self._path}.{number - 1}{suffix}", f"{self._path}.{number}{suffix}")
        _rename(self._path, f"{self._path}.1")

    def _compress_newest(self) -> None:
        """Replace ``<path>.1`` by ``<path>.1.gz``; a reader finds one of them whole at any time."""
        source = f"{self._path}.1"
        temporary = f"{source}.gz.tmp"
        packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        with open(source, "rb", 0) as plain, open(temporary, "wb", 0) as packed:
            os.fchmod(packed.fileno(), _MODE)
            while batch := plain.read(_COMPRESS_BATCH):
                packed.write(packer.compress(batch))
            packed.write(packer.flush())
        os.rename(temporary, f"{source}.gz")
        os.unlink(source)

    def _compressed(self) -> None:
        self._compressing = False


def open_log(path: str, extra: int = 0) -> int:
    """Open the log at ``path``, which is made if need be; ``extra`` flags of open(2). Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | extra, _MODE)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
