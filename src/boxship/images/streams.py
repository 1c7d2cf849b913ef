"""Small readers that are put in each other's way: look ahead, count, copy; and what goes on beside them in threads."""

from __future__ import annotations

import threading
from collections import deque
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
    """Passes pieces to ``write`` in a thread of its own, in order, at most AHEAD bytes behind.

    Compressing and hashing leave the interpreter free, so a second processor does them while the caller unpacks. Use it in
    a ``with``; leaving it without :meth:`finish` gives up what waits.
    """

    AHEAD = 8 * 1024 * 1024  # enough that neither thread waits for the other's turn on a busy machine

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: deque[bytes] = deque()
        self._size = 0  # bytes that wait
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
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
        with self._changed:
            while self._size >= self.AHEAD and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            self._pieces.append(data)
            self._size += len(data)
            if len(self._pieces) == 1:
                self._changed.notify()

    def finish(self) -> None:
        """Wait until all is written; raise what that met."""
        self._end()
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            try:
                self._write(piece)
            except BaseException as exc:
                with self._changed:
                    self._failure = exc
                    self._changed.notify()
                return

    def _next(self) -> bytes | None:
        """Return the next piece, None when there will be none."""
        with self._changed:
            while not self._pieces and not self._ended:
                self._changed.wait()
            if self._given_up or not self._pieces:
                return None
            piece = self._pieces.popleft()
            full, self._size = self._size >= self.AHEAD, self._size - len(piece)
            if full and self._size < self.AHEAD:
                self._changed.notify()
            return piece


class WritingOut:
    """Begins to write to disk what was stored, in a thread, so that less is left to wait for at the end.

    One call of ``sync`` at a time, whenever STEP bytes more have been stored. Closing it waits for that call.
    """

    STEP = 32 * 1024 * 1024

    def __init__(self, sync: Callable[[], object]) -> None:
        self._sync = sync
        self._bytes = 0  # since the last one
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def wrote(self, size: int) -> None:
        """Learn that so many bytes more are there."""
        self._bytes += size
        if self._bytes >= self.STEP and (self._thread is None or not self._thread.is_alive()):
            self._bytes = 0
            self._thread = threading.Thread(target=self._run, name="writing out", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait for what was begun; raise what it met, which the kernel tells only once."""
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait for what was begun."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._sync()
        except BaseException as exc:
            self._failure = self._failure or exc
