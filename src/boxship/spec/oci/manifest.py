"""Manifests and indexes, of OCI and of Docker's registry format (image-spec, manifest.md and image-index.md)."""

from __future__ import annotations

import msgspec

from boxship.spec.oci.descriptor import Descriptor
from boxship.spec.oci.document import InvalidDocument, convert, parse_json

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"

MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((OCI_INDEX, DOCKER_INDEX))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))
FOREIGN_LAYERS = frozenset(
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
)
LAYERS = frozenset((OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD))


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One image: its config and its layers, bottom first."""

    schema_version: int
    media_type: str = ""
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Several manifests: the platforms of an image, or the images of a layout."""

    schema_version: int
    media_type: str = ""
    manifests: list[Descriptor]
    annotations: dict[str, str] | None = None


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | Index:
    """Return the manifest or index in ``data``, which was announced as ``media_type`` ("": not announced).

    Raises InvalidDocument when the document could be read as both (CVE-2021-41190), when its own ``mediaType`` is not
    the announced one, or when it has another schema version than 2.
    """
    value = parse_json(data, "manifest")
    if not isinstance(value, dict):
        raise InvalidDocument("invalid manifest: not an object")
    if value.get("schemaVersion") != 2:
        raise InvalidDocument(f"invalid manifest: unsupported schema version {value.get('schemaVersion')!r}")
    single, several = "layers" in value or "config" in value, "manifests" in value
    if single and several:
        raise InvalidDocument("invalid manifest: both 'manifests' and 'config' or 'layers' are present")
    if "fsLayers" in value:
        raise InvalidDocument("invalid manifest: unexpected 'fsLayers' beside schema version 2")
    stated = value.get("mediaType", "")
    if stated and media_type and stated != media_type:
        raise InvalidDocument(f"invalid manifest: media type is {stated!r}, announced as {media_type!r}")
    expected = INDEXES if several else MANIFESTS
    for name in (stated, media_type):
        if name and name not in expected:
            raise InvalidDocument(f"invalid manifest: unexpected media type {name!r}")
    if several:
        return convert(value, Index, "index")
    return convert(value, Manifest, "manifest")
