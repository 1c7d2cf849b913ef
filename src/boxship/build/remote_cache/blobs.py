"""What an exported cache consists of beside its documents: layers as they are stored or compressed anew, and archives.

A blob that is made here lies in an unnamed file and is gone with the process. All of it blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import zstandard

from boxship.images.layers import LayerStore
from boxship.images.model import LayerRow
from boxship.snapshots.compression import GzipWriter
from boxship.spec.oci import Descriptor
from boxship.spec.oci.manifest import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)

_PIECE = 1024 * 1024
_OCI = {"": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}
_DOCKER = {"": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP, "zstd": DOCKER_LAYER_ZSTD}
_STORED = {"uncompressed": "", "gzip": "gzip", "zstd": "zstd"}  # the compression that an export asks for


class Blob:
    """Bytes that can be read again and again; :meth:`close` lets go of them."""

    def __init__(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        self.descriptor = descriptor
        self._file = file

    @property
    def size(self) -> int:
        """Bytes of all."""
        return self.descriptor.size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``."""
        return os.pread(self._file.fileno(), size, offset)

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it."""
        offset = 0
        while piece := self.read(offset, _PIECE):
            offset += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def layer(layers: LayerStore, row: LayerRow, space: str, *, compression: str, oci: bool) -> Blob:
    """Return a layer's blob; one that is stored otherwise than ``compression`` says is made anew in the directory ``space``.

    Raises BlobNotFound, BlobCorrupted, OSError.
    """
    types = _OCI if oci else _DOCKER
    wanted = _STORED[compression] if compression else row.compression
    if not compression and row.compression == "zstd" and not oci:
        wanted = "gzip"  # Docker's own format knows no other
    if wanted == row.compression:
        descriptor = Descriptor(media_type=types[wanted], digest=row.blob, size=row.blob_size)
        return Blob(descriptor, layers.content.open(row.blob))

    def write(out: _Hashing) -> None:
        pieces = layers.tar(row)
        if wanted == "gzip":
            gzip = GzipWriter(out)
            for piece in pieces:
                gzip.write(piece)
            gzip.finish()
        elif wanted == "zstd":
            zstd = zstandard.ZstdCompressor().compressobj()
            for piece in pieces:
                out.write(zstd.compress(piece))
            out.write(zstd.flush())
        else:
            for piece in pieces:
                out.write(piece)

    return made(space, types[wanted], write)


def made(space: str, media_type: str, write: Callable[[_Hashing], object]) -> Blob:
    """Return the blob that ``write(out)`` writes."""
    with contextlib.ExitStack() as undo:
        file = undo.enter_context(tempfile.TemporaryFile(dir=space, buffering=_PIECE))
        out = _Hashing(file)
        write(out)
        file.flush()
        undo.pop_all()
    return Blob(Descriptor(media_type=media_type, digest=f"sha256:{out.hash.hexdigest()}", size=out.size), file)


class _Hashing:
    def __init__(self, file: IO[bytes]) -> None:
        self.hash = hashlib.sha256()
        self.size = 0
        self._file = file

    def write(self, data: bytes, /) -> None:
        """Take a piece."""
        self.hash.update(data)
        self.size += len(data)
        self._file.write(data)
