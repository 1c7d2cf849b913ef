"""Reading json-file logs back: the last lines, a span of time, and on as they grow, across rotated and packed files.

As in Docker ``tail`` counts records of both streams, and the time bounds apply to what it leaves. A record is a line of
output, or a piece of a long one. Torn records and lines that are something else are passed over.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ParamSpec, Protocol, TypeVar
from urllib.parse import quote_plus

from boxship.base import clock
from boxship.logs import files
from boxship.logs.watch import DirectoryWatch
from boxship.wire import frames, jsonlog

_BATCH = 256 * 1024  # bytes read and turned into records at once
_STREAMS = {"stdout": frames.STDOUT, "stderr": frames.STDERR}

Record = jsonlog.Record
P = ParamSpec("P")
T = TypeVar("T")


class Query(Protocol):
    """What to read; times are nanoseconds since 1970, 0 "no bound"; ``tail`` -1 "all"."""

    @property
    def stdout(self) -> bool: ...

    @property
    def stderr(self) -> bool: ...

    @property
    def follow(self) -> bool: ...

    @property
    def since(self) -> int: ...

    @property
    def until(self) -> int: ...

    @property
    def tail(self) -> int: ...


class JsonFileReader:
    """Reads the log at ``path`` with up to ``max_file`` files; holds nothing open between calls."""

    def __init__(self, path: str, max_file: int = 1) -> None:
        self._path = path
        self._max_file = max_file

    async def read(self, query: Query, *, ended: asyncio.Event) -> AsyncIterator[list[Record]]:
        """Yield batches of records in the order they were written, never an empty one.

        With ``follow`` it goes on until ``ended`` is set, which means that nothing more will be written; then everything
        that was written has been yielded. A log that does not exist is empty. Raises OSError.
        """
        span = _Span(query)
        if not query.follow:
            async for batch in self._read_written(span, query.tail):
                yield batch
            return
        with DirectoryWatch(os.path.dirname(self._path) or ".") as watch:
            async for batch in self._read_on(span, query.tail, _Follow(watch, ended, query.until)):
                yield batch

    async def _read_written(self, span: _Span, tail: int) -> AsyncIterator[list[Record]]:
        """Read what is there now; a program that writes faster than we read must not make this endless."""
        opened = await _in_thread(self._open, tail)
        try:
            sizes = [file.size() if not file.compressed else None for file in opened]
            for file, size in zip(opened, sizes, strict=True):
                rest = b""
                while not span.passed and (size is None or file.position < size):
                    wanted = _BATCH if size is None else min(_BATCH, size - file.position)
                    records, rest, got = await _in_thread(_read_records, file, rest, wanted)
                    if batch := span.select(records):
                        yield batch
                    if not got:
                        break
        finally:
            files.close_all(opened)

    async def _read_on(self, span: _Span, tail: int, follow: _Follow) -> AsyncIterator[list[Record]]:
        todo = await _in_thread(self._open, tail)
        rest = b""
        try:
            while True:
                last_look = follow.over()  # before the look: what was written before the end is read by it
                while todo:
                    file = todo[0]
                    current = len(todo) == 1 and await _in_thread(files.is_current, self._path, file)
                    records, rest, got = await _in_thread(_read_records, file, rest, _BATCH)
                    if batch := span.select(records):
                        yield batch
                    if span.passed:
                        return
                    if got:
                        continue
                    if current:
                        break
                    rest = b""
                    if len(todo) == 1:
                        todo += await _in_thread(files.open_after, self._path, self._max_file, file)
                    todo.pop(0).close()
                if last_look:
                    return
                await follow.wait()
                if not todo:
                    todo = await _in_thread(files.open_all, self._path, self._max_file)
        finally:
            files.close_all(todo)

    def _open(self, tail: int) -> list[files.File]:
        """Open the files that hold the last ``tail`` records, at the first of them; the newest file is among them."""
        opened = files.open_all(self._path, self._max_file)
        if tail < 0:
            return opened
        wanted: list[files.File] = []
        for file in reversed(opened):
            if tail == 0 and wanted:
                file.close()
                continue
            offset, count = file.find_tail(tail)
            file.skip(offset)
            tail -= count
            wanted.insert(0, file)
        return wanted


def render(records: Iterable[Record], *, timestamps: bool, details: bool, multiplexed: bool) -> bytes:
    """Return the bytes that GET /containers/{id}/logs sends for ``records``: a frame for each, or plain text."""
    out: list[bytes] = []
    for record in records:
        line = record.log
        if details:
            line = _details(record.attrs) + b" " + line
        if timestamps:
            line = clock.rfc3339_fixed(record.time_ns).encode() + b" " + line
        if multiplexed:
            out.append(frames.header(_STREAMS.get(record.stream, frames.STDOUT), len(line)))
        out.append(line)
    return b"".join(out)


class _Span:
    """Chooses the records of a query; ``passed`` once no later one can belong to it."""

    def __init__(self, query: Query) -> None:
        self._streams = {name for name in ("stdout", "stderr") if getattr(query, name)}
        self._since = query.since
        self._until = query.until
        self.passed = False

    def select(self, records: list[Record]) -> list[Record]:
        if self._until:
            for at, record in enumerate(records):
                if record.time_ns > self._until:
                    self.passed = True
                    records = records[:at]
                    break
        if len(self._streams) == 2 and not self._since:
            return records
        return [record for record in records if record.stream in self._streams and record.time_ns >= self._since]


class _Follow:
    """Waits for more to read, as long as more can come."""

    def __init__(self, watch: DirectoryWatch, ended: asyncio.Event, until: int) -> None:
        self._watch = watch
        self._ended = ended
        self._until = until

    def over(self) -> bool:
        return self._ended.is_set() or self._left() == 0

    async def wait(self) -> None:
        await self._watch.wait(self._ended, self._left())

    def _left(self) -> float | None:
        return max(0.0, (self._until - time.time_ns()) / 1e9) if self._until else None


def _read_records(file: files.File, rest: bytes, size: int) -> tuple[list[Record], bytes, int]:
    """Read on in ``file``; return its next records, the beginning of an unfinished one, and how many bytes were read."""
    data = file.read(size)
    lines = (rest + data).split(b"\n")
    return jsonlog.parse_lines(lines[:-1]), lines[-1], len(data)


def _details(attrs: dict[str, str]) -> bytes:
    return ",".join(f"{quote_plus(key)}={quote_plus(str(attrs[key]))}" for key in sorted(attrs)).encode()


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread; even when cancelled it returns only after the thread let go of the files."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
