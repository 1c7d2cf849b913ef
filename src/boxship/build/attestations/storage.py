"""The manifests that put statements beside an image, as BuildKit's format has them (pure).

An index names the image's manifest and an attestation's. The latter's configuration says nothing; its layers are in-toto
statements, each with the type of its predicate as an annotation. Source: BuildKit's docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from boxship.images.indexes import ATTESTATION, ATTESTED, IN_TOTO, PREDICATE_TYPE, REFERENCE_TYPE
from boxship.images.model import LayerRow
from boxship.spec.oci import Descriptor, Platform, digest_of
from boxship.spec.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST

STATEMENT = "https://in-toto.io/Statement/v1"
_LAYERS = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "": OCI_LAYER}
_UNKNOWN = Platform(architecture="unknown", os="unknown")


class Blob(NamedTuple):
    """A document that is stored by its digest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """Its digest."""
        return digest_of(self.data)

    @property
    def descriptor(self) -> Descriptor:
        """Its descriptor."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=len(self.data))


def image_manifest(config: bytes, layers: Sequence[LayerRow]) -> Blob:
    """Return the manifest of an image whose layers lie in the store as ``layers`` say."""
    return _encode(
        OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)),
        layers=[Descriptor(media_type=_LAYERS[row.compression], digest=row.blob, size=row.blob_size) for row in layers],
    )


def statement(predicate_type: str, predicate: Any, subject: Blob, names: Sequence[str]) -> Blob:
    """Return a statement about the image with the manifest ``subject``. ``names`` are package URLs of it, if it has any."""
    algorithm, _, value = subject.digest.partition(":")
    document = {
        "_type": STATEMENT,
        "predicateType": predicate_type,
        "subject": [{"name": name, "digest": {algorithm: value}} for name in names or ("_",)],
        "predicate": predicate,
    }
    return Blob(IN_TOTO, msgspec.json.encode(document))


def attestation(statements: Sequence[tuple[str, Blob]]) -> tuple[Blob, Blob]:
    """Return the manifest and the configuration of an attestation of ``(predicate type, statement)``."""
    layers = [
        msgspec.structs.replace(blob.descriptor, annotations={PREDICATE_TYPE: predicate_type})
        for predicate_type, blob in statements
    ]
    config = Blob(
        OCI_CONFIG,
        msgspec.json.encode(
            {
                "architecture": "unknown",
                "os": "unknown",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            }
        ),
    )
    return _encode(OCI_MANIFEST, config=config.descriptor, layers=layers), config


def index(image: Blob, platform: Platform, attestation: Blob) -> tuple[Blob, list[Descriptor]]:
    """Return the index over an image and what is attested about it, and its entries."""
    about = {ATTESTED: image.digest, REFERENCE_TYPE: ATTESTATION}
    entries = [
        msgspec.structs.replace(image.descriptor, platform=platform),
        msgspec.structs.replace(attestation.descriptor, platform=_UNKNOWN, annotations=about),
    ]
    return _encode(OCI_INDEX, manifests=entries), entries


def _encode(media_type: str, **fields: Any) -> Blob:
    return Blob(media_type, msgspec.json.encode({"schemaVersion": 2, "mediaType": media_type, **fields}))
