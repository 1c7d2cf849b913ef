"""A cache as it leaves: its document, a manifest and the blobs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from boxship.base.errors import InvalidInput
from boxship.build.caching.cache import Record
from boxship.build.remote_cache import blobs
from boxship.build.remote_cache.blobs import Blob
from boxship.images.layers import LayerStore, failures
from boxship.images.model import LayerRow
from boxship.registry.client.repository import Document
from boxship.spec.boxship.build_cache import CONFIG, ENTRIES, VERSION, CacheDocument, CacheExport, Entry, MountEntry
from boxship.spec.oci import DOCUMENT_LIMIT, digest_of
from boxship.spec.oci.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST


class Cargo:
    """What is stored elsewhere: blobs, the config, the manifest, and what the name shall mean. Close it at the end."""

    def __init__(self, config: bytes, blobs: Sequence[Blob], wanted: CacheExport) -> None:
        self.config = config
        self.blobs = blobs
        self.manifest = _manifest(config, blobs, oci=wanted.oci_mediatypes)
        self.top = self.manifest if wanted.image_manifest else _index(self.manifest, oci=wanted.oci_mediatypes)

    @property
    def documents(self) -> dict[str, bytes]:
        """The config and the manifests by digest."""
        return {
            digest_of(self.config): self.config,
            self.manifest.digest: self.manifest.data,
            self.top.digest: self.top.data,
        }

    def close(self) -> None:
        """Let go of the blobs."""
        for blob in self.blobs:
            blob.close()


def pack(
    layers: LayerStore,
    records: Iterable[Record],
    mounts: Mapping[str, Blob],
    wanted: CacheExport,
    space: str,
) -> Cargo:
    """Return the cargo of records whose layers are held, and of cache mounts, whose blobs become the cargo's. Blocks.

    Raises InvalidInput for more than a cache may hold, SystemFailure for a layer that is damaged or a full disk.
    """
    with failures(), contextlib.ExitStack() as undo:
        for blob in mounts.values():
            undo.callback(blob.close)
        numbers: dict[str, int] = {}  # by diff ID
        found: list[Blob] = []
        entries = []
        for record in records:
            row = _row(layers, record)
            if row is not None and row.diff_id not in numbers:
                blob = blobs.layer(layers, row, space, compression=wanted.compression, oci=wanted.oci_mediatypes)
                undo.callback(blob.close)
                numbers[row.diff_id] = len(found)
                found.append(blob)
            entries.append(entry(record, -1 if row is None else numbers[row.diff_id]))
        named = [MountEntry(name=name, layer=len(found) + number) for number, name in enumerate(mounts)]
        document = CacheDocument(
            version=VERSION, diff_ids=[*numbers, *("" for _ in mounts)], entries=entries, mounts=named
        )
        config = msgspec.json.encode(document)
        if len(config) > DOCUMENT_LIMIT or len(entries) > ENTRIES:
            raise InvalidInput(f"the build has more results than a cache may hold ({len(entries)})")
        cargo = Cargo(config, [*found, *mounts.values()], wanted)
        undo.pop_all()
        return cargo


def entry(record: Record, layer: int) -> Entry:
    """Return a record as it travels."""
    return Entry(
        kind=record.kind,
        platform=record.platform,
        inputs=record.inputs,
        layer=layer,
        created_ns=record.created_ns,
        description=record.description,
    )


def _row(layers: LayerStore, record: Record) -> LayerRow | None:
    """Return the layer that a record added, None if it added none."""
    if not record.added:
        return None
    row = layers.unpacked(record.layers[-1]) or layers.get(record.layers[-1])
    if row is None:
        raise InvalidInput(f"the layer of {record.description} is gone")
    return row


def _manifest(config: bytes, found: Sequence[Blob], *, oci: bool) -> Document:
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    described = [
        {"mediaType": each.media_type, "digest": each.digest, "size": each.size}
        for each in (blob.descriptor for blob in found)
    ]
    return _document(
        media_type,
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": described,
        },
    )


def _index(manifest: Document, *, oci: bool) -> Document:
    media_type = OCI_INDEX if oci else DOCKER_INDEX
    described = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.data)}
    return _document(media_type, {"schemaVersion": 2, "mediaType": media_type, "manifests": [described]})


def _document(media_type: str, value: Mapping[str, object]) -> Document:
    data = json.dumps(value).encode()
    return Document(digest_of(data), media_type, data)
