"""What was built as files: the tar of an image's root filesystem, without the files that containers get beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Generator, Sequence

from boxship.base.errors import NotFound
from boxship.images.layers import LayerStore
from boxship.snapshots import TarWriter, tree

_PIECE = 1024 * 1024


async def files(layers: LayerStore, chain_ids: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield the tar of the files that the layers show together; closing the iterator ends its threads.

    The layers are kept meanwhile, whatever becomes of their image. Raises NotFound when they are gone already.
    """
    pieces = _pieces(layers, chain_ids)
    try:
        while piece := await asyncio.shield(step := asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))):
            yield piece
    finally:
        await asyncio.gather(step, return_exceptions=True)
        await asyncio.to_thread(pieces.close)


def _pieces(layers: LayerStore, chain_ids: Sequence[str]) -> Generator[bytes]:
    with layers.addition() as addition:
        if not all(map(addition.reuse, chain_ids)):
            raise NotFound("the image was removed meanwhile")
        read_fd, write_fd = os.pipe()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with os.fdopen(write_fd, "wb", buffering=_PIECE) as out:
                    writer = TarWriter(out, layers.snapshotter.identity)
                    with contextlib.ExitStack() as stack:
                        if chain_ids:
                            root_fd = stack.enter_context(layers.snapshotter.view(chain_ids[-1]))
                            for path, parent_fd, status in tree.walk(root_fd):
                                writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
                    writer.finish()
            except BrokenPipeError:
                pass  # the reader left
            except BaseException as exc:
                failed.append(exc)

        thread = threading.Thread(target=run, daemon=True, name="image-files")
        thread.start()
        try:
            with os.fdopen(read_fd, "rb", buffering=0) as source:
                while piece := source.read(_PIECE):
                    yield piece
        finally:
            thread.join()
        if failed:
            raise failed[0]
