"""Small readers that are put in each other's way: look ahead, count, copy."""

from __future__ import annotations

from collections.abc import Callable

from boxship.snapshots.tar_reader import Readable

PIECE = 1024 * 1024


class Peekable:
    """A reader that shows its first bytes without losing them."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._start = b""

    def peek(self, size: int) -> bytes:
        """Return the first ``size`` bytes that are still to be read, fewer at the end of the stream."""
        while len(self._start) < size and (more := self._source.read(PIECE)):
            self._start += more
        return self._start[:size]

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
            return data
        return self._source.read(size)


class Tee:
    """A reader that shows each piece to ``write``, and to ``observe`` how many bytes were read so far."""

    def __init__(
        self,
        source: Readable,
        *,
        write: Callable[[bytes], object] | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self._source = source
        self._write = write
        self._observe = observe
        self.count = 0  # bytes read so far

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        data = self._source.read(size)
        self.count += len(data)
        if self._write is not None and data:
            self._write(data)
        if self._observe is not None:
            self._observe(self.count)
        return data
