"""What a push sends: images with their manifests, and the index over them when all that it names is here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from boxship.base.errors import InvalidInput, NotFound, SystemFailure
from boxship.content import BlobNotFound, ContentStore
from boxship.images import indexes
from boxship.images.catalog import find_variant
from boxship.images.indexes import IndexRow, Member
from boxship.images.model import IMAGE, LAYER, LayerRow, decode_image, decode_layer
from boxship.images.reference import Reference, parse
from boxship.images.removal import repository_of
from boxship.registry.client.repository import Document
from boxship.spec.oci import Index, InvalidDocument, Manifest, Platform, digest_of, parse_manifest
from boxship.spec.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    FOREIGN_LAYERS,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
)
from boxship.store import ReadTransaction, Store

_MOUNTS = 3  # repositories that a layer may be mounted from, at most


class Selected(NamedTuple):
    """One image to push."""

    id: str
    config: bytes
    chain: Sequence[str]  # chain IDs, bottom first
    layers: Sequence[LayerRow]
    manifest: Document
    foreign: frozenset[str]  # digests of blobs that no registry gets
    mounts: dict[str, Sequence[str]]  # digest -> repositories of the same registry that have the blob


class Attestation(NamedTuple):
    """What is said about an image: small documents."""

    manifest: Document
    blobs: Sequence[Document]


class Cargo(NamedTuple):
    """What goes under one tag."""

    images: Sequence[Selected]  # the one that the name means first
    attestations: Sequence[Attestation]
    top: Document  # the manifest or index that the tag shall mean
    note: dict[str, Any] | None = None  # what Docker's client is told when a part goes in place of the whole


class Outgoing:
    """Looks at what is here; blocks."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content

    def select(self, name: Reference, platform: Platform | None) -> Cargo:
        """Return what a push of the tag sends: one platform's image, or the whole index if all of it is here.

        Raises NotFound in Docker's words.
        """
        with self._store.read() as transaction:
            id = transaction.lookup(IMAGE, str(name))
            if id is None:
                raise NotFound(f"tag does not exist: {name.familiar}")
            if platform is not None:
                id = find_variant(transaction, name.familiar, platform)
            found = indexes.named(transaction, str(name))
            members = {member.image: member for member in found[1].images} if found is not None else {}
            index = self._document(found[0]) if found is not None and platform is None else None
            if found is not None and index is not None:
                whole = self._whole(transaction, name, id, index, found[1])
                if whole is not None:
                    return whole
            image = self._image(transaction, name, id, members.get(id))
        return Cargo([image], (), image.manifest, None if index is None else _note(index, image.manifest))

    def _whole(
        self, transaction: ReadTransaction, name: Reference, id: str, index: Document, row: IndexRow
    ) -> Cargo | None:
        """Return the whole index, None when something that it names is not here."""
        parsed = parse_manifest(index.data, index.media_type)
        members = {member.manifest: member for member in row.members}
        images, attestations = [], []
        for descriptor in parsed.manifests if isinstance(parsed, Index) else ():
            member = members.get(descriptor.digest)
            if member is None:
                return None
            if member.image:
                image = self._image(transaction, name, member.image, member)
                if image.manifest.digest != member.manifest:
                    return None
                images.append(image)
            else:
                documents = [self._document(digest) for digest in (member.manifest, *member.blobs)]
                here = [document for document in documents if document is not None]
                if len(here) < len(documents):
                    return None
                attestations.append(Attestation(here[0], here[1:]))
        images.sort(key=lambda image: image.id != id)
        return Cargo(images, attestations, index)

    def _document(self, digest: str) -> Document | None:
        """Return a kept manifest, index or small blob; None when it is lost."""
        try:
            return Document(digest, self._content.descriptor(digest).media_type, self._content.read_verified(digest))
        except (BlobNotFound, SystemFailure):
            return None

    def _image(self, transaction: ReadTransaction, name: Reference, id: str, member: Member | None) -> Selected:
        document = transaction.get(IMAGE, id)
        if document is None:
            raise NotFound(f"tag does not exist: {name.familiar}")
        row = decode_image(document)
        layers = [_layer(transaction, chain_id) for chain_id in row.layers]
        mounts = _mounts(transaction, name, {layer.blob for layer in layers})
        config = row.config.encode()
        kept = None
        for digest in (member.manifest if member is not None else "", row.manifest):
            kept = kept or self._kept_manifest(digest, id, layers)
        manifest, foreign = kept or (_made_manifest(id, config, layers), frozenset())
        return Selected(id, config, row.layers, layers, manifest, foreign, mounts)

    def _kept_manifest(
        self, digest: str, id: str, layers: Sequence[LayerRow]
    ) -> tuple[Document, frozenset[str]] | None:
        """Return the manifest that the image came with, and its foreign blobs, if it is still true of what is here."""
        if not digest:
            return None
        try:
            data = self._content.read_verified(digest)
            manifest = parse_manifest(data)
        except (BlobNotFound, SystemFailure, InvalidDocument):
            return None
        if not isinstance(manifest, Manifest) or manifest.config.digest != id:
            return None
        if [layer.digest for layer in manifest.layers] != [row.blob for row in layers]:
            return None
        foreign = frozenset(layer.digest for layer in manifest.layers if layer.media_type in FOREIGN_LAYERS)
        media_type = manifest.media_type or self._content.descriptor(digest).media_type
        return Document(digest, media_type, data), foreign


def tags_to_push(transaction: ReadTransaction, name: Reference) -> list[str]:
    """Return the tags that a push of ``name`` means: its own, or all of the repository.

    Raises NotFound and InvalidInput in Docker's words.
    """
    if name.digest is not None:
        raise InvalidInput("cannot push a digest reference")
    if name.tag is not None:
        return [name.tag]
    names = (parse(known) for known in transaction.names(IMAGE) if repository_of(known) == name.name)
    tags = sorted(known.tag for known in names if known.tag)
    if not tags:
        raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
    return tags


def _layer(transaction: ReadTransaction, chain_id: str) -> LayerRow:
    document = transaction.get(LAYER, chain_id)
    if document is None:
        raise SystemFailure(f"layer {chain_id} is missing in the store")
    return decode_layer(document)


def _mounts(transaction: ReadTransaction, name: Reference, blobs: set[str]) -> dict[str, Sequence[str]]:
    """Return where on the same registry the blobs are: in repositories that images with them came from or went to."""
    by_image: dict[str, set[str]] = {}
    for known, id in transaction.names(IMAGE).items():
        if "@" in known:
            parsed = parse(known)
            if parsed.domain == name.domain and parsed.path != name.path:
                by_image.setdefault(id, set()).add(parsed.path)
    found: dict[str, set[str]] = {}
    for id, paths in by_image.items():
        document = transaction.get(IMAGE, id)
        for chain_id in decode_image(document).layers if document is not None else ():
            blob = _layer(transaction, chain_id).blob
            if blob in blobs:
                found.setdefault(blob, set()).update(paths)
    return {blob: sorted(paths)[:_MOUNTS] for blob, paths in found.items()}


def _made_manifest(id: str, config: bytes, layers: Sequence[LayerRow]) -> Document:
    """Return a manifest as Docker writes it; with a zstd layer an OCI one, since Docker's format knows none."""
    oci = any(row.compression == "zstd" for row in layers)
    types = (
        {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "": OCI_LAYER}
        if oci
        else {"gzip": DOCKER_LAYER_GZIP, "": DOCKER_LAYER}
    )
    media_type = OCI_MANIFEST if oci else DOCKER_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": OCI_CONFIG if oci else DOCKER_CONFIG, "size": len(config), "digest": id},
        "layers": [{"mediaType": types[row.compression], "size": row.blob_size, "digest": row.blob} for row in layers],
    }
    data = json.dumps(document, indent=3).encode()
    return Document(digest_of(data), media_type, data)


def _note(index: Document, manifest: Document) -> dict[str, Any]:
    return {
        "manifestPushedInsteadOfIndex": True,
        "originalIndex": _descriptor(index),
        "selectedManifest": _descriptor(manifest),
    }


def _descriptor(document: Document) -> dict[str, Any]:
    return {"mediaType": document.media_type, "digest": document.digest, "size": len(document.data)}
