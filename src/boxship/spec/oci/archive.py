"""What stands at the top of an image archive: Docker's manifest.json and repositories, the layout's marker."""

from __future__ import annotations

import msgspec

from boxship.spec.oci.document import InvalidDocument, convert, parse_json


class ArchiveItem(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One image of ``manifest.json``; the paths are members of the archive."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None  # bottom first


class _Layout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    image_layout_version: str


def parse_archive_manifest(data: bytes) -> list[ArchiveItem]:
    """Return the images of a ``manifest.json``. Raises InvalidDocument."""
    return convert(parse_json(data, "manifest.json"), list[ArchiveItem], "manifest.json")


def parse_repositories(data: bytes) -> dict[str, dict[str, str]]:
    """Return repository -> tag -> layer id of a ``repositories`` file. Raises InvalidDocument."""
    return convert(parse_json(data, "repositories"), dict[str, dict[str, str]], "repositories")


def parse_layout(data: bytes) -> None:
    """Check an ``oci-layout`` file (image-spec, image-layout.md). Raises InvalidDocument."""
    layout = convert(parse_json(data, "oci-layout"), _Layout, "oci-layout")
    if layout.image_layout_version != "1.0.0":
        raise InvalidDocument(f"unsupported OCI image layout version {layout.image_layout_version!r}")
