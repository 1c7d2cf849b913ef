"""A layer from a function that writes its tar: a second thread writes, since both ends of a pipe block."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from boxship.images.layers import Addition
from boxship.snapshots.tar_reader import Readable
from boxship.snapshots.tar_writer import Writable

EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # diff ID of no files

T = TypeVar("T")

_BUFFER = 1024 * 1024


def layer(addition: Addition, parent: str, write: Callable[[Writable], object]) -> str:
    """Store what ``write(out)`` writes as a layer on ``parent``; return its chain ID. Blocks.

    Raises what ``write`` raises, and what ``Addition.layer`` does.
    """
    return through(write, lambda source: addition.layer(source, parent))


def through(write: Callable[[Writable], object], read: Callable[[Readable], T]) -> T:
    """Return what ``read(source)`` makes of what ``write(out)`` writes meanwhile; raise what either raises."""
    read_fd, write_fd = os.pipe()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with os.fdopen(write_fd, "wb", buffering=_BUFFER) as out:
                write(out)
        except BrokenPipeError:
            pass  # the reader failed and says why
        except BaseException as exc:
            failed.append(exc)

    writer = threading.Thread(target=run, daemon=True, name="layer")
    writer.start()
    try:
        with os.fdopen(read_fd, "rb", buffering=0) as source:
            return read(source)
    finally:
        writer.join()
        if failed:
            raise failed[0]
