"""A container's files as a tar stream, written in a thread and read on the loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from boxship.engine.rootfs import threads
from boxship.snapshots import Snapshotter, TarWriter, tree
from boxship.snapshots.tar_writer import Writable


def export(snapshotter: Snapshotter, key: str) -> AsyncIterator[bytes]:
    """Yield the tar of all files that the snapshot ``key`` shows; closing the iterator ends the thread."""

    def write(out: Writable) -> None:
        with snapshotter.view(key) as root_fd:
            writer = TarWriter(out, snapshotter.identity)
            for path, parent_fd, status in tree.walk(root_fd):
                with contextlib.suppress(FileNotFoundError):  # a running container deleted it
                    writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
            writer.finish()

    return threads.stream(write)
