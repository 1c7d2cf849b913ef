"""Manifests as a registry sees them: what they refer to, what has to be there, how they are listed as referrers. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from boxship.registry.server.errors import RegistryError
from boxship.spec.oci.descriptor import Descriptor
from boxship.spec.oci.document import InvalidDocument, convert, parse_json
from boxship.spec.oci.manifest import DOCKER_INDEX, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST

# Layers that stay where their URLs point (image-spec, layer.md, "Non-Distributable Layers").
NON_DISTRIBUTABLE = frozenset(
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    )
)


class _Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields that matter of a manifest or index (image-spec, manifest.md and image-index.md)."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Reference(NamedTuple):
    """A descriptor in a manifest."""

    kind: str  # "blob" or "manifest"
    digest: str
    size: int  # bytes
    required: bool  # has to be there before the manifest


class Document(NamedTuple):
    """A checked manifest or index."""

    media_type: str
    references: list[Reference]
    subject: str  # digest, "" without
    artifact_type: str  # as the referrers API lists it
    annotations: dict[str, str]


def read_manifest(data: bytes, media_type: str, *, whole_indexes: bool = True) -> Document:
    """Check a manifest that was sent as ``media_type`` ("" when the client did not say).

    ``whole_indexes`` asks for all manifests of an index, as most clients do. Raises RegistryError MANIFEST_INVALID.
    """
    try:
        return _read(data, media_type.partition(";")[0].strip(), whole_indexes)
    except InvalidDocument as exc:
        raise RegistryError("MANIFEST_INVALID", str(exc)) from exc


def _read(data: bytes, sent_as: str, whole_indexes: bool) -> Document:
    value = parse_json(data, "manifest")
    if not isinstance(value, dict):
        raise InvalidDocument("invalid manifest: not an object")
    if value.get("schemaVersion") != 2 or "fsLayers" in value:
        raise InvalidDocument("invalid manifest: only schema version 2 is supported")
    found = convert(value, _Manifest, "manifest")
    several = found.manifests is not None
    if several and (found.layers is not None or found.config is not None):
        raise InvalidDocument("invalid manifest: both 'manifests' and 'config' or 'layers' are present")
    if not several and (found.config is None or found.layers is None):
        raise InvalidDocument("invalid manifest: neither 'manifests' nor 'config' and 'layers' are present")
    media_type = _agreed_type(sent_as, found.media_type, several)
    references: dict[str, Reference] = {}
    if found.manifests is not None:
        for item in found.manifests:
            references[item.digest] = Reference("manifest", item.digest, item.size, whole_indexes)
    else:
        assert found.config is not None and found.layers is not None
        for item in (found.config, *found.layers):
            required = item.media_type not in NON_DISTRIBUTABLE
            references[item.digest] = Reference("blob", item.digest, item.size, required)
    config_type = found.config.media_type if found.config is not None else ""
    return Document(
        media_type,
        list(references.values()),
        found.subject.digest if found.subject is not None else "",
        found.artifact_type or config_type,
        found.annotations or {},
    )


def _agreed_type(sent_as: str, stated: str, several: bool) -> str:
    """Return the one media type that header and document agree on."""
    if sent_as and stated and sent_as != stated:
        raise InvalidDocument(f"invalid manifest: media type is {stated!r}, sent as {sent_as!r}")
    media_type = sent_as or stated or (OCI_INDEX if several else OCI_MANIFEST)
    if media_type not in (INDEXES if several else MANIFESTS):
        raise InvalidDocument(f"invalid manifest: unexpected media type {media_type!r}")
    return media_type


def is_index(media_type: str) -> bool:
    """Return whether the document lists manifests."""
    return media_type in (OCI_INDEX, DOCKER_INDEX)
