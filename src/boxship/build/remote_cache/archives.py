"""The files of a cache mount as a compressed tar: types, modes, owners, attributes, links and exact times are kept.

Owner and mode of the directory itself are those that ``RUN --mount`` asks for. All of it blocks.
"""

from __future__ import annotations

from boxship.base.identity import IdentityMapping
from boxship.snapshots import apply, owners, tree
from boxship.snapshots.compression import Decompressed, GzipWriter
from boxship.snapshots.tar_reader import Entry, Limits, Readable, TarReader
from boxship.snapshots.tar_writer import TarWriter, Writable

LARGEST = 16 * 1024**3  # bytes of an archive, and of what it unpacks to
_LIMITS = Limits(entries=2_000_000)


def pack(root_fd: int, out: Writable, identity: IdentityMapping | None) -> None:
    """Write the archive of what a directory holds; sockets are left out. Raises OSError."""
    compressed = GzipWriter(out)
    writer = TarWriter(compressed, identity, exact_times=True)
    for path, parent_fd, status in tree.walk(root_fd):
        try:
            writer.add_file(parent_fd, path.rpartition("/")[2], path, status)
        except FileNotFoundError:
            continue
    writer.finish()
    compressed.finish()


def unpack(source: Readable, root_fd: int, identity: IdentityMapping | None) -> None:
    """Fill an empty directory from an archive of a stranger. Raises InvalidTar, InvalidCompression, CompressionBomb, OSError."""

    def own(entry: Entry) -> None:
        if identity is not None:
            owners.to_host(entry, identity)

    reader = TarReader(Decompressed(source, limit=LARGEST), limits=_LIMITS)
    apply.unpack(reader, root_fd, prepare=own)
    reader.finish()
