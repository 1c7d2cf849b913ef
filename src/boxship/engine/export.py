"""A container's files as a tar stream, written in a thread and read on the loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator

from boxship.snapshots import Snapshotter, TarWriter, tree

_PIECE = 1024 * 1024
_AHEAD = 8  # pieces written before the reader takes one


class _Cancelled(Exception):
    """The reader left."""


class _Pieces:
    """Gathers writes to pieces and hands them over, waiting while the reader is behind."""

    def __init__(self) -> None:
        self.queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self.cancelled = False
        self._buffer = bytearray()

    def write(self, data: bytes) -> None:
        """Take bytes; raises _Cancelled when nobody wants more."""
        if self.cancelled:
            raise _Cancelled
        self._buffer += data
        if len(self._buffer) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Hand over what was gathered."""
        if self._buffer:
            self.queue.put(bytes(self._buffer))
            self._buffer.clear()


async def export(snapshotter: Snapshotter, key: str) -> AsyncIterator[bytes]:
    """Yield the tar of all files that the snapshot ``key`` shows; closing the iterator ends the thread."""
    pieces = _Pieces()

    def write() -> None:
        try:
            with snapshotter.view(key) as root_fd:
                writer = TarWriter(pieces)
                for path, parent_fd, status in tree.walk(root_fd):
                    writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
                writer.finish()
            pieces.flush()
        finally:
            pieces.queue.put(None)

    work = asyncio.ensure_future(asyncio.to_thread(write))
    try:
        while (piece := await asyncio.to_thread(pieces.queue.get)) is not None:
            yield piece
        await work
    finally:
        pieces.cancelled = True
        while not work.done():
            try:
                pieces.queue.get_nowait()
            except queue.Empty:
                await asyncio.sleep(0.001)
        if not work.cancelled():
            work.exception()
