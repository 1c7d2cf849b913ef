"""Image documents (Engine API, tag Image)."""

from __future__ import annotations

import msgspec
from msgspec import field

from boxship.spec.docker.container import ContainerConfig, GraphDriver
from boxship.spec.oci import Descriptor, Platform


class RootFS(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    type: str = "layers"
    layers: list[str] | None = None  # diff IDs, bottom first


class ImageMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    last_tag_time: str = "0001-01-01T00:00:00Z"


class ManifestSize(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    total: int = 0  # content and unpacked layers
    content: int = 0  # blobs that are here


class UnpackedSize(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    unpacked: int = 0


class ManifestImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    platform: Platform
    containers: list[str] = []  # ids
    size: UnpackedSize = UnpackedSize()


class Attestation(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    for_: str = field(name="For")  # digest of the manifest that it is about


class AttestationStatement(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of GET /images/{name}/attestations; ``statement`` is in-toto's document, as it was attached."""

    descriptor: Descriptor
    predicate_type: str
    statement: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ManifestSummary(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One manifest of an image (since API 1.47)."""

    id: str = field(name="ID")  # its digest
    descriptor: Descriptor
    available: bool
    size: ManifestSize
    kind: str  # image, attestation or unknown
    image_data: ManifestImage | msgspec.UnsetType = msgspec.UNSET
    attestation_data: Attestation | msgspec.UnsetType = msgspec.UNSET


class ImageInspect(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Answer of GET /images/{name}/json."""

    id: str
    repo_tags: list[str] = []
    repo_digests: list[str] = []
    parent: str = ""
    comment: str = ""
    created: str = ""
    docker_version: str = ""
    author: str = ""
    config: ContainerConfig
    architecture: str = ""
    variant: str | msgspec.UnsetType = msgspec.UNSET
    os: str = ""
    os_version: str | msgspec.UnsetType = msgspec.UNSET
    size: int = 0
    virtual_size: int | msgspec.UnsetType = msgspec.UNSET  # dropped from API 1.44 on
    graph_driver: GraphDriver
    root_fs: RootFS = field(name="RootFS")
    metadata: ImageMetadata
    descriptor: Descriptor | msgspec.UnsetType = msgspec.UNSET  # of the index, with images of several platforms
    manifests: list[ManifestSummary] | msgspec.UnsetType = msgspec.UNSET


class ImageSummary(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of GET /images/json; ``created`` is in Unix seconds, -1 means "not counted"."""

    id: str
    parent_id: str = ""
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int
    shared_size: int = -1
    virtual_size: int | msgspec.UnsetType = msgspec.UNSET
    labels: dict[str, str] | None = None
    containers: int = -1
    descriptor: Descriptor | msgspec.UnsetType = msgspec.UNSET
    manifests: list[ManifestSummary] | msgspec.UnsetType = msgspec.UNSET


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One row of GET /images/{name}/history, newest first."""

    id: str
    created: int
    created_by: str
    tags: list[str] | None = None
    size: int = 0
    comment: str = ""


class DeleteItem(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One line of an image removal: exactly one of the two is set."""

    untagged: str | msgspec.UnsetType = msgspec.UNSET
    deleted: str | msgspec.UnsetType = msgspec.UNSET
