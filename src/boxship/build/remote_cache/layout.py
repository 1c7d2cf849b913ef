"""A cache as an OCI layout (image-spec, image-layout.md) in a tar; the index comes last, so what breaks off names nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

from boxship.build.remote_cache.cargo import Cargo
from boxship.snapshots.tar_reader import BLOCK, REGULAR, Entry
from boxship.snapshots.tar_writer import TarWriter
from boxship.spec.oci.manifest import OCI_INDEX

TAG = "org.opencontainers.image.ref.name"  # annotation


def pieces(cargo: Cargo, tag: str) -> Iterator[bytes]:
    """Yield the archive, in whose index the cache has the name ``tag``; blocks."""
    out = _Pieces()
    writer = TarWriter(out)
    _add(writer, out, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    written: set[str] = set()
    for blob in cargo.blobs:
        if blob.descriptor.digest in written:
            continue
        written.add(blob.descriptor.digest)
        _head(writer, _path(blob.descriptor.digest), blob.size)
        yield out.take()
        yield from blob.pieces()
        out.write(bytes(-blob.size % BLOCK))
    for digest, data in cargo.documents.items():
        _add(writer, out, _path(digest), data)
    described = {
        "mediaType": cargo.top.media_type,
        "digest": cargo.top.digest,
        "size": len(cargo.top.data),
        "annotations": {TAG: tag},
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described]}
    _add(writer, out, "index.json", json.dumps(index).encode())
    writer.finish()
    yield out.take()


class _Pieces:
    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _head(writer: TarWriter, name: str, size: int) -> None:
    entry = Entry(name, REGULAR, 0o644)
    entry.size = size
    writer.add(entry)


def _add(writer: TarWriter, out: _Pieces, name: str, data: bytes) -> None:
    _head(writer, name, len(data))
    out.write(data + bytes(-len(data) % BLOCK))
