"""What ``manifests=1`` adds to a listing and to inspect: the manifests of an image, those that are here and those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from boxship.base.errors import SystemFailure
from boxship.content import BlobNotFound
from boxship.images.indexes import ATTESTED, IndexRow, Member
from boxship.images.layers import LayerStore
from boxship.images.model import IMAGE, LAYER, Image, ImageUser, LayerRow, decode_image, decode_layer
from boxship.spec.docker.image import Attestation, ManifestImage, ManifestSize, ManifestSummary, UnpackedSize
from boxship.spec.oci import Descriptor, Index, InvalidDocument, Platform, parse_manifest


class Manifests:
    """Describes images by their manifests, all from one moment of the store. Blocks."""

    def __init__(self, layers: LayerStore, users: Iterable[ImageUser]) -> None:
        self._content = layers.content
        with layers.store.read() as transaction:
            self._layers = {chain_id: decode_layer(row) for chain_id, row in transaction.list(LAYER)}
            self._images = {id: decode_image(row) for id, row in transaction.list(IMAGE)}
        self._users: dict[str, list[str]] = {}
        for user in users:
            self._users.setdefault(user.image_id, []).append(user.container_id)

    def size(self, row: IndexRow) -> int:
        """Return the bytes of all layers of an index's images, each layer once."""
        chain_ids = {
            id for member in row.images if member.image in self._images for id in self._images[member.image].layers
        }
        return sum(self._layers[chain_id].size for chain_id in chain_ids if chain_id in self._layers)

    def descriptor(self, digest: str) -> Descriptor | None:
        """Return the descriptor of an index or manifest that is here."""
        try:
            found = self._content.descriptor(digest)
        except BlobNotFound:
            return None
        return Descriptor(media_type=found.media_type, digest=digest, size=found.size)

    def of_index(self, digest: str, row: IndexRow) -> list[ManifestSummary]:
        """Return the manifests of an index in its order; none when it can't be read any more."""
        try:
            index = parse_manifest(self._content.read_verified(digest))
        except (BlobNotFound, SystemFailure, InvalidDocument):
            return []
        if not isinstance(index, Index):
            return []
        members = {member.manifest: member for member in row.members}
        return [self._summary(descriptor, members.get(descriptor.digest)) for descriptor in index.manifests]

    def of_image(self, image: Image) -> list[ManifestSummary]:
        """Return the manifest that an image came or went with, as a list of one; of none for one that was made here."""
        row = self._images.get(image.id)
        descriptor = self.descriptor(row.manifest) if row is not None and row.manifest else None
        if descriptor is None:
            return []
        platform = Platform(os=image.os, architecture=image.architecture, variant=image.image_config.variant)
        return [self._summary(descriptor, Member(manifest=descriptor.digest, image=image.id, platform=platform))]

    def _summary(self, descriptor: Descriptor, member: Member | None) -> ManifestSummary:
        platform = descriptor.platform or (member.platform if member is not None else Platform())
        about = (descriptor.annotations or {}).get(ATTESTED, "")
        row = self._images.get(member.image) if member is not None and member.image else None
        stack = [self._layers[chain_id] for chain_id in row.layers if chain_id in self._layers] if row else []
        content = self._content_size(descriptor, member, stack) if member is not None else 0
        unpacked = sum(layer.size for layer in stack)
        kind = "attestation" if about else "image" if platform.os != "unknown" else "unknown"
        more: dict[str, object] = {}
        if kind == "image":
            containers = self._users.get(member.image, []) if member is not None else []
            more["image_data"] = ManifestImage(
                platform=platform, containers=containers, size=UnpackedSize(unpacked=unpacked)
            )
        elif kind == "attestation":
            more["attestation_data"] = Attestation(for_=about)
        return ManifestSummary(
            id=descriptor.digest,
            descriptor=descriptor,
            available=member is not None,
            size=ManifestSize(total=content + unpacked, content=content),
            kind=kind,
            **more,  # type: ignore[arg-type]  # of the kind's own type
        )

    def _content_size(self, descriptor: Descriptor, member: Member, stack: Sequence[LayerRow]) -> int:
        config = self._images[member.image].config if member.image in self._images else ""
        blobs = sum(found.size for digest in member.blobs if (found := self.descriptor(digest)) is not None)
        return descriptor.size + len(config.encode()) + sum(layer.blob_size for layer in stack) + blobs
