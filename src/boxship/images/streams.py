"""Small readers that are put in each other's way: look ahead, count, copy, and write aside."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

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


class Pieces:
    """An iterator of pieces as a reader."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


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


class Aside:
    """Passes pieces to ``write`` in a thread of its own, in order, at most AHEAD of them behind.

    Compressing and hashing leave the interpreter free, so a second processor does them while the caller unpacks. Use it in
    a ``with``; leaving it without :meth:`finish` gives up what waits.
    """

    AHEAD = 8  # pieces, of at most PIECE bytes

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: queue.Queue[bytes | None] = queue.Queue(self.AHEAD)
        self._failure: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
        self._thread.start()

    def __enter__(self) -> Aside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up = True
        self._end()

    def write(self, data: bytes) -> None:
        """Take a piece; raise what an earlier one met."""
        if self._failure is not None:
            raise self._failure
        self._pieces.put(data)

    def finish(self) -> None:
        """Wait until all is written; raise what that met."""
        self._end()
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if self._failure is None and not self._given_up:
                try:
                    self._write(piece)
                except BaseException as exc:
                    self._failure = exc  # the rest is taken and dropped, so that nobody waits for room
