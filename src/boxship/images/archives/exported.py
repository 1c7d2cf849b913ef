"""What goes into an archive of an index: its documents and blobs as they came, for all platforms that are here whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from boxship.base.errors import SystemFailure
from boxship.content import BlobNotFound
from boxship.images import indexes
from boxship.images.layers import LayerStore
from boxship.images.model import IMAGE, decode_image
from boxship.spec.oci import Descriptor, InvalidDocument, Manifest, parse_manifest


class Exported(NamedTuple):
    """The parts of one index."""

    descriptor: Descriptor
    documents: dict[str, bytes]  # by digest
    blobs: dict[str, int]  # layers as they lie in the store, with their sizes in bytes
    layers: dict[str, Sequence[Descriptor]]  # by image id, of those that are whole


def export(layers: LayerStore, digest: str) -> Exported | None:
    """Return what is here of an index, None when it is lost itself. Blocks."""
    content = layers.content
    with layers.store.read() as transaction:
        row = indexes.get(transaction, digest)
        configs = {id: decode_image(document).config.encode() for id, document in transaction.list(IMAGE)}
    try:
        found = content.descriptor(digest)
        documents = {digest: content.read_verified(digest)}
    except (BlobNotFound, SystemFailure):
        return None
    exported = Exported(Descriptor(media_type=found.media_type, digest=digest, size=found.size), documents, {}, {})
    for member in row.members if row is not None else ():
        try:
            data = content.read_verified(member.manifest)
            manifest = parse_manifest(data)
            if not isinstance(manifest, Manifest):
                continue
            if not member.image:
                documents |= {blob: content.read_verified(blob) for blob in member.blobs}
            else:
                sizes = {layer.digest: content.descriptor(layer.digest).size for layer in manifest.layers}
                if manifest.config.digest != member.image or member.image not in configs:
                    continue
                exported.blobs.update(sizes)
                exported.layers[member.image] = manifest.layers
                documents[member.image] = configs[member.image]
            documents[member.manifest] = data
        except (BlobNotFound, SystemFailure, InvalidDocument):
            continue  # an archive may leave out what its index names
    return exported
