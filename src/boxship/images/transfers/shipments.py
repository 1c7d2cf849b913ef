"""What a shipment says, checked: it comes from another engine, and nothing in it is believed.

An index binds its manifests by their digests, a manifest its image or attestation; what is bound to nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from boxship.base.errors import InvalidInput
from boxship.content.digest import parse
from boxship.images import reference
from boxship.images.indexes import ATTESTED, Member, Origin
from boxship.images.layers import next_chain_id
from boxship.spec.boxship.shipping import Shipment, ShippedBlob, ShippedLayer, ShippedManifest
from boxship.spec.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    InvalidDocument,
    Manifest,
    Platform,
    digest_of,
    parse_config,
    parse_manifest,
)

_MEMBERS = 256  # manifests of an index that may come


class Layer(NamedTuple):
    """A layer and where it belongs."""

    digest: str  # of its blob
    size: int  # bytes of the blob
    diff_id: str
    chain_id: str
    parent: str  # chain ID

    @property
    def short(self) -> str:
        """Return what progress calls it."""
        return self.digest.partition(":")[2][:12]


class Document(NamedTuple):
    """A manifest or index, verbatim."""

    data: bytes
    media_type: str


class ShippedImage(NamedTuple):
    """One image to be made."""

    config: bytes
    layers: Sequence[Layer]  # bottom first
    manifest: Document | None
    origin: Origin | None = None


class Cargo(NamedTuple):
    """All that a shipment brings."""

    images: Sequence[ShippedImage]  # the one that the name means last
    blobs: Sequence[ShippedBlob]  # of attestations
    documents: Sequence[Document]  # the index, and manifests of attestations

    def wanted(self) -> Iterator[tuple[str, int, str]]:
        """Yield digest, size and chain ID ("" without) of each blob that has to be here."""
        for image in self.images:
            yield from ((layer.digest, layer.size, layer.chain_id) for layer in image.layers)
        yield from ((blob.digest, blob.size, "") for blob in self.blobs)


def unpack(shipment: Shipment) -> Cargo:
    """Return what a shipment brings. Raises InvalidDocument, InvalidDigest, InvalidInput for what can't be."""
    for name in shipment.names:
        parsed = reference.parse(name)
        if parsed.tag is None or parsed.digest is not None or str(parsed) != name:
            raise InvalidInput(f'invalid tag "{name}"')
    manifest = Document(shipment.manifest.encode(), shipment.manifest_type) if shipment.manifest else None
    if manifest is not None and not isinstance(parse_manifest(*manifest), Manifest):
        raise InvalidDocument("invalid shipment: its manifest is an index")
    own = ShippedImage(shipment.config.encode(), _layers(shipment.config, shipment.layers), manifest)
    if not shipment.index:
        return Cargo([own], (), ())
    index = Document(shipment.index.encode(), shipment.index_type)
    parsed_index = parse_manifest(*index)
    if not isinstance(parsed_index, Index) or len(shipment.members) > _MEMBERS:
        raise InvalidDocument("invalid shipment: its index is none, or too much of it comes")
    named = {descriptor.digest: descriptor for descriptor in parsed_index.manifests}
    found = [_member(member, named) for member in shipment.members]
    return _beside(own, Origin(digest_of(index.data), parsed_index.manifests), index, found)


class _Found(NamedTuple):
    """A manifest of the index that came."""

    member: Member
    manifest: Document
    config: str
    layers: Sequence[ShippedLayer]
    blobs: Sequence[ShippedBlob]


def _beside(own: ShippedImage, origin: Origin, index: Document, found: Sequence[_Found]) -> Cargo:
    """Return the images of an index, each with its membership and what is attested about it."""
    images = {one.member.manifest: one for one in found if one.member.image}
    attested: dict[str, list[Member]] = {}
    about = {one.digest: (one.annotations or {}).get(ATTESTED, "") for one in origin.manifests}
    for one in found:
        if not one.member.image:
            if about[one.member.manifest] not in images:
                raise InvalidDocument("invalid shipment: an attestation about no image of it")
            attested.setdefault(about[one.member.manifest], []).append(one.member)
    made = []
    for digest, one in images.items():
        members = [one.member, *attested.get(digest, ())]
        layers = _layers(one.config, one.layers)
        made.append(ShippedImage(one.config.encode(), layers, one.manifest, origin._replace(members=members)))
    if own.config not in [image.config for image in made]:
        raise InvalidDocument("invalid shipment: its image is not in its index")
    made.sort(key=lambda image: image.config == own.config)
    attestations = [one for one in found if not one.member.image]
    blobs = {blob.digest: blob for one in attestations for blob in one.blobs}
    return Cargo(made, list(blobs.values()), [index, *(one.manifest for one in attestations)])


def _member(shipped: ShippedManifest, named: Mapping[str, Descriptor]) -> _Found:
    """Check one manifest of the index against what the index says of it."""
    document = Document(shipped.manifest.encode(), shipped.manifest_type)
    digest = digest_of(document.data)
    descriptor = named.get(digest)
    manifest = parse_manifest(*document)
    if descriptor is None or descriptor.size != len(document.data) or not isinstance(manifest, Manifest):
        raise InvalidDocument(f"invalid shipment: {digest} is no manifest of its index")
    if shipped.config:
        image = digest_of(shipped.config.encode())
        if manifest.config.digest != image:
            raise InvalidDocument(f"invalid shipment: {digest} is not the manifest of {image}")
        member = Member(manifest=digest, image=image, platform=descriptor.platform or Platform())
        return _Found(member, document, shipped.config, shipped.layers, ())
    needed = {one.digest: one.size for one in (manifest.config, *manifest.layers)}
    if {blob.digest: blob.size for blob in shipped.blobs} != needed or sum(needed.values()) > DOCUMENT_LIMIT:
        raise InvalidDocument(f"invalid shipment: {digest} comes without its blobs, or they are too large")
    member = Member(manifest=digest, blobs=tuple(needed))
    return _Found(member, document, "", (), shipped.blobs)


def _layers(config: str, blobs: Sequence[ShippedLayer]) -> list[Layer]:
    """Return the layers of an image, bottom first."""
    diff_ids = parse_config(config.encode()).diff_ids
    if len(diff_ids) != len(blobs):
        raise InvalidDocument(f"invalid shipment, layers length mismatch: expected {len(diff_ids)}, got {len(blobs)}")
    layers: list[Layer] = []
    for blob, diff_id in zip(blobs, diff_ids, strict=True):
        parse(blob.digest)
        if blob.size < 0:
            raise InvalidDocument(f"invalid shipment: layer {blob.digest} of {blob.size} bytes")
        parent = layers[-1].chain_id if layers else ""
        layers.append(Layer(blob.digest, blob.size, diff_id, next_chain_id(parent, diff_id), parent))
    return layers
